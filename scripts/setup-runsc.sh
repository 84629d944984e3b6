#!/usr/bin/env bash
# Finds a runsc new enough for OmniBase, or fetches Debian 13's package into the
# user's data directory. Prints the path of the binary. Idempotent, and safe to
# run twice at once.
#
# apt downloads and verifies the package, from the archives that the machine's
# own sources name and with a private state, so that no host is named here and
# neither the system's packages nor its apt state are touched.
set -euo pipefail
export LC_ALL=C
umask 022

minimum=20240729
suite=trixie
debian_releases='bullseye bookworm trixie forky duke oldoldstable oldstable stable testing unstable sid'
install_page='https://gvisor.dev/docs/user_guide/install/'
advice="install gVisor $minimum or newer from $install_page, or set RUNSC to its path"

say() { printf 'setup-runsc: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

home=${HOME:-$(getent passwd "$(id -u)" 2>/dev/null | cut -d: -f6)}
data_home=${XDG_DATA_HOME:-}
# The XDG specification says to ignore a relative path.
[[ $data_home == /* ]] || data_home="${home:+$home/.local/share}"
data_dir=${OMNIBASE_DATA_DIR:-${data_home:+$data_home/omnibase}}
[ -n "$data_dir" ] || die "no home directory; set OMNIBASE_DATA_DIR to a directory for the runtime"
[[ $data_dir == /* ]] || data_dir="$PWD/$data_dir"
target="$data_dir/bin/runsc"

# Prints the eight-digit date of `runsc version 0.0~20240729.0` (Debian's) or
# `runsc version release-20240729.0` (gVisor's), or fails.
date_of() {
  local text
  text=$(timeout 20 "$1" --version 2>/dev/null </dev/null) || return 1
  [[ $text =~ ^runsc\ version\ [^0-9]*([0-9.]+~)?([0-9]{8})($|[^0-9]) ]] || return 1
  printf '%s\n' "${BASH_REMATCH[2]}"
}
new_enough() {
  local found
  [ -f "$1" ] && [ -x "$1" ] && found=$(date_of "$1") && [ "$found" -ge "$minimum" ]
}

if [ -n "${RUNSC:-}" ]; then
  chosen=$(command -v -- "$RUNSC") && new_enough "$chosen" ||
    die "RUNSC=$RUNSC is not a runsc of $minimum or newer; $advice"
  printf '%s\n' "$chosen"
  exit 0
fi
find_one() {
  local candidate
  for candidate in "$target" "$(type -P runsc || true)"; do
    if [ -n "$candidate" ] && new_enough "$candidate"; then
      printf '%s\n' "$candidate"
      return 0
    fi
  done
  return 1
}
if find_one; then exit 0; fi

for tool in apt-get dpkg-deb; do
  command -v "$tool" >/dev/null || die "no runsc of $minimum or newer on this machine; $advice"
done
mkdir -p "$data_dir/bin" || die "cannot write to $data_dir; set OMNIBASE_DATA_DIR to a directory that is yours"

# One download at a time; whoever waited finds it done. Without flock both
# download, and the rename below still leaves one whole binary.
if command -v flock >/dev/null; then
  exec 9>"$data_dir/.setup-runsc.lock"
  flock -w 900 9 || die "another set-up has held $data_dir/.setup-runsc.lock for 15 minutes"
  if find_one; then exit 0; fi
fi

work=$(mktemp -d "$data_dir/.setup-runsc.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
mkdir -p "$work"/{state/lists/partial,cache/archives/partial,sources.d}
: >"$work/state/status"
: >"$work/sources.list"

# Proxy, credentials and trust stay the machine's. Pins, hooks and a default
# release are for its packages, not for this file; unsigned is never accepted.
cat >"$work/apt.conf" <<CONF
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Default-Release;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
Dir::State "$work/state";
Dir::State::status "$work/state/status";
Dir::Cache "$work/cache";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
APT::Sandbox::User "root";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::Retries "3";
Acquire::Languages "none";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
CONF
private=(-q --config-file "$work/apt.conf")

# apt itself reads its sources, in whichever of their formats.
apt-get "${private[@]}" indextargets --no-release-info \
  --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' \
  >"$work/targets" 2>"$work/log" || { cat "$work/log" >&2; die "apt cannot read its sources; $advice"; }
archives=()
while read -r release component uri; do
  # Base suites only: an archive of updates or security fixes alone has no other.
  [[ " $debian_releases " == *" $release "* && $component == main && $uri != cdrom:* ]] || continue
  [[ " ${archives[*]-} " == *" $uri "* ]] || archives+=("$uri")
done <"$work/targets"
[ "${#archives[@]}" -gt 0 ] || die "no Debian archive among apt's sources; $advice"

signed_by=''
for keyring in /usr/share/keyrings/debian-archive-keyring.{pgp,gpg}; do
  if [ -r "$keyring" ]; then
    signed_by="[signed-by=$keyring] "
    break
  fi
done

say "fetching Debian's runsc package ($suite), verified by apt"
private+=(-o "Dir::Etc::SourceList=$work/sources.list" -o "Dir::Etc::SourceParts=$work/sources.d")
package=''
for uri in "${archives[@]}"; do
  printf 'deb %s%s %s main\n' "$signed_by" "$uri" "$suite" >"$work/sources.list"
  if (cd "$work" && apt-get "${private[@]}" update && apt-get "${private[@]}" download runsc) >>"$work/log" 2>&1; then
    package=$(find "$work" -maxdepth 1 -name 'runsc_*.deb' -print -quit)
    [ -z "$package" ] || break
  fi
done
[ -n "$package" ] || {
  cat "$work/log" >&2
  die "apt could not download runsc for $(dpkg --print-architecture 2>/dev/null || uname -m); $advice"
}

dpkg-deb --extract "$package" "$work/tree"
new_enough "$work/tree/usr/bin/runsc" ||
  die "the package's runsc does not run here, or is older than $minimum; is $data_dir mounted noexec?"
chmod 0755 "$work/tree/usr/bin/runsc"
# The same file system, so that the rename is atomic.
mv -f "$work/tree/usr/bin/runsc" "$target"
say "installed $target ($(date_of "$target"))"
printf '%s\n' "$target"

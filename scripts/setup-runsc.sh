#!/usr/bin/env bash
# Finds a runsc new enough for OmniBase, or fetches Debian 13's package into the
# user's data directory. Prints the path of the binary. Idempotent.
#
# The download uses apt's own signature check, with a private apt configuration
# derived from the machine's existing sources (the suite replaced), so that no
# host is named here and the system's packages and apt state stay untouched.
set -euo pipefail

minimum=20240729
suite=trixie
install_page='https://gvisor.dev/docs/user_guide/install/'
data_dir="${OMNIBASE_DATA_DIR:-${XDG_DATA_HOME:-$HOME/.local/share}/omnibase}"
target="$data_dir/bin/runsc"

say() { printf 'setup-runsc: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# Prints the eight-digit date in `runsc --version`, or nothing.
date_of() {
  "$1" --version 2>/dev/null | sed -n 's/^runsc version .*\([0-9]\{8\}\)\(\.[0-9]*\)\{0,1\}.*$/\1/p' | head -n 1
}
new_enough() {
  local found
  [ -x "$1" ] || return 1
  found=$(date_of "$1")
  [ -n "$found" ] && [ "$found" -ge "$minimum" ]
}

if [ -n "${RUNSC:-}" ]; then
  new_enough "$RUNSC" || die "RUNSC=$RUNSC is not a runsc of $minimum or newer; see $install_page"
  printf '%s\n' "$RUNSC"
  exit 0
fi
for candidate in "$target" "$(command -v runsc || true)"; do
  if [ -n "$candidate" ] && new_enough "$candidate"; then
    printf '%s\n' "$candidate"
    exit 0
  fi
done

command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
  die "no runsc of $minimum or newer found; install gVisor from $install_page, or set RUNSC"
[ -r /etc/apt/sources.list ] || [ -d /etc/apt/sources.list.d ] ||
  die "no apt sources to derive from; install gVisor from $install_page, or set RUNSC"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{etc,state/lists/partial,cache/archives/partial}
: >"$work/state/status"

# A Debian 12 machine's own archive, asked for the next suite. Updates and
# security suites are left out: the base suite is enough and always there.
{
  for file in /etc/apt/sources.list.d/*.sources; do
    [ -e "$file" ] || continue
    awk -v suite="$suite" '
      BEGIN { RS = ""; ORS = "\n\n" }
      /(^|\n)Suites:[^\n]*(bookworm|bullseye|trixie|stable)/ &&
      !/(^|\n)Suites:[ \t]*[a-z]*-security/ && !/(^|\n)Enabled:[ \t]*no/ {
        gsub(/Suites:[^\n]*/, "Suites: " suite)
        gsub(/Components:[^\n]*/, "Components: main")
        print
      }' "$file"
  done
} >"$work/etc/sources.sources"
{
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ -e "$file" ] || continue
    awk -v suite="$suite" '
      $1 == "deb" {
        for (i = 2; i <= NF; i++) if ($i ~ /^(bookworm|bullseye|trixie|stable)$/) {
          $i = suite; line = ""
          for (j = 1; j <= i; j++) line = line $j " "
          print line "main"; break
        }
      }' "$file"
  done
} >"$work/etc/sources.list"
[ -s "$work/etc/sources.sources" ] || [ -s "$work/etc/sources.list" ] ||
  die "no Debian source among apt's; install gVisor from $install_page, or set RUNSC"
mkdir "$work/etc/sources.list.d"
mv "$work/etc/sources.sources" "$work/etc/sources.list.d/"

# The machine's own settings (proxy, credentials, trust) stay in force: only the
# sources and the state move.
apt=(apt-get -q -o "Dir::Etc::SourceList=$work/etc/sources.list"
  -o "Dir::Etc::SourceParts=$work/etc/sources.list.d"
  -o "Dir::State=$work/state" -o "Dir::State::status=$work/state/status"
  -o "Dir::Cache=$work/cache" -o "APT::Sandbox::User=root"
  -o "APT::Update::Post-Invoke::=" -o "Acquire::Languages=none"
  -o "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false")
say "fetching Debian's runsc package ($suite), verified by apt"
"${apt[@]}" update >"$work/log" 2>&1 || { cat "$work/log" >&2; die "apt could not read the $suite index"; }
(cd "$work" && "${apt[@]}" download runsc >>"$work/log" 2>&1) ||
  { cat "$work/log" >&2; die "apt could not download runsc; install gVisor from $install_page, or set RUNSC"; }
dpkg-deb --extract "$work"/runsc_*.deb "$work/tree"
new_enough "$work/tree/usr/bin/runsc" || die "the package's runsc is older than $minimum or does not run here"

# Rename is atomic: two set-ups at once leave one whole binary.
mkdir -p "$data_dir/bin"
install -m 0755 "$work/tree/usr/bin/runsc" "$target.$$"
mv -f "$target.$$" "$target"
say "installed $target ($(date_of "$target"))"
printf '%s\n' "$target"

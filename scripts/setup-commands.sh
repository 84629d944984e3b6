#!/usr/bin/env bash
# Finds the commands that the tests grant to a sandbox or that the documentation uses,
# or installs Debian's packages by apt. Idempotent.
set -euo pipefail
export LC_ALL=C

commands=(git curl systemd-analyze)
declare -A package=([systemd-analyze]=systemd)
advice="install ${commands[*]}"

say() { printf 'setup-commands: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

missing=()
for command in "${commands[@]}"; do
  [ -n "$(PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin command -v "$command")" ] ||
    missing+=("${package[$command]:-$command}")
done
[ ${#missing[@]} -gt 0 ] || exit 0

command -v apt-get >/dev/null || die "no ${missing[*]} on this machine; $advice"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  sudo -n true 2>/dev/null || die "no ${missing[*]} on this machine, and no right to install it; $advice"
  as_root=(sudo -n)
fi
say "installing ${missing[*]} by apt"
install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600)
"${install[@]}" update >&2 || say "apt-get update failed; trying with the lists that are there"
"${install[@]}" install --no-install-recommends --yes "${missing[@]}" >&2 </dev/null || die "apt cannot install it; $advice"

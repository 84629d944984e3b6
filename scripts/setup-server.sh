#!/usr/bin/env bash
# setup-server.sh NAME VARIABLE PROGRAM PACKAGE
#
# Finds a server's program, or installs Debian's package by apt. Prints the program's
# path. Idempotent. No server is left running: the tests start one of their own.
set -euo pipefail
export LC_ALL=C PATH="$PATH:/usr/sbin"

name=$1 variable=$2 program=$3 package=$4
advice="install $name's server, or set $variable to the program"

say() { printf 'setup-server: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

if [ -n "${!variable:-}" ]; then
  [ -x "${!variable}" ] || die "$variable=${!variable} is no program; $advice"
  printf '%s\n' "${!variable}"
  exit 0
fi
if command -v "$program"; then exit 0; fi

command -v apt-get >/dev/null || die "no $name server on this machine; $advice"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  sudo -n true 2>/dev/null || die "no $name server on this machine, and no right to install one; $advice"
  as_root=(sudo -n)
fi

# The package would start a service; a policy keeps it from that, and goes again
# unless there was one before.
policy=/usr/sbin/policy-rc.d
made=
if [ ! -e "$policy" ]; then
  made=yes
  printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
  "${as_root[@]}" chmod 755 "$policy"
  trap '[ -z "$made" ] || "${as_root[@]}" rm -f "$policy"' EXIT
fi
say "installing $package by apt"
install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600)
"${install[@]}" update >&2 || say "apt-get update failed; trying with the lists that are there"
"${install[@]}" install --no-install-recommends --yes "$package" >&2 </dev/null || die "apt cannot install it; $advice"
"${as_root[@]}" systemctl disable --quiet "$package" >&2 2>/dev/null || true # nor at boot
command -v "$program" || die "apt installed $package, and it is not found; $advice"

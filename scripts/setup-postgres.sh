#!/usr/bin/env bash
# Finds the programs of a PostgreSQL server, or installs Debian's package by apt.
# Prints the directory of `initdb` and `postgres`. Idempotent. No server is left
# running: the tests start one of their own.
set -euo pipefail
export LC_ALL=C

advice="install PostgreSQL's server, or set OMNIBASE_POSTGRES_BIN to the directory of initdb"

say() { printf 'setup-postgres: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

complete() { [ -x "$1/initdb" ] && [ -x "$1/postgres" ]; }

find_one() {
  local program folder
  if program=$(command -v initdb) && program=$(readlink -f -- "$program"); then
    folder=$(dirname -- "$program")
    if complete "$folder"; then
      printf '%s\n' "$folder"
      return 0
    fi
  fi
  while IFS= read -r folder; do
    if complete "$folder"; then
      printf '%s\n' "$folder"
      return 0
    fi
  done < <(printf '%s\n' /usr/lib/postgresql/*/bin | sort -t/ -k5,5nr)
  return 1
}

if [ -n "${OMNIBASE_POSTGRES_BIN:-}" ]; then
  complete "$OMNIBASE_POSTGRES_BIN" ||
    die "OMNIBASE_POSTGRES_BIN=$OMNIBASE_POSTGRES_BIN has no initdb and postgres; $advice"
  printf '%s\n' "$OMNIBASE_POSTGRES_BIN"
  exit 0
fi
if find_one; then exit 0; fi

command -v apt-get >/dev/null || die "no PostgreSQL server on this machine; $advice"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  sudo -n true 2>/dev/null || die "no PostgreSQL server on this machine, and no right to install one; $advice"
  as_root=(sudo -n)
fi

# The package would make a cluster and start it; a drop-in keeps it from that, and
# goes again unless it was there before.
config=/etc/postgresql-common/createcluster.d/omnibase-none.conf
made=
if [ ! -e "$config" ]; then
  made=yes
  "${as_root[@]}" mkdir -p "${config%/*}"
  printf 'create_main_cluster = false\n' | "${as_root[@]}" tee "$config" >/dev/null
  trap '[ -z "$made" ] || "${as_root[@]}" rm -f "$config"' EXIT
fi
say "installing postgresql by apt"
install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600)
"${install[@]}" update >&2 || say "apt-get update failed; trying with the lists that are there"
"${install[@]}" install --no-install-recommends --yes postgresql >&2 </dev/null || die "apt cannot install it; $advice"
find_one || die "apt installed postgresql, and there is still no initdb; $advice"

#!/usr/bin/env bash
# Finds Mermaid's browser bundle, or fetches the npm package and keeps the bundle in
# the user's data directory. Prints the path of the bundle. Idempotent.
#
# The site draws its diagrams with this copy: a reader's browser asks no other host.
set -euo pipefail
export LC_ALL=C
umask 022

version=11.17.2 # mkdocs-material is made for Mermaid 11
sha256=581ed7d74bd9048d0e3a91363927d72ef22942d7722546b27f7cc29e35390eb8
advice="install npm, or set OMNIBASE_MERMAID to the \`dist/mermaid.min.js\` of the npm package mermaid $version"

say() { printf 'setup-mermaid: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

if [ -n "${OMNIBASE_MERMAID:-}" ]; then
  [ -f "$OMNIBASE_MERMAID" ] || die "OMNIBASE_MERMAID=$OMNIBASE_MERMAID is no file; $advice"
  printf '%s\n' "$OMNIBASE_MERMAID"
  exit 0
fi
data_dir=${OMNIBASE_DATA_DIR:-${XDG_DATA_HOME:-${HOME:?"no home directory; set OMNIBASE_DATA_DIR"}/.local/share}/omnibase}
target="$data_dir/mermaid-$version.min.js"
holds() { printf '%s  %s\n' "$sha256" "$1" | sha256sum --check --status 2>/dev/null; }
if holds "$target"; then printf '%s\n' "$target"; exit 0; fi

command -v npm >/dev/null || die "Mermaid is not there and npm neither; $advice"
mkdir -p "$data_dir"
work=$(mktemp -d "$data_dir/.mermaid-XXXXXX")
trap 'rm -rf "$work"' EXIT
say "fetching mermaid $version by npm"
npm pack --silent --pack-destination "$work" "mermaid@$version" >/dev/null </dev/null || die "npm cannot fetch it; $advice"
tar -xzf "$work/mermaid-$version.tgz" -C "$work" --no-same-owner package/dist/mermaid.min.js
holds "$work/package/dist/mermaid.min.js" || die "what npm fetched is not mermaid $version: its SHA-256 differs"
mv -f "$work/package/dist/mermaid.min.js" "$target"
printf '%s\n' "$target"

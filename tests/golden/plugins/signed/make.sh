#!/usr/bin/env bash
# Two keys of minisign without passwords, and what the first of them signed. The secret keys are thrown away; plugin.wasm is a
# converter that converts nothing, in WebAssembly by hand (tests/plugins/guest.rs).
set -euo pipefail
cd "$(dirname "$0")"
secret=$(mktemp -d)
trap 'rm -rf "$secret"' EXIT
minisign -G -W -f -p author.pub -s "$secret/author"
minisign -G -W -f -p somebody.pub -s "$secret/somebody"
minisign -S -s "$secret/author" -m plugin.wasm -x plugin.wasm.minisig -t "plugin 1.0"

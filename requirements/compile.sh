#!/usr/bin/env bash
# Compiles the locks: exact versions with hashes, and no index address (the reader's own configuration decides where packages come from).
set -euo pipefail
uv=$1
cd "$(dirname "$0")/.."
compile() { "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make lock" "$@"; }
compile pyproject.toml --extra sidecar -o requirements/sidecar.txt
compile pyproject.toml --extra all -o requirements/all.txt
compile pyproject.toml --all-extras --group dev -o requirements/dev.txt
echo "uv" | compile - -o requirements/bootstrap.txt

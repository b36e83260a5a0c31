#!/usr/bin/env bash
# `make hashes`: writes hashes/ again, after a version in requirements*.txt or constraints.txt has changed. uv asks the
# package index for the hash of every file of each version, so that they are right for every platform and Python.
# torch is left out: its builds for CPUs and for CUDA have the same version.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --disable-pip-version-check --quiet uv==0.13.9
grep -v '^torch==' requirements.txt > "$work/python.in"
cat constraints.txt >> "$work/python.in"
mkdir -p hashes
for name in python jazzy kilted; do
    wanted=$work/python.in
    [ "$name" = python ] || wanted=requirements-$name.txt
    {
        echo "# Made by tools/hashes.sh (make hashes). Do not edit."
        # What a package brings along is listed too, so nothing is resolved; each file of a version is in it.
        "$work/venv/bin/uv" --no-config pip compile --quiet --no-header --no-annotate --no-deps --generate-hashes \
            --universal --python-version 3.11 "$wanted"
    } > "$work/$name.txt"
    mv "$work/$name.txt" "hashes/$name.txt"
done

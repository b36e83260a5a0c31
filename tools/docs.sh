#!/usr/bin/env bash
# `make docs`: builds the site in build/docs/ with requirements-docs.txt in .venv-docs/. Does not need `make build`.
# The separate environment keeps the generator's packages out of the one that runs the node.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

wanted=$PWD$'\n'$(sha256sum < requirements-docs.txt)
if [ "$(cat .venv-docs/complete 2> /dev/null)" != "$wanted" ]; then
    echo 'Installing the documentation generator into .venv-docs/ ...'
    rm -rf .venv-docs
    mkdir -p log
    if ! { "${PYTHON:-python3}" -I -m venv .venv-docs && PIP_USER=0 .venv-docs/bin/python -I -m pip install \
            --disable-pip-version-check --retries 2 -r requirements-docs.txt; } > log/pip-docs.log 2>&1; then
        grep -v '^WARNING' log/pip-docs.log | tail -n 8 >&2
        echo 'vit_tactile_ros: could not install the documentation generator; is there a network? (log/pip-docs.log)' >&2
        exit 1
    fi
    printf '%s' "$wanted" > .venv-docs/complete
fi
# --keep-going: all warnings, not only the first; -E: also of unchanged pages.
.venv-docs/bin/python -m sphinx --quiet --fail-on-warning --keep-going --nitpicky -E \
    -d build/docs-cache docs build/docs
echo "The documentation is in build/docs/index.html"

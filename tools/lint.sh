#!/usr/bin/env bash
# `make lint`: ruff, mypy and the layer rule. All three run; it fails if one of them fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. ./env.sh

wanted=$(sha256sum < requirements-dev.txt)
if [ "$(cat .venv/complete-dev 2> /dev/null)" != "$wanted" ]; then
    echo 'Installing ruff and mypy into .venv/ ...'
    if ! PIP_USER=0 python -m pip install --disable-pip-version-check --retries 2 -r requirements-dev.txt -c constraints.txt > log/pip-dev.log 2>&1; then
        grep -v '^WARNING' log/pip-dev.log | tail -n 8 >&2
        echo 'vit_tactile_ros: pip could not install ruff and mypy; is there a network? (log/pip-dev.log)' >&2
        exit 1
    fi
    echo "$wanted" > .venv/complete-dev
fi

status=0
python -m ruff check . || status=1
python -m mypy vit_tactile_ros || status=1
python -m pytest -q test/test_layers.py || status=1
exit $status

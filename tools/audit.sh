#!/usr/bin/env bash
# `make audit`: known vulnerabilities of the packages in hashes/ and of torch. Needs a network; does not need `make build`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --disable-pip-version-check --quiet pip-audit==2.10.1 || {
    echo 'make audit: pip-audit could not be installed; is there a network?' >&2
    exit 1
}
{
    grep '^torch==' requirements.txt
    grep -h '==' hashes/python.txt hashes/jazzy.txt hashes/kilted.txt | sed 's/ *\\$//'
} > "$work/pinned.txt"
status=0
"$work/venv/bin/pip-audit" --disable-pip --no-deps --progress-spinner off -r "$work/pinned.txt" \
    > "$work/out" 2> "$work/log" || status=$?
left_out=$(grep -c 'could not be audited' "$work/out" || true)
grep -v 'could not be audited' "$work/out" || true
tail -n 3 "$work/log" >&2
pinned=$(wc -l < "$work/pinned.txt")
echo "make audit: $((pinned - left_out)) of $pinned packages were checked; the list of vulnerabilities does not have the others"
if [ "$((2 * left_out))" -gt "$pinned" ]; then
    echo 'make audit: most packages were not checked: this index, or a mirror of it, has no list of vulnerabilities' >&2
    exit 1
fi
if grep -qiE 'ConnectionError|Max retries|timed out|503|403|ServiceError' "$work/log"; then
    echo 'make audit: the list of vulnerabilities could not be read; nothing was checked' >&2
fi
exit $status

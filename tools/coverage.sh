#!/usr/bin/env bash
# `make coverage`: the tests with branch coverage of the package, nodes and other processes included. TESTS='test/model' runs
# some, KEEP=1 adds to what earlier runs found. Writes build/coverage/report.txt (every file, with the lines and branches that
# are not covered) and prints the table of docs/results/coverage.md. Tests that measure time may fail: traced Python is
# slower, so a test may also take half an hour before its process is ended, which would lose what that has executed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. ./env.sh
mkdir -p build/coverage
# fork, _exit: tests fork nodes from a process that has imported them, and end them by os._exit; so does Ctrl-C in a command
cat > build/coverage/rc <<RC
[run]
branch = true
parallel = true
sigterm = true
patch =
    subprocess
    fork
    _exit
data_file = $PWD/build/coverage/data
source_pkgs = vit_tactile_ros
omit = */vit_tactile_ros/msg/*
[paths]
source =
    vit_tactile_ros
    */site-packages/vit_tactile_ros
[report]
show_missing = true
skip_covered = true
skip_empty = true
RC
[ "${KEEP:-0}" = 1 ] || rm -f build/coverage/data*
export COVERAGE_RCFILE=$PWD/build/coverage/rc
status=0
python -m coverage run -m pytest -q -p no:cacheprovider -o faulthandler_timeout=1800 --dist loadfile -n "${WORKERS:-2}" "${@:-test}" || status=$?
python -m coverage combine --append --quiet
python -m coverage report > build/coverage/report.txt
python -m coverage json --quiet -o build/coverage/coverage.json
python tools/coverage_table.py build/coverage/coverage.json
exit $status

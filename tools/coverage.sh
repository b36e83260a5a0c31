#!/usr/bin/env bash
# `make coverage`: the tests with branch coverage of the package, nodes and other processes included. TESTS='test/model' runs
# some. Writes build/coverage/report.txt (every file, with the lines and branches that are not covered) and prints the total.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. ./env.sh
mkdir -p build/coverage
cat > build/coverage/rc <<RC
[run]
branch = true
parallel = true
sigterm = true
patch = subprocess
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
exclude_also =
    if TYPE_CHECKING:
    @abstractmethod
    if __name__ == .__main__.:
    raise NotImplementedError
RC
rm -f build/coverage/data*
export COVERAGE_RCFILE=$PWD/build/coverage/rc
status=0
python -m coverage run -m pytest -q -p no:cacheprovider "${@:-test}" || status=$?
python -m coverage combine --quiet
python -m coverage report > build/coverage/report.txt
python -m coverage json --quiet -o build/coverage/coverage.json
tail -n 1 build/coverage/report.txt
exit $status

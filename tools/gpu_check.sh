#!/usr/bin/env bash
# Everything that needs a GPU, in less than 8 minutes: tools/gpu_check.py in an environment that has torch for CUDA.
#   tools/gpu_check.sh                  on a machine where `make build` installs torch for CUDA
#   WHEELS=folder tools/gpu_check.sh    on a machine without a network whose python3 has torch for CUDA: uses that torch,
#                                       and installs what is missing from the wheels in this folder
# Arguments go to tools/gpu_check.py. The exit status is 0 if every part passed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ -n "${WHEELS:-}" ]; then
    packages=$(python3 -c 'import pathlib, torch; print(pathlib.Path(torch.__file__).parents[1])') || exit 2
    PATH=$PATH:$(dirname "$(command -v python3)")
    # Its own environment, since the wheels of ROS need their start-up file, which only a site-packages folder runs.
    python3 -m venv --without-pip .venv || exit 2
    site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    echo "import site; site.addsitedir('$packages')" > "$site/torch_of_python3.pth"  # also runs its start-up files
    python3 -m pip --python .venv/bin/python install --quiet --no-index --no-deps --no-compile "$WHEELS"/*.whl || exit 2
    echo jazzy > .venv/ros_distro
    touch .venv/by_hand
fi
if tools/build.sh; then
    . ./env.sh
    exec python tools/gpu_check.py "$@"
fi
# Without the built package, all but the node can still be checked.
PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} exec "$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)" tools/gpu_check.py "$@"

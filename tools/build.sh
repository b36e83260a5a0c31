#!/usr/bin/env bash
# `make build`: .venv/ with the pinned requirements, then colcon into build/ and install/. Only does missing steps.
#   PYTHON=/path/to/python3.12   the Python to use instead of the first suitable one in PATH
#   VIT_ROS_DISTRO=kilted        the ROS 2 distribution (make ROS_DISTRO=...); default: that of .venv/, otherwise jazzy
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD

fail() {
    echo "vit_tactile_ros: $*" >&2
    exit 1
}

distro=${VIT_ROS_DISTRO:-$(cat .venv/ros_distro 2> /dev/null || echo jazzy)}
case $distro in  # the wheels of each distribution exist for these Python versions
    jazzy) versions='3.11 3.12' versions_text='Python 3.11 or 3.12' ;;
    kilted) versions='3.11 3.12 3.13 3.14' versions_text='Python 3.11, 3.12, 3.13 or 3.14' ;;
    *) fail "ROS_DISTRO=$distro: the package index has jazzy and kilted; install any other distribution yourself (README, With ROS 2)" ;;
esac

# Two builds at once (make test in two terminals) run one after the other.
mkdir -p build log
if command -v flock > /dev/null; then
    exec 9> build/.lock
    flock 9
fi

# Prints "status<TAB>version<TAB>real executable" of the Python $1; nothing if it does not run (for instance a pyenv shim).
look_at_python() {
    "$1" -I - "$versions" 2> /dev/null <<'PYTHON' || true
import importlib.util, os, sys, sysconfig
missing = [f'python{sys.version_info[0]}.{sys.version_info[1]}-{package}' for package, there in (
    ('venv', importlib.util.find_spec('venv') and importlib.util.find_spec('ensurepip')),
    ('dev', os.path.isfile(os.path.join(sysconfig.get_path('include'), 'Python.h')))) if not there]
fit = '%d.%d' % sys.version_info[:2] in sys.argv[1].split()
status = 'version' if not fit else ' '.join(missing) or 'fit'
print(status, sys.version.split()[0], getattr(sys, '_base_executable', None) or sys.executable, sep='\t')
PYTHON
}

# Sets $python to the first Python of $versions, or exits with a message that names the packages to install.
find_python() {
    local candidates candidate status version executable others='' incomplete='' newest=${versions##* }
    if [ -n "${PYTHON:-}" ]; then
        candidates=$PYTHON
    else
        candidates=$(type -aP python3 $(printf 'python%s\n' $versions | sort -rV) python || true)
    fi
    while IFS= read -r candidate; do
        IFS=$'\t' read -r status version executable < <(look_at_python "$candidate") || continue
        case $status in
            fit) python=$executable; return ;;
            version) [[ $others == *"$version"* ]] || others+="${others:+, }$version" ;;
            *) incomplete=${incomplete:-"Python $version ($executable) lacks packages that Debian and Ubuntu ship separately: sudo apt install $status"} ;;
        esac
    done <<< "$candidates"
    if [ -n "$incomplete" ]; then
        fail "$incomplete"
    elif [ -n "${PYTHON:-}" ]; then
        fail "PYTHON=$PYTHON is ${others:+Python $others, }not a working $versions_text"
    fi
    fail "needs $versions_text, found ${others:-none}: sudo apt install python$newest-venv python$newest-dev (or an older one), or make PYTHON=/path/to/python$newest"
}

check_compiler() {
    local compiler found
    for compiler in "${CC:-cc gcc clang}" "${CXX:-c++ g++ clang++}"; do
        found=
        for compiler in $compiler; do
            ! command -v "$compiler" > /dev/null || found=yes
        done
        [ -n "$found" ] || fail "needs a C and C++ compiler: sudo apt install build-essential"
    done
}

# PIP_USER=0: pip refuses PIP_USER=1 in a virtual environment.
pip_install() {
    PIP_USER=0 .venv/bin/python -I -m pip install --disable-pip-version-check --retries 2 --progress-bar off "$@"
}

make_venv() {
    local wanted=$1 count start=$SECONDS
    # Only a complete environment made in this folder is updated in place; others are made again.
    if [ "$(head -n 1 .venv/complete 2> /dev/null)" != "$root" ] || [ ! -x .venv/bin/python ] \
            || [ "$(cat .venv/ros_distro 2> /dev/null || echo jazzy)" != "$distro" ]; then
        find_python
        rm -rf .venv
        "$python" -I -m venv .venv > log/venv.log 2>&1 || {
            tail -n 5 log/venv.log >&2
            fail "could not make .venv/ with $python (log/venv.log)"
        }
    fi
    rm -f .venv/complete
    echo "$distro" > .venv/ros_distro
    count=$(grep -hc '==' requirements.txt "requirements-$distro.txt" constraints.txt | paste -sd+ | { read -r sum; echo $((sum)); })
    echo "Installing $count packages into .venv/ (about 2 minutes the first time, more if torch includes CUDA) ..."
    # First what hashes/ has, each file with its hash; then torch, whose builds differ from index to index.
    if ! { pip_install --require-hashes --no-deps -r hashes/python.txt -r "hashes/$distro.txt" \
            && pip_install -r requirements.txt -r "requirements-$distro.txt" -c constraints.txt; } > log/pip.log 2>&1; then
        if grep -q 'DO NOT MATCH THE HASHES' log/pip.log; then
            grep -A 8 'DO NOT MATCH THE HASHES' log/pip.log >&2
            fail "a package is not the file that hashes/ has: the index is damaged or was tampered with, or offers other builds (log/pip.log)"
        elif grep -qiE 'No space left on device' log/pip.log; then
            fail "the disk is full: .venv/ takes about 3 GB, several more if torch includes CUDA"
        elif grep -qE 'NewConnectionError|NameResolutionError|ConnectTimeout|ProxyError|Network is unreachable|name resolution|SSLError|ReadTimeout' log/pip.log; then
            fail "no network: pip cannot reach the package index; connect (or set https_proxy, or PIP_INDEX_URL to a mirror) and run make again (log/pip.log)"
        fi
        grep -v '^WARNING' log/pip.log | tail -n 12 >&2
        fail "pip could not install the requirements (log/pip.log)"
    fi
    printf '%s\n%s\n' "$root" "$wanted" > .venv/complete
    echo "  done in $((SECONDS - start)) s"
}

run_colcon() {
    local wanted=$1 start=$SECONDS
    # CMake's cache contains the paths of its folder and Python.
    [ "$(head -n 1 build/complete 2> /dev/null)" = "$venv_id" ] || rm -rf build/vit_tactile_ros install
    rm -f build/complete
    echo 'Building the package (colcon) ...'
    _vit_stage=build
    . ./env.sh
    # COLCON_DEFAULTS_FILE: env.sh does not support defaults of the user such as --merge-install.
    if ! COLCON_DEFAULTS_FILE=$root/build/no_defaults.yaml colcon --log-base log build \
            --base-paths . --build-base build --install-base install --symlink-install \
            --cmake-args -G Ninja -DCMAKE_BUILD_TYPE=Release -DBUILD_TESTING=OFF \
            "-DPython3_EXECUTABLE=$root/.venv/bin/python" > log/colcon.log 2>&1; then
        tail -n 30 log/colcon.log >&2
        fail "colcon could not build the package (log/colcon.log)"
    fi
    # colcon leaves the links to files that were moved or deleted, and such modules would still be listed.
    find install -xtype l -delete
    find install -type d -empty -delete
    printf '%s\n%s\n' "$venv_id" "$wanted" > build/complete
    echo "  done in $((SECONDS - start)) s"
}

check_compiler
wanted=$(cat requirements.txt "requirements-$distro.txt" constraints.txt hashes/python.txt "hashes/$distro.txt" | sha256sum)
# .venv/by_hand: somebody else installs into it (tools/gpu_check.sh)
[ -e .venv/by_hand ] || { [ "$(cat .venv/complete 2> /dev/null)" = "$root"$'\n'"$wanted" ] && [ -x .venv/bin/python ]; } || make_venv "$wanted"

# Python, launch and YAML files are linked into install/: an added or removed file needs colcon, an edited one does not.
venv_id="$root $distro $(stat -c %i .venv)"
wanted=$({
    find vit_tactile_ros launch config models -name __pycache__ -prune -o -type f -print 2> /dev/null | LC_ALL=C sort
    cat CMakeLists.txt package.xml msg/*.msg
} | sha256sum)
[ "$(cat build/complete 2> /dev/null)" = "$venv_id"$'\n'"$wanted" ] && [ -f install/local_setup.sh ] || run_colcon "$wanted"

# . ./env.sh      sets up this shell (bash, zsh, or sh from this folder) for what `make build` made: the virtual
# environment, ROS 2 from its wheels, and this package. A sourced ROS installation and PYTHONPATH are removed because they
# would conflict; ROS_DOMAIN_ID and similar settings are kept. Sourcing it twice is fine.

if [ -n "${ZSH_VERSION:-}" ]; then
    eval '_vit_root=${(%):-%x}'
    _vit_root=$(CDPATH= cd -- "$(dirname -- "$_vit_root")" && pwd)
elif [ -n "${BASH_VERSION:-}" ]; then
    _vit_root=$(CDPATH= cd -- "$(dirname -- "${BASH_SOURCE}")" && pwd)
else
    _vit_root=$(pwd)  # in a plain sh, a sourced file cannot find its own path
fi

# Prints the colon-separated list $1 without the entries at or below one of the folders of the list $2.
_vit_without() {
    _vit_kept=
    _vit_list=$1:
    while [ -n "$_vit_list" ]; do
        _vit_entry=${_vit_list%%:*}
        _vit_list=${_vit_list#*:}
        _vit_folders=$2:
        while [ -n "$_vit_folders" ]; do
            _vit_folder=${_vit_folders%%:*}
            _vit_folders=${_vit_folders#*:}
            [ -n "$_vit_folder" ] || continue
            case $_vit_entry/ in "$_vit_folder"/*) _vit_entry= ;; esac
        done
        [ -z "$_vit_entry" ] || _vit_kept=${_vit_kept:+$_vit_kept:}$_vit_entry
    done
    printf '%s\n' "$_vit_kept"
}

if [ ! -f "$_vit_root/vit_tactile_ros/__init__.py" ]; then
    echo 'env.sh: in a plain sh, cd to the folder of env.sh first and run `. ./env.sh`, or use bash or zsh' >&2
    _vit_status=1
elif [ ! -f "$_vit_root/.venv/bin/activate" ]; then
    echo "env.sh: nothing is built yet: run \`make build\` in $_vit_root" >&2
    _vit_status=1
elif [ ! -f "$_vit_root/install/local_setup.sh" ] && [ "${_vit_stage:-}" != build ]; then
    echo "env.sh: the build is not finished: run \`make build\` in $_vit_root" >&2
    _vit_status=1
else
    _vit_status=0
    . "$_vit_root/.venv/bin/activate"
    _vit_old=/opt/ros:${AMENT_PREFIX_PATH:-}:$_vit_root/.venv:$_vit_root/install
    PATH=$_vit_root/.venv/bin:$(_vit_without "$PATH" "$_vit_old")
    LD_LIBRARY_PATH=$(_vit_without "${LD_LIBRARY_PATH:-}" "$_vit_old")
    AMENT_PREFIX_PATH=$_vit_root/.venv
    ROS_VERSION=2 ROS_PYTHON_VERSION=3
    ROS_DISTRO=$(cat "$_vit_root/.venv/ros_distro" 2> /dev/null || echo jazzy)
    # Without it, `python -m` in this folder would import the checkout's package, which has no generated messages.
    PYTHONSAFEPATH=1
    # The last one marks that the wheels have set LD_LIBRARY_PATH; an inherited value is wrong here.
    unset PYTHONPATH PYTHONHOME COLCON_PREFIX_PATH RMW_IMPLEMENTATION _ROS_WHEELS_BOOTSTRAP_COMPLETE
    # As colcon's install/local_setup.* for one package; those files fail in a folder with a space in its name.
    if [ "${_vit_stage:-}" != build ]; then
        _vit_prefix=$_vit_root/install/vit_tactile_ros
        AMENT_PREFIX_PATH=$_vit_prefix:$AMENT_PREFIX_PATH
        PATH=$_vit_prefix/bin:$PATH
        LD_LIBRARY_PATH=$_vit_prefix/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
        PYTHONPATH=$(cd "$_vit_prefix"/lib/python3.*/site-packages && pwd)
        COLCON_PREFIX_PATH=$_vit_root/install
        export PYTHONPATH COLCON_PREFIX_PATH
    fi
    CMAKE_PREFIX_PATH=$AMENT_PREFIX_PATH
    export PATH LD_LIBRARY_PATH AMENT_PREFIX_PATH CMAKE_PREFIX_PATH PYTHONSAFEPATH
    export ROS_VERSION ROS_PYTHON_VERSION ROS_DISTRO
    [ -n "$LD_LIBRARY_PATH" ] || unset LD_LIBRARY_PATH
fi
unset -f _vit_without
unset _vit_root _vit_kept _vit_list _vit_entry _vit_folders _vit_folder _vit_old _vit_prefix _vit_stage
eval "unset _vit_status; return $_vit_status"

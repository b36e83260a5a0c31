#!/usr/bin/env bash
# Entry point of the Docker image: runs a command with ROS and, once it is built, this package sourced.
set -e
source "/opt/ros/$ROS_DISTRO/setup.bash"
if [ -f /ws/install/setup.bash ]; then
    source /ws/install/setup.bash
fi
exec "$@"

#!/usr/bin/env bash
# Entry point of the Docker image: sources ROS and, if it is built, this package, then runs a command.
set -e
source "/opt/ros/$ROS_DISTRO/setup.bash"
if [ -f /ws/install/setup.bash ]; then
    source /ws/install/setup.bash
fi
exec "$@"

# vit_tactile_ros on the official ROS 2 images:
#   docker build -t vit_tactile_ros .                                  (--build-arg ROS_DISTRO=lyrical for another one)
#   docker run --rm --network host --ipc host vit_tactile_ros          classify the images of a driver on this host
#   docker run --rm -e DEMO_SECONDS=20 vit_tactile_ros python3 -m vit_tactile_ros.demo
# Without a GPU, --build-arg PIP_EXTRA_INDEX_URL=... with the index of CPU builds from PyTorch's site saves several GB.
ARG ROS_DISTRO=jazzy
FROM ros:${ROS_DISTRO}-ros-base AS dependencies
SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# rosdep installs the system packages of package.xml; pip (below) installs Python packages without a rosdep key.
COPY package.xml /ws/src/vit_tactile_ros/package.xml
# No versions of system packages: the package sources have only the newest one.
# hadolint ignore=DL3008
RUN echo 'APT::Install-Recommends "false";' > /etc/apt/apt.conf.d/90no-recommends \
    && apt-get update \
    && apt-get install -y --no-install-recommends procps python3-venv \
    && rosdep install -y --rosdistro "$ROS_DISTRO" --from-paths /ws/src --ignore-src \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -o ubuntu -g ubuntu /opt/venv \
    && chown -R ubuntu:ubuntu /ws

# The user with ID 1000 of the Ubuntu images: on most hosts, a mounted checkout has the same owner.
USER 1000:1000
COPY requirements-ros.txt /tmp/requirements-ros.txt
ARG PIP_EXTRA_INDEX_URL
RUN python3 -m venv --system-site-packages /opt/venv \
    && /opt/venv/bin/python -m pip install --no-cache-dir -r /tmp/requirements-ros.txt
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /ws
COPY --chmod=755 tools/docker_entrypoint.sh /docker_entrypoint.sh
ENTRYPOINT ["/docker_entrypoint.sh"]
CMD ["bash"]

FROM dependencies AS runtime
COPY --chown=ubuntu:ubuntu . /ws/src/vit_tactile_ros
RUN . "/opt/ros/$ROS_DISTRO/setup.bash" \
    && colcon build --packages-select vit_tactile_ros --cmake-args -DCMAKE_BUILD_TYPE=Release -DBUILD_TESTING=OFF \
    && rm -rf build log
CMD ["ros2", "launch", "vit_tactile_ros", "tactile.launch.py"]

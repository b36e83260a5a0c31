"""Early-exit Performer ViT for camera-based touch sensors, with a live ROS 2 node."""

from vit_tactile_ros.foundation import interrupt

__version__ = '0.2.0'

interrupt.install_if_command()  # here, since `python -m vit_tactile_ros.train` imports this before anything else

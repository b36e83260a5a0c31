"""Early-exit Performer ViT for camera-based touch sensors, with a live ROS 2 node."""

__version__ = '0.2.0'

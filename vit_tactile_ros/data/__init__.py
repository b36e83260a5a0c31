"""Where images come from offline: the tactile simulator and datasets. Imports no ROS client."""

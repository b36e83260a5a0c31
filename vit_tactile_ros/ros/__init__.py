"""ROS 2 nodes. Only this folder and the command demo import rclpy and generated messages."""

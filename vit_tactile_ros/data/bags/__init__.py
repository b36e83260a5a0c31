"""Bags (ROS 1 and ROS 2) read without ROS: one reader, whole or damaged, and the labels and touches in them."""

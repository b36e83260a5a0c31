"""Datasets for training and evaluation. Imports no ROS client."""

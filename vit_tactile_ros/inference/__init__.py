"""From an image to a decision: decode, preprocess, staged runtime, decision. Imports no ROS client."""

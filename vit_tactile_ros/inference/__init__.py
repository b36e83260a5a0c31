"""From an image to a decision: decode, preprocess, staged runtime, decision. Imports no ROS client.

Import from the modules: what only decodes (the simulated sensor, the demo) must not wait for torch.
"""

"""A simulated sensor fitted to real presses of a ball."""

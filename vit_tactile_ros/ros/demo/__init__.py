"""The demo: simulated sensors, the classifier and a terminal view."""

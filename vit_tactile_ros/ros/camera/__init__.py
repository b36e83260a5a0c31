"""A camera with a gel: profiles of sensors, USB devices, images of devices, videos and folders, reconnecting."""

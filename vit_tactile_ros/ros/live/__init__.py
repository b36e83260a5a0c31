"""Commands that run the real node: replay over DDS, latency."""

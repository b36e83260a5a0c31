"""What the benchmark times, and against what."""

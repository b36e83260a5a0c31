"""The real node, run beside a command."""

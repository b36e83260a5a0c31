"""What every layer may use: the base of user errors, files that are written whole, strict JSON. Standard library only."""

"""Used by every layer: user errors, atomic writes, strict JSON, the frame of a command; standard library only."""

"""Used by every layer: user errors, atomic writes, strict JSON, the start and end of commands; standard library only."""

"""Used by every layer: user errors, atomic writes, strict JSON, start and end of commands; standard library only."""

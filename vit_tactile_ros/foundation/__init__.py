"""What every layer may use: the base of user errors, files written whole, strict JSON; standard library only."""

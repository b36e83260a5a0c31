"""The fault suite: each row is a fault that a running node must survive; `tools/soak.py` runs all, `make test` some."""

"""Engines that run the stages of a network, one per file; `select.make_runtime` chooses one."""

"""What runs the stages of a network, one engine per file; `select.make_runtime` chooses one."""

"""Engines that run the stages of a network, one per file; `select.make_runtime` chooses one."""

import sys

# Importing openvino reports it to Google Analytics from a fork of the process, which is ended by SIGTERM after 3 s
# without a reply. The fork of a node shares the node's pipe for signals, so the node stopped, too. None: no report.
sys.modules.setdefault('openvino_telemetry', None)  # type: ignore[arg-type]

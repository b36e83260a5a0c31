"""What every test needs before it starts."""

from __future__ import annotations

import os
import signal

from ros_domain import claimed_domain

# A shell starts its background jobs with SIGINT ignored, and child processes inherit that: tests of Ctrl-C would wait
# for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Processes that test side by side (pytest -n) would otherwise start a thread per core each, and wait for one another.
if 'PYTEST_XDIST_WORKER' in os.environ:
    os.environ.setdefault('OMP_NUM_THREADS', '1')

os.environ['ROS_DOMAIN_ID'] = claimed_domain()
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'

# No test takes the engine that an earlier run has measured, or leaves a choice in the user's cache folder.
os.environ['VIT_TACTILE_CACHE'] = ''

# Without a GPU, Triton's kernels run in its interpreter, on CPU tensors. It reads this when it is imported.
import torch  # noqa: E402

if not torch.cuda.is_available():
    os.environ['TRITON_INTERPRET'] = '1'

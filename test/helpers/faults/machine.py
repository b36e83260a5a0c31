"""Faults of the machine and of the process: full disks, no memory, no handles, a lost GPU, killed, stopped."""

from __future__ import annotations

import contextlib
import itertools
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from live_nodes import NodeProcess
from std_srvs.srv import Trigger

from faults.bench import Bench, FaultError
from faults.scene import message
from faults.suite import fault
from vit_tactile_ros.msg import TactileClassification


@contextlib.contextmanager
def _limit(bench: Bench, kind: int, value: int) -> Iterator[None]:
    soft, hard = resource.prlimit(bench.process_id, kind)
    resource.prlimit(bench.process_id, kind, (value, hard))
    try:
        yield
    finally:
        if bench.is_alive:
            resource.prlimit(bench.process_id, kind, (soft, hard))


@fault('No more file handles: the checkpoint is reloaded, and a listener comes and goes.', 'not reloaded', '',
       short=True)
def file_handles_exhausted(bench: Bench) -> str:
    used = {int(path.name) for path in Path(f'/proc/{bench.process_id}/fd').iterdir()}
    # The limit is of the number of a handle, and the lowest that is free is given next.
    with _limit(bench, resource.RLIMIT_NOFILE, next(number for number in itertools.count() if number not in used)):
        response = bench.client.call(Trigger, '/tactile_classifier/reload_checkpoint', Trigger.Request())
        listener = bench.client.create_subscription(TactileClassification, '/tactile', lambda _: None, 10)
        bench.play(bench.good(30))
        bench.client.destroy_subscription(listener)
    if not response.success:
        bench.reload_after_failure()
    return 'loads it' if response.success else 'keeps the network that runs'


@fault('No more memory: 3840x2160 images come, and the checkpoint is reloaded.', '', '', own=True, soon=6.0,
       more_memory=400.0)
def memory_exhausted(bench: Bench) -> str:
    large = message(np.random.default_rng(0).integers(0, 256, (2160, 3840, 3), np.uint8))
    used = int(Path(f'/proc/{bench.process_id}/statm').read_text().split()[0]) * os.sysconf('SC_PAGESIZE')
    response = None
    with _limit(bench, resource.RLIMIT_AS, used + 8 * 2**20):
        mark = bench.mark()
        for _ in range(3):
            bench.play([*bench.good(3), large], is_heard=False)
        time.sleep(1.0)  # for it to end
        if bench.is_alive:
            with contextlib.suppress(AssertionError):  # it ended before the response; without memory, requests are lost
                response = bench.client.call(Trigger, '/tactile_classifier/reload_checkpoint', Trigger.Request(),
                                             is_repeatable=True)
    if response is None:
        return _is_started_again(bench)
    if not any(word in line for line in bench.log_since(mark) for word in ('internal error', 'not reloaded')):
        raise FaultError('there was no memory, and the log does not say so')
    bench.play(bench.good(10))
    if not response.success:
        bench.reload_after_failure()
    return 'loads the checkpoint' if response.success else 'does not load the checkpoint'


def _is_started_again(bench: Bench) -> str:
    """After the C or C++ code of ROS has ended the process: what the launch file does."""
    status = bench.node.wait_for_end()
    if status not in (-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS):
        raise FaultError(f'ended with {status}: {bench.node.output[-300:]}')
    bench.start()
    return f'ends by {signal.Signals(-status).name} in the code of ROS, and launch starts another'


@fault('The disk is full when the reference is written to reference_store.', 'could not write', '', own=True,
       soon=6.0)
def disk_full(bench: Bench) -> str:
    bench.stop()
    store = bench.folder / 'store'
    store.mkdir(exist_ok=True)
    bench.start(reference_store=store)
    bench.play(bench.good(150))
    with _limit(bench, resource.RLIMIT_FSIZE, 64 * 2**10):
        bench.go_to('inactive')
    left = [path.name for path in store.iterdir()]
    bench.go_to('active')
    if left:
        raise FaultError(f'{left} are in the folder')
    return 'keeps the reference in memory, and leaves no part of a file'


@fault('The disk is full for the log: nothing can be written to stdout and stderr.', None, None, own=True)
def log_on_a_full_disk(bench: Bench) -> None:
    bench.stop()
    bench.start(python=('bash', '-c', 'exec "$0" "$@" > /dev/full 2>&1', sys.executable), wait=False)
    bench.settle()


@fault('The home folder is read-only, so that ROS cannot write its log.', None, None, own=True)
def read_only_home(bench: Bench) -> str:
    bench.stop()
    home = {'HOME': '/proc/1', 'ROS_LOG_DIR': '', 'ROS_HOME': ''}
    node = bench.start(environment=home, wait=False)
    status = node.wait_for_end()
    if status != 2 or 'ROS_LOG_DIR' not in node.output or 'Traceback' in node.output:
        raise FaultError(f'ended with {status}: {node.output[-300:]}')
    bench.start(environment=home | {'ROS_LOG_DIR': str(bench.folder / 'log')})
    return 'ends with status 2 and names ROS_LOG_DIR; with that it works'


@fault('There is no shared memory: Fast DDS uses UDP only.', None, None, own=True)
def no_shared_memory(bench: Bench) -> None:
    bench.stop()
    bench.start(environment={'FASTDDS_BUILTIN_TRANSPORTS': 'UDPv4'})


# The process


@fault('The process is killed with SIGKILL, and launch starts another.', None, '', own=True)
def killed(bench: Bench) -> None:
    bench.play(bench.good(5))
    os.kill(bench.process_id, signal.SIGKILL)
    bench.node.wait_for_end()
    bench.start()


@fault('The process is stopped for 2 s with SIGSTOP while images come, and continued.', '', '')
def stopped_and_continued(bench: Bench) -> None:
    os.kill(bench.process_id, signal.SIGSTOP)
    try:
        bench.play(bench.good(120))
    finally:
        os.kill(bench.process_id, signal.SIGCONT)


@fault('A second node of the same name is started, and ended again.', 'nodes are called', 'nodes are called',
       own=True)
def two_nodes_of_one_name(bench: Bench) -> None:
    other = NodeProcess('classifier_node', bench.folder, '-p', f'checkpoint:={bench.checkpoint}', '-p', 'threads:=1',
                        '-p', 'engine:=torch', '-r', '/image_raw:=/other', '-r', '/tactile:=/other_tactile')
    try:
        other.wait_for_output('active, waiting for images')
        mark = bench.mark()
        bench.wait_for(lambda: bench.log_since(mark), 'nodes are called', 5.0)
    finally:
        other.stop()
    end = time.monotonic() + 30.0
    while bench.diagnostics_since(bench.mark()._replace(diagnostics=len(bench.client.diagnostics) - 2)):
        bench.play(bench.good(6))
        if time.monotonic() > end:
            raise FaultError('/diagnostics has the other node 30 s after its end')


@fault('The camera has published for seconds before the node starts.', None, None, own=True)
def late_discovery(bench: Bench) -> None:
    bench.camera()
    bench.stop()
    node = bench.start(wait=False)
    while 'active, waiting for images' not in node.output:
        bench.play(bench.good(6), is_heard=False)
        if not bench.is_alive:
            raise FaultError(node.output[-300:])
    bench.settle()


SLEEPER = """
import os, rclpy, signal
from vit_tactile_ros.msg import TactileClassification
rclpy.init()
node = rclpy.create_node('sleeper')
node.create_subscription(TactileClassification, '/tactile', lambda _: None, 10)
while not node.count_publishers('/tactile'):
    rclpy.spin_once(node, timeout_sec=0.1)
rclpy.spin_once(node, timeout_sec=1.0)
print('stopped', flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
"""


@fault('A reliable subscriber of the results never reads them: its process is stopped.', None, None)
def subscriber_that_never_reads(bench: Bench) -> None:
    sleeper = subprocess.Popen([sys.executable, '-c', SLEEPER], stdout=subprocess.PIPE, text=True)
    try:
        while not _has_printed(sleeper):
            bench.play(bench.good(6))
        sleeper.stdout.readline()
        bench.play(bench.good(120))
    finally:
        sleeper.kill()
        sleeper.wait()
        sleeper.stdout.close()


def _has_printed(process: subprocess.Popen) -> bool:
    return bool(select.select([process.stdout], [], [], 0)[0]) or process.poll() is not None


# The engine: parts of the node are replaced by ones that fail, in the process of the node

_FAIL = """
import os, traceback
from vit_tactile_ros.ros import watchdog
from vit_tactile_ros.ros.worker import ClassificationWorker
flag = {flag!r}
classify, notify, left = TactileClassifier.classify, ClassificationWorker.notify, [0]
watchdog.GIVE_UP = 4.0
def failing(self, *arguments):
    if os.path.exists(flag):  # in it are the code of the fault and how often it occurs
        times, _, action = open(flag).read().partition(' ')
        if left[0] < int(times):
            left[0] += 1
            scope = dict(classify=lambda: classify(self, *arguments))
            exec(action, scope)
            if 'result' in scope:
                return scope['result']
    else:
        left[0] = 0
    return classify(self, *arguments)
def deaf(self):
    if not os.path.exists(flag + '.deaf') or 'watchdog' in ''.join(traceback.format_stack(limit=3)):
        notify(self)
TactileClassifier.classify, ClassificationWorker.notify = failing, deaf
"""


def _start_patched(bench: Bench) -> None:
    bench.stop()
    bench.start(patch=_FAIL.format(flag=str(bench.folder / 'fault')))


@contextlib.contextmanager
def _patched(bench: Bench, action: str, times: int) -> Iterator[None]:
    """The fault, at most `times` times, for the block. Its node stays for the next row."""
    flag = bench.folder / 'fault'
    if not bench.is_alive or not bench.is_patched:
        _start_patched(bench)
    written = flag.with_suffix('.new')
    written.write_text(f'{times} {action}')
    written.rename(flag)
    try:
        yield
    finally:
        flag.unlink(missing_ok=True)


def _engine_fails(bench: Bench, action: str, times: int = 10) -> None:
    with _patched(bench, action, times):
        for _ in range(times):
            bench.play(bench.good(6, is_touched=True), rate=30.0)
        time.sleep(0.3)
    bench.play(bench.good(2, is_touched=True))


for _name, _what, _action, _log, _diagnostics in (
    ('GPU out of memory', 'The GPU has no memory for ten batches (raised in the engine).',
     'import torch; raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")',
     'CUDA out of memory', 'ERROR: .*internal error'),
    ('engine raises', 'The engine raises an exception ten times.', 'raise RuntimeError("the engine is broken")',
     'the engine is broken', 'ERROR: .*internal error'),
    ('engine exits', 'A library calls exit twice.', 'raise SystemExit("exit of a library")', 'exit of a library',
     'ERROR: .*internal error'),
):
    fault(_what, _log, _diagnostics, own=True, name=_name, action=_action, times=2 if 'exit' in _name else 10)(
        _engine_fails)


@fault('The output of the network is NaN for ten batches.', 'is not finite', 'ERROR: .*not finite', own=True)
def output_is_nan(bench: Bench) -> None:
    _engine_fails(bench, 'import dataclasses; nan = float("nan"); result = [dataclasses.replace(d, confidence=nan, '
                         'probabilities=d.probabilities * nan) for d in classify()]')


@fault('One probability is NaN, and the class of the highest is not.', 'is not finite', 'ERROR: .*not finite', own=True)
def one_probability_is_nan(bench: Bench) -> None:
    _engine_fails(bench, 'result = classify(); [d.probabilities.__setitem__(3, float("nan")) for d in result]')


def _ends(bench: Bench, action: str, reason: str, limit: float = 30.0) -> str:
    with _patched(bench, action, 10**6):
        node, end = bench.node, time.monotonic() + limit
        while bench.is_alive:
            if time.monotonic() > end:
                raise FaultError('the node lives on, mute')
            bench.play(bench.good(1, is_touched=True), is_heard=False)
            time.sleep(1 / 60)
    status, text = node.process.returncode, node.output
    if status != 1 or reason not in text:
        raise FaultError(f'ended with {status}: {text[-300:]}')
    _start_patched(bench)
    return 'ends with status 1, so that launch starts another; the log of the first names the reason'


@fault('The GPU is lost: CUDA raises the same error for every batch.', None, '', own=True)
def GPU_is_lost(bench: Bench) -> str:
    return _ends(bench, 'raise RuntimeError("CUDA error: unspecified launch failure")', 'unspecified launch failure')


@fault('The engine hangs for 2.5 s in one batch.', 'has not returned from a batch', 'ERROR: .*has not returned',
       own=True)
def engine_hangs_for_a_moment(bench: Bench) -> None:
    with _patched(bench, 'import time; time.sleep(2.5)', 1):
        bench.play(bench.good(170, is_touched=True))


@fault('The engine hangs for ever; the limit of 30 s is set to 4 s here.', None, '', own=True)
def engine_hangs_for_ever(bench: Bench) -> str:
    return _ends(bench, 'import time; time.sleep(1000.0)', 'has not returned from a batch')


@fault('The engine hangs for 9 s, and the node is deactivated during that.', '', '', own=True, soon=6.0)
def deactivated_while_the_engine_hangs(bench: Bench) -> str:
    with _patched(bench, 'import time; time.sleep(9.0)', 1):
        bench.play(bench.good(30, is_touched=True))
        node = bench.node
        bench.client.change_state('deactivate')
        node.wait_for_end()
    if node.process.returncode != 1:
        raise FaultError(f'ended with {node.process.returncode}: {node.output[-300:]}')
    _start_patched(bench)
    return 'ends with status 1 after 5 s, so that launch starts another'


@fault('The thread that classifies is not woken for new images.', 'it was woken', 'ERROR: .*it was woken', own=True,
       soon=4.0)
def worker_is_not_woken(bench: Bench) -> None:
    with _patched(bench, 'pass', 0):
        flag = bench.folder / 'fault.deaf'
        flag.touch()
        try:
            mark = bench.mark()
            bench.play(bench.good(3))
            bench.wait_for(lambda: bench.diagnostics_since(mark), 'it was woken', 4.0)
        finally:
            flag.unlink()

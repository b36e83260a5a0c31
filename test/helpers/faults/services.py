"""Faults of requests: services at the wrong moment, checkpoints that change under the node, lifecycle in any order."""

from __future__ import annotations

import os
import random
import threading

import torch
from lifecycle_msgs.msg import Transition
from std_srvs.srv import SetBool, Trigger

from faults.bench import Bench, FaultError
from faults.suite import fault
from vit_tactile_ros.model import Checkpoint, ModelConfig, PreprocessingConfig, ViTTactile, save_checkpoint

_NODE = '/tactile_classifier'


def _enable(bench: Bench, value: bool) -> None:
    bench.client.call(SetBool, f'{_NODE}/enable', SetBool.Request(data=value), is_repeatable=True)


def _reload(bench: Bench) -> Trigger.Response:
    return bench.client.call(Trigger, f'{_NODE}/reload_checkpoint', Trigger.Request())


def _with_camera(bench: Bench, action) -> object:
    """`action` while images arrive."""
    done, result = threading.Event(), []

    def act() -> None:
        try:
            result.append(action())
        except BaseException as error:
            result.append(error)
        done.set()
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    while not done.is_set():
        bench.play(bench.good(4), is_heard=False)
    thread.join()
    if isinstance(result[0], BaseException):
        raise result[0]
    return result[0]


@fault('`enable` is switched off and on 10 times while images arrive.', None, None, short=True)
def enable_under_load(bench: Bench) -> None:
    def switch() -> None:
        for number in range(20):
            _enable(bench, number % 2 == 1)
    _with_camera(bench, switch)


@fault('`enable` is switched off in the middle of a touch, and on later.', None, None)
def paused_in_a_touch(bench: Bench) -> None:
    bench.play(bench.good(10, is_touched=True))
    _enable(bench, False)
    bench.play(bench.good(10, is_touched=True))
    _enable(bench, True)


@fault('`capture_reference` is called while something touches.', None, None, short=True)
def captured_while_touched(bench: Bench) -> str:
    bench.play(bench.good(20, is_touched=True))
    response = bench.client.call(Trigger, f'{_NODE}/capture_reference', Trigger.Request())
    if response.success:
        raise FaultError('the touch became the reference')
    return f'refuses: {response.message.split(":")[1].strip()}'


@fault('`capture_reference` is called 20 times in a row while nothing touches.', None, None)
def captured_repeatedly(bench: Bench) -> None:
    def capture() -> None:
        for _ in range(20):
            bench.client.call(Trigger, f'{_NODE}/capture_reference', Trigger.Request(), is_repeatable=True)
    _with_camera(bench, capture)
    bench.wait_for_reference()


def _changed(bench: Bench, change) -> str:
    change(bench)
    try:
        response = _with_camera(bench, lambda: _reload(bench))
    finally:
        bench.restore_checkpoint()
    if response.success:
        raise FaultError('a broken checkpoint was loaded')
    bench.reload_after_failure()
    return 'refuses the file, and keeps the network that runs'


def _delete(bench: Bench) -> None:
    bench.checkpoint.unlink()


def _truncate(bench: Bench) -> None:
    os.truncate(bench.checkpoint, bench.checkpoint.stat().st_size // 2)


def _text(bench: Bench) -> None:
    bench.checkpoint.write_text('not a checkpoint\n')


def _flip(bench: Bench) -> None:
    with bench.checkpoint.open('r+b') as file:
        file.seek(-1000, os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 0x10]))


def _folder(bench: Bench) -> None:
    bench.checkpoint.unlink()
    bench.checkpoint.mkdir()


for _name, _what, _change, _short in (
    ('checkpoint deleted', 'The file of the checkpoint is deleted, then reloaded.', _delete, True),
    ('checkpoint truncated', 'Half of the file is missing, then it is reloaded.', _truncate, False),
    ('checkpoint is a text', 'Another program has overwritten the file, then it is reloaded.', _text, False),
    ('checkpoint with a flipped bit', 'One bit of one weight is another one, then it is reloaded.', _flip, False),
    ('checkpoint is a folder', 'A folder has taken the place of the file, then it is reloaded.', _folder, False),
):
    fault(_what, 'not reloaded', '', short=_short, soon=4.0, name=_name, change=_change)(_changed)


@fault('The file is overwritten with zeros in place, without a reload.', None, None)
def checkpoint_overwritten(bench: Bench) -> None:
    size = bench.checkpoint.stat().st_size
    with bench.checkpoint.open('r+b') as file:
        file.write(bytes(size))
    bench.play(bench.good(20))
    bench.restore_checkpoint()


@fault('A checkpoint with other classes and another input size is loaded, then the first one again.', '', '', soon=6.0,
       more_memory=150.0)
def checkpoint_swapped(bench: Bench) -> str:
    torch.manual_seed(0)
    config = ModelConfig(num_classes=3, image_size=(32, 48), width=48, depth=3, exits=(1, 2, 3), feature_map_dim=16)
    save_checkpoint(bench.checkpoint, Checkpoint(ViTTactile(config), PreprocessingConfig(
        image_size=(32, 48), reference='difference', orientation='match'), ('nothing', 'ball', 'edge')))
    there = _with_camera(bench, lambda: _reload(bench))
    bench.restore_checkpoint()
    back = _with_camera(bench, lambda: _reload(bench))
    if not (there.success and back.success):
        raise FaultError(f'{there.message}; {back.message}')
    bench.wait_for_reference()
    return 'loads both without a restart'


@fault('`reload_checkpoint` is called 6 times at once.', '', '', soon=4.0, more_memory=150.0)
def reloaded_at_once(bench: Bench) -> str:
    client = bench.client.create_client(Trigger, f'{_NODE}/reload_checkpoint')
    assert client.wait_for_service(10.0)
    futures = [client.call_async(Trigger.Request()) for _ in range(6)]
    while not all(future.done() for future in futures):
        bench.play(bench.good(4))
    bench.client.destroy_client(client)
    loaded = sum(future.result().success for future in futures)
    return f'loads it {loaded} times, and refuses the others'


@fault('60 lifecycle transitions in a random order, most of them not possible, while images arrive.', 'not possible',
       '', soon=6.0)
def random_transitions(bench: Bench) -> str:
    order = random.Random(1)
    known = [Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_CLEANUP, Transition.TRANSITION_ACTIVATE,
             Transition.TRANSITION_DEACTIVATE, 77, 0]

    def change() -> int:
        return sum(bench.client.change_state_by_id(order.choice(known)) for _ in range(60))
    done = _with_camera(bench, change)
    bench.go_to('active')
    bench.wait_for_reference()
    return f'makes {done} of 60 transitions'


@fault('Deactivated and activated 10 times while images arrive.', None, '', soon=4.0, short=True)
def restarted_under_load(bench: Bench) -> None:
    def restart() -> None:
        for _ in range(10):
            assert bench.client.change_state('deactivate') and bench.client.change_state('activate')
    _with_camera(bench, restart)


@fault('Cleaned up and configured again while images arrive.', None, '', soon=6.0)
def configured_under_load(bench: Bench) -> None:
    def restart() -> None:
        for label in ('deactivate', 'cleanup', 'configure', 'activate'):
            assert bench.client.change_state(label), label
    _with_camera(bench, restart)
    bench.wait_for_reference()


@fault('The checkpoint is deleted while the node is unconfigured; configure fails, and works once the file is back.',
       'cannot configure', '', soon=6.0)
def configured_without_checkpoint(bench: Bench) -> str:
    bench.go_to('unconfigured')
    bench.checkpoint.unlink()
    failed = not bench.client.change_state('configure')
    bench.restore_checkpoint()
    if not failed:
        raise FaultError('configured without a checkpoint')
    bench.go_to('active')
    bench.wait_for_reference()
    return 'refuses to configure, with the reason'


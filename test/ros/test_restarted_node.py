"""Which ends of a node launch answers with another start; with stand-ins for launch, which is not on the index."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType, SimpleNamespace

import pytest


class Stand:
    """An action of launch that only keeps what it was made of."""

    def __init__(self, **made_of: object) -> None:
        self.made_of = made_of


@pytest.fixture
def restarted_node(monkeypatch):
    for module, names in (('launch', ()), ('launch_ros', ()), ('launch_ros.actions', ('Node',)), ('launch.actions', (
            'OpaqueFunction', 'PopLaunchConfigurations', 'PushLaunchConfigurations', 'TimerAction'))):
        stand = ModuleType(module)
        for name in names:
            setattr(stand, name, type(name, (Stand,), {}))
        monkeypatch.setitem(sys.modules, module, stand)
    name = 'vit_tactile_ros.ros.restarted_node'
    monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module(name).restarted_node
    sys.modules.pop(name, None)


@pytest.mark.parametrize(('status', 'is_stopping', 'is_started_again'), [
    (2, False, False), (1, False, True), (-6, False, True), (1, True, False)])
def test_a_mistake_is_not_started_again(restarted_node, status, is_stopping, is_started_again):
    """With status 2, as of a wrong checkpoint, another start fails in the same way, every 2 s."""
    on_exit = restarted_node('tactile_classifier').made_of['on_exit']
    found = on_exit(SimpleNamespace(returncode=status), SimpleNamespace(is_shutdown=is_stopping))
    assert (found is not None) == is_started_again
    if found is not None:
        assert [type(action).__name__ for action in found.made_of['actions']] == [
            'PushLaunchConfigurations', 'OpaqueFunction', '_ScopedNode', 'PopLaunchConfigurations']

"""Log lines: one severity for each line of code, at most one per cause and period."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import rclpy.logging

from vit_tactile_ros.ros.throttle import ThrottledLog

ROS = Path(__file__).parents[2] / 'vit_tactile_ros' / 'ros'
SEVERITIES = {'debug', 'info', 'warn', 'warning', 'error', 'fatal'}


def test_severities_in_any_order():
    """rclpy raises at the second severity that one line of code logs with: a segmentation fault in event callbacks."""
    throttled = ThrottledLog(rclpy.logging.get_logger('severities'), period=0.0)
    for number, severity in enumerate(['warning', 'error', 'info', 'error', 'warning', 'warning_once', 'info']):
        getattr(throttled, severity)(f'cause {number}', 'text')


class Lines:
    def __init__(self):
        self.lines = []

    def info(self, text):
        self.lines.append(('info', text))

    def warning(self, text):
        self.lines.append(('warning', text))

    def error(self, text):
        self.lines.append(('error', text))


def test_one_line_per_cause_and_period():
    log = Lines()
    throttled = ThrottledLog(log, period=3600.0)
    for _ in range(3):
        throttled.warning('a', 'first')
        throttled.error('b', 'second')
        throttled.warning_once('c', 'third')
    assert log.lines == [('warning', 'first'), ('error', 'second'), ('warning', 'third')]


def test_what_was_left_out_is_counted():
    log = Lines()
    throttled = ThrottledLog(log, period=3600.0)
    for _ in range(4):
        throttled.info('a', 'text')
    throttled._last['a'] -= 3600.0
    throttled.info('a', 'text')
    assert log.lines == [('info', 'text'), ('info', 'text (3 more like it since the last line)')]


def shared_calls(source: str) -> list[int]:
    """Lines where a logger's method is used other than by calling it there and then, or with a severity that varies."""
    tree = ast.parse(source)
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            is_value = node.attr in SEVERITIES and id(node) not in called
            is_open = node.attr == 'log' and id(node) in called and 'logger' in ast.unparse(node.value)
            if is_value or is_open:
                found.append(node.lineno)
        elif (isinstance(node, ast.Call) and ast.unparse(node.func) == 'getattr'
              and 'logger' in ast.unparse(node.args[0])):
            found.append(node.lineno)
    return found


@pytest.mark.parametrize('path', sorted(ROS.rglob('*.py')), ids=lambda path: path.name)
def test_no_log_call_is_shared_by_severities(path):
    """A logger's method passed on as a value: all severities then log from the one line that calls it."""
    assert shared_calls(path.read_text()) == []


@pytest.mark.parametrize('source', ['self.throttled(self.get_logger().error, "cause", "text")',
                                    'log = self._logger.warning', 'getattr(node.get_logger(), name)("text")',
                                    'self.get_logger().log("text", severity)'])
def test_the_check_finds_shared_calls(source):
    assert shared_calls(source) == [1]

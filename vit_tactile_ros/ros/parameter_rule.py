"""One parameter of a node as a rule: name, type, range and validation. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from vit_tactile_ros.ros.start import StartError


@dataclass(frozen=True)
class ParameterRule:
    """One parameter; `check` returns what would be right when the value is wrong, else an empty string."""

    name: str
    default: Any
    description: str
    check: Callable[[Any], str]
    live: bool = False  # may change while the node is configured; the others are read at configure
    read_only: bool = False  # of a node without a lifecycle: read when it starts, and fixed from then on
    at_start: bool = False  # read once, when the process starts
    dynamic: bool = False  # takes more than one type
    float_range: tuple[float, float] | None = None
    integer_range: tuple[int, int] | None = None

    @property
    def when(self) -> str:
        """When it is read: 'start', 'configure' or 'live'."""
        return 'start' if self.read_only or self.at_start else 'live' if self.live else 'configure'

    def descriptor(self) -> ParameterDescriptor:
        when = {'live': 'Live.'}.get(self.when, f'Read at {self.when}.')
        descriptor = ParameterDescriptor(name=self.name, description=f'{self.description} {when}',
                                         dynamic_typing=self.dynamic, read_only=self.read_only)
        if self.float_range:
            low, high = self.float_range
            descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high, step=0.0)]
        if self.integer_range:
            low_int, high_int = self.integer_range
            descriptor.integer_range = [IntegerRange(from_value=low_int, to_value=high_int, step=1)]
        return descriptor


def declared_values(node: Node, rules: Iterable[ParameterRule]) -> dict[str, Any]:
    """Declare the parameters and return their values; raises StartError for the first one that is wrong."""
    values = {}
    for rule in rules:
        value = values[rule.name] = node.declare_parameter(rule.name, rule.default, rule.descriptor()).value
        if right := rule.check(value):
            raise StartError(f'{rule.name} is {short(value)}; must be {right}')
    return values


def is_bool(value: Any) -> str:
    return '' if isinstance(value, bool) else 'true or false'


def is_one_of(*choices: str) -> Callable[[Any], str]:
    return lambda value: '' if value in choices else f'one of {", ".join(choices)}'


def is_integer(low: int, high: int) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        ok = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        return '' if ok else f'an integer from {low} to {high}'
    return check


def is_number(low: float, high: float) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        ok = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and (
            low <= value <= high)
        return '' if ok else f'a number from {low} to {high}'
    return check


def short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f'{text[:150]} ... ({len(text)} characters)'

"""Faults of parameters: every parameter with values that it must not take, in every state of the node."""

from __future__ import annotations

import math
from typing import Any

from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.parameter import Parameter, parameter_value_to_python

from faults.bench import Bench, FaultError
from faults.suite import fault
from vit_tactile_ros.ros.parameters import RULES

Type = Parameter.Type
# Types that a parameter can have, beside that of its default.
_ALSO = {'tau': {Type.DOUBLE, Type.INTEGER, Type.DOUBLE_ARRAY, Type.INTEGER_ARRAY}}
_NUMBERS = {Type.DOUBLE, Type.INTEGER}
_MAY_BE_EMPTY = {'checkpoint', 'reference_store', 'sensors', 'reference_files'}

KINDS: dict[str, list[tuple[Type, Any]]] = {
    'NaN': [(Type.DOUBLE, math.nan), (Type.DOUBLE_ARRAY, [math.nan]), (Type.DOUBLE_ARRAY, [0.5, math.nan]),
            (Type.STRING, 'nan')],
    'infinities': [(Type.DOUBLE, math.inf), (Type.DOUBLE, -math.inf), (Type.DOUBLE_ARRAY, [math.inf, math.inf])],
    'huge numbers': [(Type.DOUBLE, 1e308), (Type.DOUBLE, -1e308), (Type.INTEGER, 2**63 - 1), (Type.INTEGER, -2**63),
                     (Type.DOUBLE_ARRAY, [2.0] * 10_000)],
    'empty values': [(Type.STRING, ''), (Type.STRING_ARRAY, []), (Type.DOUBLE_ARRAY, []), (Type.BYTE_ARRAY, []),
                     (Type.NOT_SET, None)],
    'wrong types': [(Type.BOOL, True), (Type.INTEGER, 1), (Type.DOUBLE, 0.5), (Type.STRING, 'x'),
                    (Type.BYTE_ARRAY, [b'x']), (Type.BOOL_ARRAY, [True]), (Type.INTEGER_ARRAY, [1]),
                    (Type.DOUBLE_ARRAY, [0.5]), (Type.STRING_ARRAY, ['x'])],
    'strange texts': [(Type.STRING, 'x' * 100_000), (Type.STRING, '../../../no/such/file'),
                      (Type.STRING, '\x01\x1b[2J'), (Type.STRING, '[1, 2'),
                      (Type.STRING_ARRAY, ['a b', '/', 'left', 'left']), (Type.STRING_ARRAY, ['s'] * 1000),
                      (Type.STRING, '~nobody_of_that_name/x')],
}


def _types_of(name: str) -> set[Type]:
    if name in _ALSO:
        return _ALSO[name]
    own = Type.from_parameter_value(RULES[name].default)
    return _NUMBERS if own in _NUMBERS else {own}


def _may_be_taken(name: str, kind: str, type_: Type, value: Any) -> bool:
    """Whether the value may be right for the parameter; a wrong one must be refused."""
    if type_ == Type.STRING and name == 'reference_store':
        return True  # nearly every text is the name of a folder
    if kind == 'wrong types':
        return type_ in _types_of(name)
    # An empty list has no type.
    return kind == 'empty values' and name in _MAY_BE_EMPTY and (type_ in _types_of(name) or (
        value == [] and Type.STRING_ARRAY in _types_of(name)))


def _values(bench: Bench) -> dict[str, Any]:
    response = bench.client.call(GetParameters, '/tactile_classifier/get_parameters',
                                 GetParameters.Request(names=list(RULES)), is_repeatable=True)
    return dict(zip(RULES, map(parameter_value_to_python, response.values), strict=True))


def _set(bench: Bench, parameters: list[Parameter]) -> list[Any]:
    request = SetParameters.Request(parameters=[p.to_parameter_msg() for p in parameters])
    return bench.client.call(SetParameters, '/tactile_classifier/set_parameters', request, is_repeatable=True).results


def _set_wrong(bench: Bench, kind: str, state: str) -> str:
    bench.go_to(state)
    before = _values(bench)
    tried = [(name, type_, value) for name in RULES for type_, value in KINDS[kind]]
    results = _set(bench, [Parameter(name, type_, value) for name, type_, value in tried])
    for (name, type_, value), result in zip(tried, results, strict=True):
        if result.successful and not _may_be_taken(name, kind, type_, value):
            raise FaultError(f'{name} has taken {value!r:.60}')
        if not result.successful and not result.reason:
            raise FaultError(f'{name} has refused {value!r:.60} without a reason')
    after = _values(bench)
    for name, value in after.items():  # what may be taken was: put it back
        if value != before[name] and name not in ('tau', 'max_accuracy_drop'):
            _set(bench, [Parameter(name, value=before[name])])
    _set(bench, [Parameter('tau', value=before['tau'])] if before['tau'] is not None else [])
    bench.go_to('active')
    if state == 'unconfigured':
        bench.wait_for_reference()
    refused = sum(not result.successful for result in results)
    return f'refuses {refused} of {len(results)} values, each with a reason'


for _kind in KINDS:
    for _state in ('unconfigured', 'inactive', 'active'):
        fault(f'Every parameter is set to {_kind} while the node is {_state}.', '', '', soon=6.0,
              short=(_kind, _state) in (('NaN', 'active'), ('wrong types', 'inactive')),
              name=f'{_kind} while {_state}', kind=_kind, state=_state)(_set_wrong)


@fault('A parameter file that is wrong: the node starts with NaN for silence_timeout.', '', '', own=True)
def wrong_at_start(bench: Bench) -> str:
    bench.stop()
    node = bench.start(silence_timeout='.nan', wait=False)
    status = node.wait_for_end()
    line = node.output.strip().splitlines()[-1]
    if status != 2 or 'silence_timeout' not in line or 'Traceback' in node.output:
        raise FaultError(f'the node ended with {status}: {line}')
    bench.start()
    return 'ends with status 2 and names the parameter'


@fault('Tau changes 200 times in a row while images arrive.', None, None)
def tau_changes_under_load(bench: Bench) -> None:
    before = _values(bench)['tau']
    for number in range(20):
        _set(bench, [Parameter('tau', value=0.5 + 0.04 * (step % 10)) for step in range(number, number + 10)])
        bench.play(bench.good(2))
    _set(bench, [Parameter('tau', value=before)])

"""The start of a ROS process: mistakes in its command line, parameter files and log folder that rclpy explains badly or
ignores."""

from __future__ import annotations

import ast
import difflib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import rclpy
from rclpy.exceptions import InvalidParameterValueException, NameValidationException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args

from vit_tactile_ros.data.plain_yaml import read_yaml
from vit_tactile_ros.foundation.command_line import nearest
from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.ros.parameter_file import matches, sections
from vit_tactile_ros.ros.topics import MAX_TOPIC

_LIMIT = f'; with its namespace the name of a topic or service may have {MAX_TOPIC} characters'
_RULE = re.compile(r"Couldn't parse (remap|parameter override) rule: '(.*?)'\. Error: ")
_TYPES = {'BOOL': 'true or false', 'INTEGER': 'an integer', 'DOUBLE': 'a number with a decimal point',
          'STRING': 'a text, in quotes where it looks like a number'}
_OF_TYPE = re.compile(r"Trying to set parameter '(\S+?)' to '(.*)' of type '\w+', expecting type '(?:Type\.)?(\w+)'",
                      re.DOTALL)
_AT = re.compile(r',? at /\S+:\d+')  # a place in the source of rcl


class StartError(UserError):
    """A command line, a parameter file or a log folder with which a ROS process can't start."""


def init_ros(args: Sequence[str] | None = None, parameters: Sequence[str] = (),
             signals: SignalHandlerOptions = SignalHandlerOptions.NO) -> None:
    """`rclpy.init`; raises StartError instead of rclpy's errors, and for words that rclpy would ignore.

    `parameters` are the names that the node declares; if empty, the words are of another command and not checked.
    """
    words = list(sys.argv if args is None else args)
    try:
        rclpy.init(args=words, signal_handler_options=signals)
        # Outside --ros-args, NAME:=VALUE is an old form of remapping; rcl takes device:=cpu as one.
        taken = [word for word in _outside(words) if ':=' in word and word.partition(':=')[0] in parameters]
        left = taken or remove_ros_args(words)[1:]
    except UnicodeError as error:
        raise StartError(f'the command line contains bytes that are not UTF-8: {error}') from error
    except (RuntimeError, ValueError, TypeError) as error:
        rclpy.try_shutdown()
        raise StartError(_explained(str(error), parameters)) from error
    if parameters and left:
        rclpy.try_shutdown()
        raise StartError(_not_read(left, parameters))


def created(create: Callable[[], Any]) -> Any:
    """The node that `create` makes; raises StartError for a name or namespace that ROS refuses."""
    try:
        return create()
    except NameValidationException as error:
        raise StartError(f'{error}'.replace('\n', ' ')[:400] + _LIMIT) from error
    except rclpy_implementation.RCLError as error:
        raise StartError(f'{_AT.sub("", str(error))[:400]}{_LIMIT}') from error


def check_parameters(node: Node, args: Sequence[str] | None = None) -> list[str]:
    """Warnings about start-up parameters that `node` has not declared, and about files without parameters for it.

    Raises StartError for an unknown parameter on the command line, or in a section that names this node. Sections with
    wildcards are shared with other nodes: there it is a warning.
    """
    words = list(sys.argv if args is None else args)
    declared = [name for name in node.get_parameters_by_prefix('') if not name.startswith('qos_overrides.')]
    name = node.get_fully_qualified_name()
    own: dict[str, str] = {parameter: f'-p {parameter}' for parameter in _on_command_line(words)}
    warnings = []
    for file in _after(words, '--params-file'):
        found = parameters_in(file)
        applied = [(section, names) for section, names in found if matches(section, name)]
        for section, names in applied:
            if section.rpartition('/')[2] == node.get_name():
                own |= dict.fromkeys(names, f'{file}, section {section}')
        if not applied:
            held = ', '.join(section for section, _ in found) or 'none'
            warnings.append(f'{file} has no parameters for {name} (its sections: {held}) and is ignored; '
                            f'the section must be {name} or /**/{node.get_name()}, with ros__parameters below it')
    overrides = getattr(node, '_parameter_overrides', {})
    for unknown in sorted(overrides):
        if node.has_parameter(unknown) or unknown.startswith('qos_overrides.'):
            continue
        text = f'{unknown} is not a parameter of this node' + (hint := nearest(unknown, declared))
        if unknown in own:
            known = '' if hint else f'; its parameters are {", ".join(declared)}'
            raise StartError(f'{own[unknown]}: {text}{known}')
        warnings.append(f'{text} (ignored: it may be meant for another node of its section)')
    return warnings


def reason_of(error: BaseException) -> str:
    """The message of an error; for a refused value only the reason, which names parameter and value."""
    text = str(error)
    if match := _OF_TYPE.match(text):
        name, value, wanted = match.groups()
        return f'{name} is {value}; must be {_TYPES.get(wanted, wanted)}'
    if not isinstance(error, InvalidParameterValueException):
        return text
    reason, _, name = text.partition('Reason: ')[2].rpartition(': ')
    return reason if reason.startswith(name) else f'{name}: {reason}'


def origin_of(text: str, parameters: Sequence[str], args: Sequence[str] | None = None) -> str:
    """Where the parameter that an error begins with was set, ' (-p or a file)'; '' if that is not known."""
    words = list(sys.argv if args is None else args)
    found = re.match(r'[\w.]+', text)
    if found is None or (name := found[0]) not in parameters:
        return ''
    if name in _on_command_line(words):
        return f' (-p {name})'
    places = [f'{file}, section {section}' for file in _after(words, '--params-file')
              for section, names in parameters_in(file) if name in names]
    return f' ({"; ".join(places)})' if places else ''


def unused_qos_overrides(node: Node) -> list[str]:
    """Warnings about qos_overrides that no topic of `node` uses; call it once all topics exist."""
    declared = [name for name in node.get_parameters_by_prefix('') if name.startswith('qos_overrides.')]
    return [f'{name} has no effect: this node has no such topic or policy' + nearest(name, declared)
            for name in sorted(getattr(node, '_parameter_overrides', {}))
            if name.startswith('qos_overrides.') and not node.has_parameter(name)]


def _explained(text: str, parameters: Sequence[str]) -> str:
    """The error of rclpy.init, with what to do."""
    text = _AT.sub('', text.splitlines()[0] if text else '').removeprefix('failed to initialize rcl: ')
    if text.startswith('[') and text.endswith(']'):  # UnknownROSArgsError
        try:
            return _not_read(ast.literal_eval(text), parameters)
        except (ValueError, SyntaxError):
            return f'not ROS arguments: {text}'
    if 'logging' in text or re.search(r'opening file \S+\.log', text):
        return (f'{text}: the log cannot be written there; set ROS_LOG_DIR (or HOME) to a writable folder, such as '
                'ROS_LOG_DIR=/tmp/ros_log')
    if 'Sequence should be of same type' in text:
        return f'{text}: in a list every number needs a decimal point: write [0.9, 1.0] instead of [0.9, 1]'
    if match := _RULE.match(text):
        if match[1] == 'remap':
            return (f'{match[2]}: must be FROM:=TO, two names, neither of them empty, such as '
                    '-r image_raw:=/digit/camera/image_raw')
        return f"{match[2]}: must be -p NAME:=VALUE, such as -p tau:=0.9; an empty text is written NAME:=''"
    return text


def _not_read(words: Sequence[str], parameters: Sequence[str]) -> str:
    """Why words of the command line have no effect, with the right form of the first one."""
    word = words[0]
    name, assigns, value = word.lstrip('-').partition(':=' if ':=' in word else '=')
    if not assigns and word.startswith('-'):
        value = words[1] if len(words) > 1 and not words[1].startswith('-') else 'VALUE'
    if name.startswith('__') or '/' in name:
        return f'{word} is ignored; remappings are given as --ros-args -r {name}:={value}'
    close = [name] if name in parameters else difflib.get_close_matches(name, parameters, 1)
    if close and (assigns or word.startswith('-')):
        return f'{word} is ignored; parameters are given as --ros-args -p {close[0]}:={value}'
    known = f'; the parameters are {", ".join(parameters)}' if parameters else ''
    return f'{word} is ignored; parameters are given as --ros-args -p NAME:=VALUE{known}'


def _after(words: Sequence[str], *flags: str) -> list[str]:
    return [value for flag, value in zip(words, words[1:], strict=False) if flag in flags]


def _outside(words: Sequence[str]) -> Iterator[str]:
    """The words that are not between --ros-args and --."""
    is_ros = False
    for word in words[1:]:
        if word == '--ros-args' or (word == '--' and is_ros):
            is_ros = not is_ros
        elif not is_ros:
            yield word


def _on_command_line(words: Sequence[str]) -> list[str]:
    """Names of parameters that were given with -p, possibly as `node:name:=value`."""
    return [word.partition(':=')[0].rpartition(':')[2] for word in _after(words, '-p', '--param') if ':=' in word]


def parameters_in(file: str) -> list[tuple[str, list[str]]]:
    """Node name patterns of a parameter file, each with the names of its parameters; none if it cannot be read."""
    return [(section, list(_flat(values))) for section, values in sections(_loaded(file))]


def _loaded(file: str) -> Any:
    try:
        return read_yaml(Path(file))  # rcl takes no aliases either
    except (OSError, ValueError):
        return None  # rcl has read it; no warning is possible


def _flat(values: Any, prefix: str = '') -> Iterator[str]:
    for key, value in values.items() if isinstance(values, dict) else ():
        if isinstance(value, dict):
            yield from _flat(value, f'{prefix}{key}.')
        else:
            yield f'{prefix}{key}'

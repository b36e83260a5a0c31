"""Rows of the fault suite and their verdict: what a fault may cost, and what the node must say about it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from faults.bench import Bench, FaultError, Mark

MORE_MEMORY = 60.0  # MB that one row may add; the soak looks for slow growth
REPEAT = 5.0  # s in which the node omits lines of a cause that it has logged
SOON = 3.0  # s until a good frame must have its right result after a fault, unless the row allows more
# Counters whose changes describe what the node did; `rejected` is shown by reason.
_SHOWN = ('received', 'classified', 'superseded', 'paused', 'lost', 'silences', 'missing stamps', 'stamps backwards',
          'stamps repeated', 'resolution changes', 'grey images', 'blank images', 'frozen images', 'unknown ages')


@dataclass(frozen=True)
class Fault:
    """One row: `inflict` makes the fault with a node that works, and returns once it is over."""

    name: str
    what: str  # one sentence
    inflict: Callable[[Bench], str | None]  # returns what else the node did, for the page
    log: str | None  # expression that a line at WARN or above must match; None: there must be no line; '': any
    diagnostics: str | None  # the same for the reports that are not OK
    soon: float  # s
    is_short: bool  # also in `make test`
    is_own: bool  # may replace the node; such rows run last
    is_compressed: bool  # with a camera that sends PNG
    more_memory: float  # MB


FAULTS: dict[str, Fault] = {}


def fault(what: str, log: str | None = None, diagnostics: str | None = None, *, soon: float = SOON,
          short: bool = False, own: bool = False, compressed: bool = False,
          more_memory: float = MORE_MEMORY, name: str = '',
          **arguments: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds the function below it as a row, called with the bench and `arguments`; its name is that of the row."""
    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        title = name or function.__name__.replace('_', ' ').strip()
        assert title not in FAULTS, title
        FAULTS[title] = Fault(title, what, lambda bench: function(bench, **arguments), log, diagnostics, soon, short,
                              own, compressed, more_memory)
        return function
    return add


@dataclass
class Measured:
    """What a row found; `problems` is empty if the node did what it must."""

    fault: Fault
    did: str = ''
    log: list[str] = field(default_factory=list)
    diagnostics: list[str] = field(default_factory=list)
    seconds: float = 0.0
    frames: int = 0
    memory: tuple[float, float] = (0.0, 0.0)  # MB before and after
    problems: list[str] = field(default_factory=list)


def run(bench: Bench, fault: Fault) -> Measured:
    """Inflict a fault, and judge what the node did. A shared node must have been started and be active."""
    measured = Measured(fault)
    try:
        _run(bench, fault, measured)
    except Exception as error:
        measured.problems.append(f'{type(error).__name__}: {error}')
    return measured


def _run(bench: Bench, fault: Fault, measured: Measured) -> None:
    if bench.is_compressed != fault.is_compressed:
        bench.stop()
        bench.unplug()
        bench.is_compressed = fault.is_compressed
    if not bench.is_alive:
        bench.start()
    process = bench.process_id
    before, memory, mark = bench.counters(), bench.memory(), bench.mark()
    begun = time.monotonic()
    note = fault.inflict(bench)
    is_other = bench.process_id != process
    if is_other:  # its own log begins with it
        mark, before, memory = Mark(0, mark.diagnostics, mark.results), dict.fromkeys(before, 0), bench.memory()
    if not bench.is_alive:
        raise FaultError(f'the node ended with {bench.node and bench.node.process.returncode}')
    if fault.diagnostics:
        bench.wait_for(lambda: bench.diagnostics_since(mark), fault.diagnostics, 0.6)
    if fault.log and not bench.wait_for(lambda: bench.log_since(mark), fault.log, 0.6):
        if (left := REPEAT - (time.monotonic() - begun)) > 0:  # omitted: another row had it
            bench.play(bench.good(int(20 * left)), rate=20.0)
            fault.inflict(bench)
    after = bench.counters()
    measured.did = '; '.join([*([note] if note else []), *_changes(before, after)])
    measured.log, measured.diagnostics = bench.log_since(mark), bench.diagnostics_since(mark)
    recovery = bench.recover()
    measured.seconds, measured.frames = recovery.seconds, recovery.frames
    bench.counters()
    measured.memory = memory, bench.memory()
    measured.problems += _problems(fault, measured)
    if recovery.wrong and not (measured.log or measured.diagnostics):
        measured.problems.append(f'{recovery.wrong} silent wrong results after it')
    if is_other and not fault.is_own:
        measured.problems.append('the node was replaced by another')


def _problems(fault: Fault, measured: Measured) -> list[str]:
    problems = []
    for name, pattern, found in (('log', fault.log, measured.log),
                                 ('/diagnostics', fault.diagnostics, measured.diagnostics)):
        # no image for: this process stalls; yet: the first report of a node that the row has started
        if pattern is None and (wrong := [text for text in found if not re.search('no image (for|yet)', text)]):
            problems.append(f'{name} has {wrong}, and nothing was wrong')
        elif pattern and not any(re.search(pattern, text) for text in found):
            problems.append(f'{name} has {found}, and nothing that matches {pattern!r}')
    if any('Traceback' in line and not (fault.log and re.search(fault.log, line)) for line in measured.log):
        problems.append('a traceback in the log')
    if measured.seconds > fault.soon:
        problems.append(f'the next right result came after {measured.seconds:.1f} s; must be within {fault.soon:g} s')
    if measured.memory[1] - measured.memory[0] > fault.more_memory:
        problems.append(f'memory grew from {measured.memory[0]:.0f} to {measured.memory[1]:.0f} MB')
    return problems


def _changes(before: dict[str, int], after: dict[str, int]) -> list[str]:
    names = [*_SHOWN, *sorted(name for name in after if name.startswith(('rejected: ', 'gated')))]
    if after['received'] < before['received']:  # the node was configured again
        before = {}
    changed = {name: after.get(name, 0) - before.get(name, 0) for name in names}
    return [f'{name} {count}' for name, count in changed.items() if count]

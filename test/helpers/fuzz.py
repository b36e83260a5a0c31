"""Feeds every reader of bytes from outside with damaged and malicious input. `make fuzz` runs it.

An input is a valid file with changed bytes (`mutations`), with what is stored twice changed accordingly, or one that
hypothesis builds; `fuzz_readers.READERS` lists the readers. A reader may only return, or raise the error that it
documents, in one printable line, within its time and memory. Each reader runs in a process of its own, so that a crash
or a hang is an input that failed, too. Failing inputs are kept, and a run that was stopped is resumed.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import importlib
import json
import os
import random
import resource
import shlex
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from vit_tactile_ros.foundation.errors import LONGEST

DRAWN = 50  # inputs of each group that hypothesis builds, which takes 2 to 8 ms each
GROUP = 1000  # the others are mutations of valid files, and of what it has built
PER_PROCESS = 20_000  # then a new process starts, so that a failure is never due to an old state
HANGS = 60.0, 900.0  # s without an input: of the CPU, and of the clock, since the process may be of low priority


@dataclass
class Result:
    """What became of the inputs of one reader."""

    reader: str
    done: int = 0
    seconds: float = 0.0
    slowest: float = 0.0  # s of the CPU for one input
    megabytes: float = 0.0  # most that was used above what the process had at its start
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[dict[str, str]] = field(default_factory=list)


# The child: one reader, some inputs.

def inputs(reader: Any, examples: list[Path], seed: int, start: int, stop: int,
           ) -> Iterator[tuple[int, Path, Path, bytes]]:
    """(number, example, file of it, content) of each input; the same for the same seed, wherever it starts.

    The other files are whole, and the file itself is once the inputs go on to another one.
    """
    files = {example: [example] if example.is_file() else [] for example in examples}
    for example, own in files.items():
        folder = example.parent if own else example
        own += sorted(p for p in folder.rglob('*') if p.is_file() and p not in own and p.stat().st_size)
    whole = {file: file.read_bytes() for own in files.values() for file in own}
    largest = {example: max(own, key=lambda f: len(whole[f])) for example, own in files.items()}
    strategy = reader.strategy(whole) if reader.strategy else None
    drawn: list[bytes] = []
    last: Path | None = None
    for number in range(start, stop):
        if strategy is not None and (number % GROUP == 0 or number == start):
            drawn = built(strategy, f'{seed}/{reader.name}/{number // GROUP}')
        rng = random.Random(f'{seed}/{reader.name}/{number}')
        example = rng.choice(examples)
        if drawn and (number % GROUP < DRAWN or rng.random() < 0.2):
            file, data = files[example][0], drawn[number % len(drawn)]
            if number % GROUP >= DRAWN:
                data = reader.mutate(data, rng)
        else:
            file = rng.choice(files[example]) if rng.random() < 0.3 else largest[example]
            data = reader.mutate(whole[file], rng)
        if data == whole[file]:
            continue
        if last and last != file:
            last.write_bytes(whole[last])
        last = file
        yield number, example, file, data


def built(strategy: Any, about: str) -> list[bytes]:
    """What hypothesis generates, DRAWN of them, always the same."""
    import hypothesis

    found: list[bytes] = []

    @hypothesis.seed(about)
    @hypothesis.settings(max_examples=DRAWN, database=None, deadline=None, phases=[hypothesis.Phase.generate],
                         suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(strategy)
    def collect(value: bytes) -> None:
        found.append(value)

    collect()
    return found


def peak() -> float:
    """Of this process since `clear_refs`."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3  # MB


def check(reader: Any, path: Path, before: float) -> tuple[str, str]:
    """(outcome, what failed); the second is '' if all is well. before: memory of the process at its start in MB."""
    begun = time.process_time()
    failed = ''
    try:
        outcome = reader.call(path) or 'read'
    except reader.documented as error:
        outcome, text = 'refused', str(error)
        if not text.isprintable() or not text or len(text) > LONGEST:
            failed = f'message of {len(text)} characters: {text[:120]!r}'
    except Exception as error:  # what this looks for
        place = traceback.extract_tb(error.__traceback__)[-1]
        outcome = 'failed'
        failed = f'{type(error).__name__} ({Path(place.filename).name}:{place.lineno}): {str(error)[:300]!r}'
    taken = time.process_time() - begun
    if taken > reader.seconds:
        failed = failed or f'{taken:.1f} s of the CPU, at most {reader.seconds:g}'
    if peak() - before > reader.megabytes:
        failed = failed or f'{peak() - before:.0f} MB, at most {reader.megabytes}'
    return outcome, failed


def child(reader: Any, folder: Path, work: Path, seed: int, start: int, stop: int, out: Any) -> None:
    """Prints a JSON line per failure and at the end; the number of the current input is in work/number."""
    examples = prepared(reader, work)
    for example in examples:
        reader.call(example)  # imports, and shows that it is valid
    number_file = os.open(work / 'number', os.O_WRONLY | os.O_CREAT)
    used = int(Path('/proc/self/statm').read_text().split()[0]) * os.sysconf('SC_PAGE_SIZE')
    with contextlib.suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (used + (reader.megabytes + 4000) * 10**6,) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**30, 2**30))
    with contextlib.suppress(OSError):  # from now on, also after another reader in this process
        Path('/proc/self/clear_refs').write_text('5')
    before, slowest, outcomes, following, started = peak(), 0.0, Counter[str](), stop, time.process_time()
    stopped: list[int] = []
    signal.signal(signal.SIGINT, lambda *_: stopped.append(1))
    for number, example, file, data in inputs(reader, examples, seed, start, stop):
        if stopped:
            following = number
            break
        file.write_bytes(data)
        os.pwrite(number_file, b'%012d' % number, 0)
        begun = time.process_time()
        outcome, failed = check(reader, example, before)
        slowest = max(slowest, time.process_time() - begun)
        outcomes[outcome] += 1
        if failed:
            print(json.dumps({'failed': failed, 'number': number, 'kept': str(keep(folder, work, number))}),
                  file=out, flush=True)
        if peak() - before > reader.megabytes:  # in a new process, or every input from here on would fail
            following = number + 1
            break
    print(json.dumps({'outcomes': outcomes, 'slowest': slowest, 'megabytes': peak() - before, 'next': following,
                      'cpu': time.process_time() - started}), file=out, flush=True)


def prepared(reader: Any, folder: Path) -> list[Path]:
    """The valid inputs, each in a folder of its own."""
    shutil.rmtree(folder / 'input', ignore_errors=True)
    (folder / 'input').mkdir(parents=True)
    return [Path(example) for example in reader.prepare(folder / 'input')]


def keep(folder: Path, work: Path, number: int) -> Path:
    """A copy of the current input."""
    kept = folder / f'failed-{number}'
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(work / 'input', kept)
    return kept


def in_memory() -> str | None:
    """Where an input is written in 30 us instead of 300, if there is such a folder."""
    return '/dev/shm' if os.access('/dev/shm', os.W_OK) else None


# The parent: all readers, each in processes of its own.

def fuzz(reader: Any, folder: Path, seed: int, count: int, most_failures: int = 20) -> Iterator[Result]:
    """Yields the result so far after every process; resumes from what is in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    progress = folder / f'seed-{seed}.json'
    result = Result(reader.name)
    if progress.is_file():
        result = Result(**json.loads(progress.read_text()))
        result.outcomes = Counter(result.outcomes)
    if result.done >= count:
        yield result
    while result.done < count and len(result.failures) < most_failures:
        begun, stop = time.monotonic(), min(count, result.done + PER_PROCESS)
        with tempfile.TemporaryDirectory(dir=in_memory()) as work:
            result.done, is_stopped = run_child(reader, folder, Path(work), seed, result, stop)
        result.seconds += time.monotonic() - begun
        progress.write_text(json.dumps(vars(result)))
        yield result
        if is_stopped:
            raise KeyboardInterrupt


def run_child(reader: Any, folder: Path, work: Path, seed: int, result: Result, stop: int) -> tuple[int, bool]:
    """Adds to the result; returns the number of the next input, and whether the run was stopped."""
    process = forked(work, lambda out: child(reader, folder, work, seed, result.done, stop, out))
    last, ended, is_stopped = watched(process, work / 'number')
    for line in map(json.loads, (work / 'out').read_text().splitlines()):
        if 'failed' in line:
            result.failures.append(line)
        elif 'outcomes' in line:
            result.outcomes.update(line['outcomes'])
            result.slowest = max(result.slowest, line['slowest'])
            result.megabytes = max(result.megabytes, line['megabytes'])
            return int(line['next']), is_stopped
    if last < 0 and is_stopped:
        return result.done, True
    if last < 0:
        tail = (work / 'log').read_text(errors='replace')[-2000:]
        raise RuntimeError(f'the process of {result.reader} {ended} before its first input: {tail}')
    result.failures.append({'failed': ended, 'number': last, 'kept': str(keep(folder, work, last))})
    return last + 1, is_stopped


def forked(work: Path, run: Callable[[TextIO], None]) -> int:
    """The process that runs it, with work/out and work/log."""
    from forking import fork  # not before `main` has made this folder known

    def main() -> None:
        faulthandler.enable()
        with (work / 'out').open('w') as out:
            run(out)

    return fork(main, work / 'log')


def times(process: int) -> tuple[float, float]:
    """Seconds of the CPU that a process which has not been waited for has used, and of the clock."""
    fields = Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK'), time.monotonic()


def watched(process: int, number: Path) -> tuple[int, str, bool]:
    """(the last input, how the process ended, whether the run was stopped)."""
    last, changed, ended, is_stopped = -1, times(process), '', False
    while True:
        try:
            now_at = times(process)
            found, status = os.waitpid(process, os.WNOHANG)
            now = int(number.read_bytes() or -1) if number.exists() else -1
            if found:
                code = os.waitstatus_to_exitcode(status)
                return now, ended or f'ended with {signal.Signals(-code).name if code < 0 else code}', is_stopped
            if now != last:
                last, changed = now, now_at
            elif any(at - since > limit for at, since, limit in zip(now_at, changed, HANGS)):
                ended = f'no result within {HANGS[0]:g} s of the CPU, or {HANGS[1]:g} s'
                os.kill(process, signal.SIGKILL)
            time.sleep(0.1)
        except KeyboardInterrupt:  # Ctrl-C or a time limit: what is done is kept
            os.kill(process, signal.SIGINT)
            is_stopped = True


def repeat_command(reader: str, failure: dict[str, Any]) -> str:
    return shlex.join(['python', 'test/helpers/fuzz.py', '--repeat', failure['kept'], reader.replace(' ', '-')])


def line_of(result: Result) -> str:
    told = ', '.join(f'{count} {outcome}' for outcome, count in sorted(result.outcomes.items()))
    rate = result.done / result.seconds if result.seconds else 0
    return (f'{result.reader:18} {result.done:8d} inputs, {len(result.failures):3d} failed, slowest '
            f'{result.slowest:5.2f} s, {result.megabytes:5.0f} MB, {rate:6.0f}/s: {told}')


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('readers', nargs='*', metavar='READER', help='default: all')
    parser.add_argument('--count', type=int, default=100_000, help='inputs for each reader')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--output', type=Path, default=Path('fuzz'), help='folder of progress and failing inputs')
    parser.add_argument('--repeat', type=Path, metavar='FOLDER', help='run the one reader on a failing input')
    parser.add_argument('--table', default='fuzz_readers', metavar='MODULE', help='of the function readers()')
    parser.add_argument('--sample', type=Path, metavar='FOLDER', help='a few inputs of each in this process, as JSON')
    given = parser.parse_args(argv)
    sys.path[:0] = [str(Path(__file__).parent)]  # `python -P` leaves it out
    os.environ['OMP_NUM_THREADS'] = '1'  # before torch is imported: threads that wait for each other use up the CPU
    known = {reader.name: reader for reader in importlib.import_module(given.table).readers()}
    names = [name.replace('-', ' ') for name in given.readers]
    if unknown := set(names) - set(known):
        parser.error(f'unknown reader {min(unknown)}; known are {", ".join(known)}')
    chosen = [known[name] for name in names or known]
    if given.sample:
        for reader in chosen:
            print(json.dumps({'reader': reader.name}), flush=True)
            child(reader, given.sample, given.sample, given.seed, DRAWN - reader.sample // 2,
                  DRAWN + reader.sample // 2, sys.stdout)
        return 0
    if given.repeat:
        with tempfile.TemporaryDirectory() as folder:
            examples = [given.repeat.absolute() / p.relative_to(Path(folder) / 'input')
                        for p in prepared(chosen[0], Path(folder))]
            told = [check(chosen[0], example, peak()) for example in examples]
        print(*told, sep='\n')
        return int(any(failed for _, failed in told))
    results = []
    for number in (signal.SIGINT, signal.SIGTERM):  # in the background the first is ignored
        signal.signal(number, signal.default_int_handler)
    for reader in chosen:
        folder = given.output / reader.name.replace(' ', '-')
        try:
            for result in fuzz(reader, folder, given.seed, given.count):
                print(line_of(result), flush=True)
        except KeyboardInterrupt:
            print('stopped; the same command resumes')
            return 130
        results.append(result)
        for failure in result.failures:
            print(f'    {failure["number"]}: {failure["failed"]}\n        {repeat_command(reader.name, failure)}')
    print(json.dumps([vars(result) | {'failures': len(result.failures)} for result in results]))
    return int(any(result.failures for result in results))


if __name__ == '__main__':
    sys.exit(main())

"""A CSV of images to touches: image, label, and if known reference, previous image, group and split."""

from __future__ import annotations

import csv
import io
import logging
import os
import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from vit_tactile_ros.data.table import PARTS, DataError, NamedTouch, Source, part_of
from vit_tactile_ros.data.text_file import read_text

logger = logging.getLogger(__name__)


def read_rows(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The columns of a CSV (separated by comma, semicolon or tab) and its rows, each with its line.

    A first line `sep=;`, as Excel writes it, names the separator. Raises DataError for a file without rows, an
    unreadable one (see `text_file.read_text`), or a row with more or fewer fields than columns.
    """
    file = io.StringIO(read_text(path), newline='')  # every kind of line end counts as one, and stays in quoted fields
    named = re.fullmatch(r'"?sep=(.)"?', file.readline().rstrip('\r\n'), re.IGNORECASE)
    start = file.tell() if named else 0
    file.seek(start)
    header = file.readline()
    file.seek(start)
    reader = csv.reader(file, delimiter=named[1] if named else max(',;\t', key=header.count))
    rows = []
    try:
        columns = [column.strip() for column in next(reader, [])]
        for fields in reader:
            if not fields:
                continue
            line = reader.line_num + (named is not None)
            if len(fields) != len(columns):
                raise DataError(f'{path}, line {line}: {len(fields)} fields; the first line names '
                                f'{len(columns)} columns')
            rows.append((line, {name: field.strip() for name, field in zip(columns, fields)}))
    except csv.Error as error:
        raise DataError(f'{path}, line {reader.line_num + (named is not None)}: cannot be read as a CSV: {error}'
                        ) from error
    if not rows:
        raise DataError(f'{path} has no rows below its first line, which must name the columns')
    return columns, rows


def read_csv(path: Path, *, image: str = 'image', label: str = 'label', group: str = 'group',
             reference: str = 'reference', previous: str = 'previous', split: str = 'split',
             splits: Mapping[str, Sequence[str]] | None = None) -> list[NamedTouch]:
    """Touches of a CSV, in the order of its rows.

    image, label, group, reference, previous, split: the columns to use. The last four may be missing if they have these
    names, and '' uses none. image, reference and previous may also be patterns with columns in braces
    ('reference_gel{gel}.png'), group several columns joined by '+' ('object+press'). Paths are relative to the CSV's
    folder. splits: see `table.part_of`; rows whose split it does not name are skipped, as are rows with an empty label,
    both with a logged count.

    Raises DataError for a missing column or file, no labels at all, an unknown split, or one image with two labels.
    """
    columns, rows = read_rows(path)

    def check(name: str, what: str, flag: str) -> None:
        if name not in columns:
            raise DataError(f'{path} has no column {name!r} for the {what}; its columns are {", ".join(columns)} '
                            f'(--{flag} chooses one)')

    for pattern, what, flag in ((image, 'images', 'image'), (reference, 'references', 'reference'),
                                (previous, 'previous images', 'previous')):
        if pattern and not (pattern in ('reference', 'previous') and pattern not in columns):
            for name in _columns_of(pattern):
                check(name, what, flag)
    check(label, 'labels', 'label')
    group_columns = [] if not group or (group == 'group' and group not in columns) else group.split('+')
    for name in group_columns:
        check(name, 'groups', 'group')
    if split not in columns and (split not in ('split', '') or splits):
        check(split, 'splits', 'split')
    has_reference = reference not in ('reference', '') or reference in columns
    has_previous = previous not in ('previous', '') or previous in columns

    unlabelled, left_out = 0, Counter[str]()
    touches: list[NamedTouch] = []
    labels: dict[Path, str] = {}
    for line, row in rows:
        where = f'{path}, line {line}'
        if not row[label]:
            unlabelled += 1
            continue
        part = ''
        if row.get(split):
            known = part_of(row[split], splits)
            if known is None:
                left_out[row[split]] += 1
                continue
            part = known
        file = path.parent / _fill(image, row)
        if labels.setdefault(file, row[label]) != row[label]:
            raise DataError(f'{where}: {file} is labelled {row[label]!r}, and {labels[file]!r} above')
        if any(not row[name] for name in group_columns):
            raise DataError(f'{where}: no {"+".join(group_columns)}; every row needs one, '
                            'so that frames that belong together can be kept together')
        no_contact = _fill(reference, row) if has_reference else ''
        before = _fill(previous, row) if has_previous else ''
        touches.append(NamedTouch(Source(file), Source(path.parent / no_contact) if no_contact else None, row[label],
                                  '+'.join(row[name] for name in group_columns), part,
                                  Source(path.parent / before) if before else None))
    if unlabelled == len(rows):
        raise DataError(f'{path}: the column {label!r} is empty in all {len(rows)} rows')
    if left_out and splits is None:
        raise DataError(f'{path}: the column {split!r} holds {_counts(left_out)}; must be {", ".join(PARTS)}, or say '
                        f'what they mean: splits test={next(iter(left_out))}')
    if not touches:
        raise DataError(f'{path}: the splits {dict(splits or {})} match no row; the column {split!r} holds '
                        f'{_counts(left_out)}')
    if unlabelled:
        logger.warning('%s: skipped %d of %d rows, whose %s is empty', path, unlabelled, len(rows), label)
    if left_out:
        logger.warning('%s: skipped the splits %s', path, _counts(left_out))
    files = {source.path for touch in touches for source in (touch.image, touch.reference, touch.previous) if source}
    # Path.is_file raises for a name that is too long.
    if missing := sorted(file for file in files if not os.path.isfile(file)):
        raise DataError(f'{path}: {len(missing)} of {len(files)} images are missing, among them {missing[0]}; '
                        'paths must be relative to the folder of the CSV')
    return touches


def _columns_of(pattern: str) -> list[str]:
    """The columns of 'reference_gel{gel}.png', or of a plain name: itself."""
    try:
        names = [name for _, name, _, _ in string.Formatter().parse(pattern) if name is not None]
    except ValueError as error:
        raise DataError(f'{pattern!r} is neither a column nor a pattern with columns in braces: {error}') from error
    return names or [pattern]


def _fill(pattern: str, row: dict[str, str]) -> str:
    return row[pattern] if pattern in row else pattern.format(**row)


def _counts(counter: Counter[str]) -> str:
    return ', '.join(f'{name} ({count})' for name, count in counter.most_common(10))

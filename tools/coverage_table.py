"""Coverage of the parts of the package as a table: python tools/coverage_table.py build/coverage/coverage.json

As coverage counts: a branch is one of the two ways from a condition or loop, `both` is (lines + branches) covered.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from layers import LAYERS  # noqa: E402
from markdown_text import table  # noqa: E402

COUNTS = ('num_statements', 'covered_lines', 'num_branches', 'covered_branches')
FLAT = 'entry points'


def written(report: dict) -> str:
    parts: dict[str, Counter] = defaultdict(Counter)
    for name, file in report['files'].items():
        folder = Path(name).parts[1]
        part = FLAT if folder.endswith('.py') else f'`{folder}/`'
        parts[part].update({count: file['summary'][count] for count in COUNTS}, files=1)
    order = [FLAT, *(f'`{layer.name}/`' for layer in reversed(LAYERS))]
    assert set(parts) == set(order), set(parts) ^ set(order)
    total = sum(parts.values(), Counter())
    rows = [(name, *_cells(parts[name])) for name in order] + [('all', *_cells(total))]
    return table(('part', 'files', 'lines', 'covered', 'branches', 'covered', 'both'), rows)


def _cells(part: Counter) -> tuple[str, ...]:
    lines, lines_covered, branches, branches_covered = (part[count] for count in COUNTS)
    return (str(part['files']), f'{lines:,}', _percent(lines_covered, lines), f'{branches:,}',
            _percent(branches_covered, branches), _percent(lines_covered + branches_covered, lines + branches))


def _percent(covered: int, of: int) -> str:
    return f'{100 * covered / of:.1f} %' if of else ''


if __name__ == '__main__':
    print(written(json.loads(Path(sys.argv[1]).read_text(encoding='utf-8'))), end='')

"""Results of a tool: printed as they come, by title, and kept for its last line, the JSON."""

from __future__ import annotations

import json
from typing import Any


class TitledRows(dict[str, Any]):
    """The rows of each table of a tool, by the title of the table; printed when they are reported."""

    def report(self, title: str, rows: dict[str, Any]) -> None:
        self[title] = rows
        print(f'{title}:')
        for name, row in rows.items():
            print(f'  {name}: {row}', flush=True)


def report(found: dict[str, dict[str, Any]]) -> None:
    """The rows of each title in columns; the last line is the JSON."""
    for title, rows in found.items():
        print(title)
        for name, value in rows.items():
            print(f'  {name:24} {value}')
    print(json.dumps(found))

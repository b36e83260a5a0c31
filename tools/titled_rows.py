"""Results of a tool: printed as they come, by title, and kept for its last line, the JSON."""

from __future__ import annotations

from typing import Any


class TitledRows(dict[str, Any]):
    """The rows of each table of a tool, by the title of the table; printed when they are reported."""

    def report(self, title: str, rows: dict[str, Any]) -> None:
        self[title] = rows
        print(f'{title}:')
        for name, row in rows.items():
            print(f'  {name}: {row}', flush=True)

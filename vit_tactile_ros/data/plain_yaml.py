"""YAML from files that may be damaged or hostile."""

from __future__ import annotations

from typing import Any

import yaml

MAX_DEPTH = 50  # of values in values; the parser takes seconds for thousands


class _Loader(yaml.SafeLoader):
    depth = 0
    has_aliases = False

    def compose_node(self, parent: Any, index: Any) -> Any:
        if not self.has_aliases and self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError('an alias')
        if self.depth > MAX_DEPTH:
            raise yaml.YAMLError('nested too deeply')
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def load_yaml(text: str, has_aliases: bool = False) -> Any:
    """The value of a YAML text without tags of Python. Raises only ValueError, with one line.

    has_aliases: allow them; then a value may hold itself, and a few lines may stand for millions: do not walk it.
    """
    try:
        loader = _Loader(text)
        loader.has_aliases = has_aliases
        return loader.get_single_data()
    except Exception as error:  # for odd tags and numbers also KeyError, IndexError, AttributeError
        raise ValueError(f'{type(error).__name__}: {(str(error).splitlines() or [""])[0]}') from error

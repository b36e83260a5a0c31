"""An HTML page parsed, to check that it needs no other file."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np

VOID = {'meta', 'img', 'br'}


class Page(HTMLParser):
    """The contents of a page; every tag must be closed by its own end tag."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.cells = '', []
        self._open: list[str] = []
        self.feed(path.read_text(encoding='utf-8'))
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == 'tr':
            self.cells.append([])

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if 'style' not in self._open:
            self.text += data
        if self._open[-1:] == ['td']:
            self.cells[-1].append(data)

    def images(self, kind: str = 'plot') -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == 'img' and attributes['class'] == kind]

    @property
    def ids(self) -> set[str]:
        return {attributes['id'] for _, attributes in self.tags if attributes.get('id')}


def assert_self_contained(page: Page, folder: Path) -> None:
    """Nothing is loaded: every image is inline and equals its file, every link points into the page."""
    files = {p.read_bytes() for p in folder.glob('*.png')}
    inline = set()
    for tag, attributes in page.tags:
        assert tag not in ('script', 'link', 'iframe', 'object', 'base'), attributes
        for name, value in attributes.items():
            assert not name.startswith('on')
            if name in ('src', 'href', 'srcset', 'data', 'action'):
                if tag == 'a':
                    assert value[0] == '#' and value[1:] in page.ids
                else:
                    assert value.startswith('data:image/png;base64,')
                    inline.add(base64.b64decode(value.partition(',')[2]))
    assert inline == files
    assert all(cv2.imdecode(np.frombuffer(data, np.uint8), 1) is not None for data in inline)
    style = re.search('<style>(.*?)</style>', (folder / 'report.html').read_text(), re.DOTALL)[1]
    assert 'url(' not in style and '@import' not in style
    assert all(attributes['alt'] for tag, attributes in page.tags if tag == 'img')

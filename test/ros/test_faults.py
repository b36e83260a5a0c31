"""The short form of the fault suite, and that docs/faults.md has its rows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from documentation import ROOT
from faults import rows
from faults.bench import Bench
from faults.scene import Scene
from faults.suite import FAULTS, run

from vit_tactile_ros.model import shipped_checkpoint


@pytest.fixture
def bench(client, tmp_path) -> Bench:
    made = Bench(client, Path(tmp_path), shipped_checkpoint(), Scene())
    yield made
    if made.node is not None:
        print(made.node.output)  # shown if the test failed
    made.stop()


def test_a_node_survives_many_faults(bench):
    """One node: alive, its counters add up, what is wrong is reported, and good images have the right class after."""
    bench.start()
    short = rows.chosen(short=True)
    assert len(short) >= 20
    for fault in short:
        assert run(bench, fault).problems == [], fault.name


def test_the_page_has_the_rows_of_the_suite():
    """A fault that was added or removed without `make soak`."""
    page = (ROOT / 'docs' / 'faults.md').read_text(encoding='utf-8')
    assert re.findall(r'^\| ([^|]+?) \|', page, re.MULTILINE)[2:] == [fault.name for fault in rows.chosen()]
    assert len(FAULTS) >= 60

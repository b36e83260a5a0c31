"""Simulated touches kept once rendered: the same examples, each made once, whatever happens to the file."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import stat
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vit_tactile_ros.data import rendered
from vit_tactile_ros.data.rendered import RenderedTouches
from vit_tactile_ros.data.simulated import SimulatedTouches
from vit_tactile_ros.data.table import DataError
from vit_tactile_ros.inference.preprocess import fit
from vit_tactile_ros.model import PreprocessingConfig
from vit_tactile_ros.simulator import sample_state_example

PREPROCESSING = PreprocessingConfig(image_size=(48, 64), reference='difference')


class Counted(SimulatedTouches):
    """Counts how many examples it renders."""

    rendered = 0

    def __getitem__(self, index):
        self.rendered += 1
        return super().__getitem__(index)


@pytest.mark.parametrize('mask', (0o022, 0o077))
def test_the_mode_follows_the_umask(tmp_path, mask):
    """A file of 0644 whatever the user wants."""
    before = os.umask(mask)
    try:
        path = RenderedTouches(SimulatedTouches(1, PREPROCESSING, 3), tmp_path).path
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def equal(a, b):
    return torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) and a[2] == b[2]


def test_examples_are_those_of_the_simulator_and_rendered_once(tmp_path):
    plain, touches = SimulatedTouches(6, PREPROCESSING, 3), Counted(6, PREPROCESSING, 3)
    kept = RenderedTouches(touches, tmp_path)
    assert len(kept) == 6
    for _ in range(2):
        assert all(equal(kept[i], plain[i]) for i in range(6))
    assert touches.rendered == 6
    with pytest.raises(IndexError, match='index is 6; must be 0 to 5'):
        kept[6]


def test_a_later_run_renders_nothing_again_and_may_ask_for_more_or_fewer(tmp_path):
    first = RenderedTouches(SimulatedTouches(3, PREPROCESSING, 3), tmp_path)
    wanted = [first[i] for i in range(3)]
    for size, new in ((3, 0), (5, 2), (2, 0)):
        again = Counted(size, PREPROCESSING, 3)
        kept = RenderedTouches(again, tmp_path)
        assert all(equal(kept[i], wanted[i]) for i in range(min(size, 3)))
        assert all(kept[i] for i in range(size)) and again.rendered == new


@pytest.mark.parametrize('place', [0, 4, 5, -1])
def test_an_example_that_was_not_written_whole_is_rendered_again(tmp_path, place):
    """A power cut may leave some pages of an example unwritten."""
    kept = RenderedTouches(SimulatedTouches(2, PREPROCESSING, 3), tmp_path)
    wanted = kept[1]
    data = bytearray(kept.path.read_bytes())
    data[len(data) // 2 + place % (len(data) // 2)] ^= 1
    kept.path.write_bytes(data)
    touches = Counted(2, PREPROCESSING, 3)
    assert equal(RenderedTouches(touches, tmp_path)[1], wanted)
    assert touches.rendered == 1


def test_other_pictures_go_into_another_file(tmp_path, monkeypatch):
    paths = {RenderedTouches(SimulatedTouches(1, p, s), tmp_path).path for p, s in (
        (PREPROCESSING, 3), (PREPROCESSING, 4), (dataclasses.replace(PREPROCESSING, image_size=(32, 32)), 3))}
    changed = tmp_path / 'simulator'
    changed.mkdir()
    (changed / '__init__.py').write_text('# another simulator')
    monkeypatch.setattr(rendered, 'simulator', SimpleNamespace(__file__=str(changed / '__init__.py')))
    paths.add(RenderedTouches(SimulatedTouches(1, PREPROCESSING, 3), tmp_path).path)
    assert len(paths) == 4


def read(kept, results):
    results.put([int(kept[i][0].sum()) for i in range(4)])


def test_several_processes_share_one_file(tmp_path):
    kept = RenderedTouches(SimulatedTouches(4, PREPROCESSING, 3), tmp_path)
    context = multiprocessing.get_context('fork')
    results = context.Queue()
    processes = [context.Process(target=read, args=(kept, results)) for _ in range(3)]
    for process in processes:
        process.start()
    sums = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    plain = SimulatedTouches(4, PREPROCESSING, 3)
    assert sums == [[int(plain[i][0].sum()) for i in range(4)]] * 3


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(DataError, match='cannot be written'):
        RenderedTouches(SimulatedTouches(1, PREPROCESSING), tmp_path / 'file' / 'folder')
    with pytest.raises(DataError, match='needs .* GB more'):
        RenderedTouches(SimulatedTouches(10**8, PREPROCESSING), tmp_path)


@pytest.mark.parametrize('interval', (0.08, 0.0))
def test_states_with_and_without_the_image_before(tmp_path, interval):
    """The reference or the frame in place of the image before; shapes from the file of the states."""
    preprocessing = PreprocessingConfig(image_size=(24, 32), reference='difference', motion_interval=interval)
    touches = SimulatedTouches(3, preprocessing, 3, task='states')
    kept = RenderedTouches(touches, tmp_path)
    for _ in range(2):
        assert all(equal(kept[i], touches[i]) for i in range(3))
    frame, previous, reference, state = sample_state_example(np.random.default_rng((3, 1)), 0.08)
    views = (frame, *previous) if interval else (frame,)
    assert equal(touches[1], (torch.cat([torch.from_numpy(fit(v, preprocessing)) for v in views], dim=2),
                              torch.from_numpy(fit(reference, preprocessing)), state))
    if not interval:
        assert kept.path != RenderedTouches(SimulatedTouches(3, preprocessing, 3), tmp_path).path


def test_shapes_have_no_motion():
    with pytest.raises(DataError, match='the simulated shapes are single images, .* or train with --task states'):
        SimulatedTouches(3, dataclasses.replace(PREPROCESSING, motion_interval=0.08))

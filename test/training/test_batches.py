"""Which examples an epoch holds, and that processes share them without one being lost or taken twice."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_training import Colours

from vit_tactile_ros.training.batches import (
    PIECE,
    EpochBatches,
    balanced,
    consecutive,
    make_loader,
    own_rows,
    resized,
    shuffled,
)
from vit_tactile_ros.training.distributed import Processes


def test_an_epoch_has_every_example_once_in_its_own_order():
    order = shuffled(50, seed=3)
    assert sorted(order(0)) == list(range(50))
    assert list(order(4)) == list(shuffled(50, seed=3)(4))  # a resumed run has the same epoch 4
    assert list(order(0)) != list(order(1)) != list(shuffled(50, seed=4)(1))


def test_consecutive_epochs_are_fresh():
    assert list(consecutive(3)(0)) == [0, 1, 2] and list(consecutive(3)(2)) == [6, 7, 8]


def test_balanced_draws_every_class_equally():
    """A rare class drowned, or one of its examples drawn again before all of its others."""
    labels = np.array([0] * 90 + [1] * 9 + [2] * 21)
    drawn = balanced(labels, seed=0)(1)
    assert len(drawn) == 120
    assert list(np.bincount(labels[drawn])) == [40, 40, 40]
    assert np.bincount(drawn, minlength=120)[:90].max() == 1
    assert set(np.bincount(drawn, minlength=120)[90:99]) <= {4, 5}
    assert list(drawn) == list(balanced(labels, seed=0)(1)) != list(balanced(labels, seed=0)(2))


@pytest.mark.parametrize('epoch_size', (3, 10, 25))
def test_resized_epochs_follow_one_another(epoch_size):
    """An example left out or drawn twice where one pass ends and the next begins."""
    order = shuffled(10, seed=0)
    joined = np.concatenate([resized(order, epoch_size)(epoch) for epoch in range(10)])
    assert list(joined) == list(np.concatenate([order(i) for i in range(25)]))[:10 * epoch_size]


@pytest.mark.parametrize('size', (1, 7, 8, 9, 20, 64, 67))
@pytest.mark.parametrize('count', (1, 2, 3, 5))
def test_processes_share_a_batch_out(size, count):
    """A row that two processes have, or none; a piece cut in two, whose augmentation would differ."""
    rows = [own_rows(size, Processes(rank, count)) for rank in range(count)]
    assert [i for own in rows for i in range(size)[own]] == list(range(size))
    assert all(own.start % PIECE == 0 for own in rows)
    pieces = [-(-(own.stop - own.start) // PIECE) for own in rows]
    assert max(pieces) - min(pieces) <= 1


def test_batches_of_processes_join_to_the_batches_of_one():
    order = shuffled(45, seed=0)
    whole = EpochBatches(order, 20)
    parts = [EpochBatches(order, 20, Processes(rank, 2)) for rank in (0, 1)]
    for batches in (whole, *parts):
        batches.epoch = 2
    assert [a + b for a, b in zip(*parts, strict=True)] == list(whole)
    assert whole.sizes() == [20, 20, 5] == [len(batch) for batch in whole]
    assert len(whole) == len(parts[0]) == len(parts[1]) == 3


@pytest.mark.parametrize('first', (1, 2, 3))
def test_batches_that_are_done_are_left_out(first):
    batches = EpochBatches(shuffled(45, seed=0), 20)
    whole, batches.first = list(batches), first
    assert list(batches) == whole[first:] and len(batches) == 3


@pytest.mark.parametrize('workers', (0, 1))
def test_a_loader_serves_one_epoch_after_another(workers):
    """Workers that live on with the order of the first epoch; a process without a share of a small batch."""
    frames = Colours(20)
    batches = EpochBatches(shuffled(20, seed=0), 16, Processes(1, 2))
    idle = own_rows(4, batches.processes).start == own_rows(4, batches.processes).stop
    loader = make_loader(frames, batches, workers, torch.device('cpu'))
    for epoch in (0, 1):
        batches.epoch = epoch
        first, second = list(loader)
        wanted = shuffled(20, seed=0)(epoch)[8:16]
        assert first[2].tolist() == frames.labels[wanted].tolist()
        assert torch.equal(first[0], frames.frames[wanted]) and torch.equal(first[1], frames.references[wanted])
        rest = shuffled(20, seed=0)(epoch)[16:]
        assert (second is None and idle) or second[2].tolist() == frames.labels[rest].tolist()


def test_workers_start_after_opencv_has_used_its_threads():
    """A fork has none of the threads of OpenCV, and a worker that ended them waited for ever."""
    program = ('import cv2, numpy as np, torch\n'
               'from toy_training import Colours\n'
               'from vit_tactile_ros.training.batches import EpochBatches, consecutive, make_loader\n'
               'cv2.setNumThreads(4)\n'
               'cv2.GaussianBlur(np.zeros((2000, 2000, 3), np.uint8), (31, 31), 5)\n'
               'batches = EpochBatches(consecutive(8), 4)\n'
               'print(len(list(make_loader(Colours(8), batches, 1, torch.device("cpu")))))')
    helpers = str(Path(__file__).parents[1] / 'helpers')
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, timeout=120,
                          env=os.environ | {'PYTHONPATH': f'{os.environ.get("PYTHONPATH", "")}:{helpers}'})
    assert done.stdout.split() == ['2'], done.stderr

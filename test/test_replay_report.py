"""From bags to a page and a comparison: replay --report, then compare on what it left."""

from __future__ import annotations

import json

import pytest
from html_page import Page, assert_self_contained
from toy_bags import write_bag
from toy_outputs import toy_checkpoint

from vit_tactile_ros import compare, replay
from vit_tactile_ros.evaluation.recordings.frame_table import FrameTable
from vit_tactile_ros.model import save_checkpoint

TOUCHES = ['nothing'] * 4 + ['ball', 'ball', 'edge', 'edge', 'weave', None]


@pytest.fixture(scope='module')
def replayed(tmp_path_factory):
    """The output folders of two replays, at tau 1 and 0.5."""
    folder = tmp_path_factory.mktemp('replay')
    save_checkpoint(folder / 'toy.safetensors', toy_checkpoint())
    bag = write_bag(folder / 'touch', {'left': TOUCHES, 'right': TOUCHES}, 'mcap')
    for tau in ('1', '0.5'):
        flags = ['--checkpoint', str(folder / 'toy.safetensors'), '--device', 'cpu', '--tau', tau, '--report',
                 '--output', str(folder / tau), '--timing_frames', '5']
        assert replay.main([str(bag), *flags, *(['--topics', '/left/image_raw', '/right/image_raw', '/no_such']
                                                if tau == '0.5' else [])]) == (tau == '0.5')
    return folder


def test_page_of_a_replay(replayed):
    """A page that misses what the replay was asked for, or that finds no picture in the bag that was just read."""
    table, page = FrameTable.read_csv(replayed / '0.5' / 'frames.csv'), Page(replayed / '0.5' / 'report.html')
    assert_self_contained(page, replayed / '0.5')
    assert 'Replay of touch' in page.text and '/no_such' in page.text and page.ids >= {'missing', 'mistakes'}
    assert page.images('photo') and 'no picture' not in page.text
    assert f'{100 * table.right[table.is_labelled].mean():.1f} %' in page.text
    assert 'missing' not in Page(replayed / '1' / 'report.html').ids


def test_compare_takes_replays(replayed, capsys):
    assert compare.main([str(replayed / '1'), str(replayed / '0.5')]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found['frames'] == 18 and found['all_frames'] == 20 and found['touches'] == 8 and found['few_touches']
    assert found['tau_a'] == [1, 1] and found['tau_b'] == [0.5, 0.5]
    assert found['estimates']['compute_a']['value'] == 1.0 and found['estimates']['compute']['value'] < 0

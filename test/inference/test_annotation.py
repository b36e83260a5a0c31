"""The annotated image, without a node around it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from vit_tactile_ros.inference import annotation
from vit_tactile_ros.inference.annotation import Annotated, draw
from vit_tactile_ros.inference.classifier import Decision
from vit_tactile_ros.inference.closer import Closer

NAMES = ('no_contact', 'ball', 'edge', 'a class with a name that is far too long for its bar')
TOP, RIGHT = annotation.MARGIN + 16, 2 * annotation.MARGIN + annotation.PANEL


def content(shape=(224, 224), exit_index=1, exit_block=8, difference=0, reference=True, touch='ball', age=0.0123):
    image = np.full((*shape, 3), 100, np.uint8)
    image[:, : shape[1] // 2, 0] += difference  # red, in the left half
    decision = Decision(1, 'ball', 0.8, np.array([0.1, 0.8, 0.06, 0.04], np.float32), exit_index, exit_block,
                        np.array([0.4, 0.8], np.float32), (0.9, 0.7), 0.6, 0.01)
    return Annotated(image, image, np.full((*shape, 3), 100, np.float32) if reference else None, decision, NAMES,
                     (4, 8, 12), age, touch, 'left')


def test_an_enlarged_part_is_marked_in_the_whole_image():
    """The part in place of the whole image: nobody sees where on the gel the contact is."""
    whole, part = content(), np.full((224, 224, 3), 140, np.uint8)
    closer = Closer(part, part, 2.0, (0.25, 0.5, 0.5, 0.5))
    drawn = draw(dataclasses.replace(whole, image=part, closer=closer))
    rows, columns = np.nonzero((drawn[TOP:TOP + annotation.PANEL, :RIGHT] == annotation._TOUCH).all(axis=2))
    assert abs(rows.min() - 58) <= 1 and abs(rows.max() - 173) <= 2  # a quarter and three quarters of 232 px
    assert abs(columns.min() - annotation.MARGIN - 116) <= 1
    assert drawn[TOP + 100, RIGHT + 100].tolist() == [255] * 3  # 40 grey levels, four times


def test_the_difference_is_amplified_in_its_place():
    """Channels swapped, a difference of uint8 that wraps, or a contact of 10 grey levels that nobody can see."""
    drawn = draw(content(difference=10))
    middle = TOP + annotation.PANEL // 2
    assert drawn[middle, annotation.MARGIN + 10].tolist() == [110, 100, 100]
    assert drawn[middle, RIGHT + 10].tolist() == [128 + 10 * annotation.GAIN, 128, 128]
    assert drawn[middle, RIGHT + annotation.PANEL - 10].tolist() == [128, 128, 128]


def test_bars_and_exits():
    """A bar as long as another class's, or blocks that did not run shown as if they had."""
    drawn = draw(content())
    y = TOP + annotation.PANEL + annotation.MARGIN + 2
    first = drawn[y, annotation.MARGIN:annotation.MARGIN + annotation.PANEL]
    assert (first == annotation._FIRST).all(axis=1).sum() == round(0.8 * annotation.PANEL)
    blocks = drawn[y, RIGHT:RIGHT + annotation.PANEL]
    assert (blocks == annotation._FIRST).all(axis=1).mean() == pytest.approx(2 / 3, abs=0.03)
    none_ran = draw(content(exit_index=-1, exit_block=0))[y, RIGHT:RIGHT + annotation.PANEL]
    assert not (none_ran == annotation._FIRST).all(axis=1).any()


@pytest.mark.parametrize('shape', [(224, 224), (32, 48), (480, 640), (320, 240), (24, 200)])
def test_any_proportions(shape):
    """An image larger than the shared memory of Fast DDS, or one that does not fit into its panel."""
    for other in (content(shape), content(shape, reference=False, touch='', age=None),
                  content(shape, exit_index=2, exit_block=12, touch='no_contact')):
        drawn = draw(other)
        assert drawn.shape[1] == annotation.WIDTH and drawn.nbytes < 500_000
        assert drawn[TOP + 5, annotation.MARGIN + annotation.PANEL // 2].tolist() == [100, 100, 100]

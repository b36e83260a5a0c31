"""The exit before the first block: noise, light and faint contacts."""

import cv2
import numpy as np
import pytest

from vit_tactile_ros.inference.gate import LARGEST_SHIFT, NARROW_ODDS, TOUCH_ODDS, Gate, Verdict, to_cells

SIZE = (96, 128, 3)


def frames(count: int, noise: float = 2.0, seed: int = 0) -> list[np.ndarray]:
    """Differences of untouched frames to the reference; noise of a pixel, in grey levels."""
    rng = np.random.default_rng(seed)
    return [rng.normal(0, noise, SIZE).astype(np.float32) for _ in range(count)]


def bump(height: float, radius: int = 10) -> np.ndarray:
    """A faint press, one colour brighter and one darker."""
    spot = np.zeros(SIZE[:2], np.float32)
    cv2.circle(spot, (60, 40), radius, height, -1)
    return np.stack([spot, -spot, np.zeros_like(spot)], axis=-1)


def trained(noise: float = 2.0) -> Gate:
    gate = Gate()
    gate.restart()
    for difference in frames(60, noise):
        gate.judge(to_cells(difference))
    return gate


def test_untouched_frames_pass_and_faint_contacts_do_not():
    gate = trained()
    assert all(gate.judge(to_cells(d)).is_untouched for d in frames(100, seed=1))
    for height in (4.0, 5.0, 12.0):
        verdict = gate.judge(to_cells(frames(1)[0] + bump(height)))
        assert not verdict.is_untouched and 0 < verdict.touched_share < 0.1


def test_a_smooth_change_of_light_is_no_touch():
    """Up to a limit, beyond which the network decides."""
    gate = trained()
    plane = np.linspace(-1, 1, SIZE[1], dtype=np.float32)[None, :, None] * np.array([1.0, -0.5, 0.2], np.float32)
    small = gate.judge(to_cells(frames(1)[0] + 0.7 * LARGEST_SHIFT * plane))
    large = gate.judge(to_cells(frames(1)[0] + 1.5 * LARGEST_SHIFT * plane))
    assert small.is_untouched and large.is_still and not large.is_untouched
    assert large.shift == pytest.approx(1.5 * LARGEST_SHIFT, rel=0.1)


@pytest.mark.parametrize('share', [0.1, 0.25, 0.4])
def test_a_wide_touch_is_where_it_is(share):
    """It neither seems to be a change of light, nor to be everywhere."""
    gate = trained()
    radius = round((share * SIZE[0] * SIZE[1] / np.pi) ** 0.5)
    verdict = gate.judge(to_cells(frames(1)[0] + bump(30.0, radius)))
    assert share - 0.05 < verdict.touched_share < share + 0.15 and verdict.shift < 0.5 and not verdict.is_still


def test_a_touch_is_as_probable_as_its_difference_is_large():
    """Odds for noise, without a limit, or for a difference that is everywhere."""
    gate = trained()
    odds = [gate.judge(to_cells(frames(1)[0] + bump(height))).touch_odds for height in (0.0, 4.0, 30.0)]
    assert odds[0] == 1 and 1 < odds[1] <= odds[2] == pytest.approx(TOUCH_ODDS)
    assert Verdict(3.0, 0, 0.1).touch_odds == 1 and Verdict(5.5, 0, 0.1).touch_odds == pytest.approx(TOUCH_ODDS**0.5)
    assert Verdict(50.0, 0, 0.95).touch_odds == 1  # another light or gel


def test_a_narrow_difference_does_not_overrule_a_certain_network():
    """Stray light of a ball beside the gel, in 4 of 192 cells, was taken for contact in a row of frames."""
    most = [Verdict(50.0, 0, cells / 192).touch_odds for cells in (1, 3, 6, 8)]
    assert most[:2] == pytest.approx([NARROW_ODDS] * 2) and NARROW_ODDS < most[2] < most[3] == pytest.approx(TOUCH_ODDS)
    faint = Verdict(4.0, 0, 0.01).touch_odds
    assert 1 < faint < NARROW_ODDS and faint == pytest.approx(Verdict(4.0, 0, 0.1).touch_odds)  # not reduced twice


def test_the_noise_is_learned_where_it_is():
    """A spot that flickers more and more, as one of a codec: it stays untouched, but a touch elsewhere is seen."""
    gate = trained()
    assert not gate.judge(to_cells(frames(1)[0] + bump(4.5))).is_untouched
    strengths = np.linspace(1.0, 4.5, 300) * (-1.0) ** np.arange(300)
    assert all(gate.judge(to_cells(d + bump(s))).is_untouched for d, s in zip(frames(300, seed=3), strengths))
    elsewhere = np.roll(bump(4.5), 40, axis=1)
    assert not gate.judge(to_cells(frames(1)[0] + elsewhere)).is_untouched


def test_a_contact_does_not_become_noise():
    """A press that is held for 300 frames is seen to its end, and so is the next one there."""
    gate = trained()
    held = [gate.judge(to_cells(d + bump(5.0))).is_untouched for d in frames(300)]
    assert not any(held)


def test_other_sizes():
    """The cells are about square, 12 along the shorter side."""
    assert to_cells(np.zeros((96, 128, 3), np.uint8)).shape == (12, 16, 3)
    assert to_cells(np.zeros((224, 224, 3), np.uint8)).shape == (12, 12, 3)
    assert to_cells(np.zeros((8, 10, 3), np.uint8)).shape == (8, 10, 3)
    gate = Gate()
    assert gate.judge(to_cells(np.zeros((96, 128, 3), np.float32))).is_untouched
    assert gate.judge(to_cells(np.zeros((64, 64, 3), np.float32))).is_untouched  # another resolution: starts again


@pytest.mark.parametrize('size', (SIZE, (224, 224, 3)))
def test_cells_do_not_depend_on_the_order_in_memory(size):
    """Another mean of a reference, whose channels lie one after the other, than of the same image."""
    image = np.random.default_rng(0).uniform(0, 255, size).astype(np.float32)
    planar = np.array(image.transpose(2, 0, 1), order='C').transpose(1, 2, 0)
    assert not planar.flags.c_contiguous
    np.testing.assert_array_equal(to_cells(planar), to_cells(image))


def test_a_change_is_measured_with_its_light():
    """A change of light between two images of a touch that nobody notices, since the gate takes light out."""
    gate, flat = trained(), np.zeros(SIZE, np.float32)
    assert gate.change(to_cells(flat)) == 0
    noise = float(np.sqrt(gate.variance.max()))
    assert gate.change(to_cells(flat + 4 * noise)) >= 4 * (1 - 1e-6)
    assert gate.judge(to_cells(flat + 4 * noise)).is_still

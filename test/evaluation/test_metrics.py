"""Metrics on samples that can be counted by hand."""

import math

import numpy as np
import pytest

from vit_tactile_ros.evaluation import metrics

LABELS = np.array([0, 0, 0, 0, 1, 1])
ANSWERS = np.array([0, 0, 0, 1, 1, 0])


def test_balanced_accuracy():
    """The plain accuracy, 4 of 6, or one that counts classes without samples as wrong."""
    assert metrics.balanced_accuracy(LABELS, ANSWERS) == pytest.approx((3 / 4 + 1 / 2) / 2)


def test_confusion_rows_are_the_labels():
    """A transposed matrix, or one without the classes that do not occur."""
    assert metrics.confusion(LABELS, ANSWERS, 3).tolist() == [[3, 1, 0], [1, 1, 0], [0, 0, 0]]


def test_per_class_accuracy():
    """A class without samples shown with accuracy 0."""
    accuracy = metrics.per_class_accuracy(LABELS, ANSWERS, 3)
    assert accuracy[:2].tolist() == [0.75, 0.5] and math.isnan(accuracy[2])


def test_calibration_error_by_hand():
    """Gaps that cancel between bins, or are not weighted by their samples."""
    confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55])
    right = np.array([True, True, True, False, True, True])
    # 4 samples of gap 0.2, 2 of gap 0.45
    assert metrics.expected_calibration_error(confidence, right) == pytest.approx((4 * 0.2 + 2 * 0.45) / 6)


@pytest.mark.parametrize('confidence', (0.0, 1.0, 1 / 15))
def test_edges_fall_into_a_bin(confidence):
    """A confidence of exactly 1 (float32 softmax reaches it) outside of every bin."""
    bins = metrics.reliability(np.array([confidence]), np.array([True]))
    assert bins.counts.sum() == 1 and bins.ece == pytest.approx(1 - confidence)

"""Classification metrics from numpy arrays of class indices or confidences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

Ints = NDArray[np.int64]
Floats = NDArray[np.floating]


def balanced_accuracy(labels: Ints, predictions: Ints) -> float:
    """Mean recall of the classes that occur, 0..1."""
    return float(metrics.recall_score(labels, predictions, labels=np.unique(labels), average='macro',
                                      zero_division=0.0))


def confusion(labels: Ints, predictions: Ints, num_classes: int) -> Ints:
    """Counts, (num_classes, num_classes): rows are true classes, columns predictions."""
    counts: Ints = metrics.confusion_matrix(labels, predictions, labels=np.arange(num_classes))
    return counts


def per_class_accuracy(labels: Ints, predictions: Ints, num_classes: int) -> Floats:
    """Accuracy of each class, (num_classes,); NaN for a class without samples."""
    counts = np.bincount(labels, minlength=num_classes)
    right = np.bincount(labels[labels == predictions], minlength=num_classes)
    return np.where(counts > 0, right / np.maximum(counts, 1), np.nan)


@dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy in equally wide bins of confidence (Naeini et al. 2015; Guo et al. 2017)."""

    edges: Floats  # (bins + 1,), 0..1
    counts: Ints  # (bins,)
    confidence: Floats  # (bins,), mean; NaN in an empty bin
    accuracy: Floats  # (bins,); NaN in an empty bin

    @property
    def ece(self) -> float:
        """Expected calibration error, 0..1: mean gap between confidence and accuracy, weighted by the counts."""
        filled = self.counts > 0
        gaps = np.abs(self.confidence[filled] - self.accuracy[filled])
        return float((gaps * self.counts[filled]).sum() / self.counts.sum())


def reliability(confidence: Floats, right: NDArray[np.bool_], bins: int = 15) -> Reliability:
    """Bins of samples by their confidence, (N,) in 0..1; `right`: whether each prediction is correct."""
    edges = np.linspace(0.0, 1.0, bins + 1)
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)  # a bin includes its upper edge
    counts = np.bincount(place, minlength=bins)
    with np.errstate(invalid='ignore'):
        return Reliability(edges, counts, np.bincount(place, confidence, bins) / counts,
                           np.bincount(place, right.astype(float), bins) / counts)


def expected_calibration_error(confidence: Floats, right: NDArray[np.bool_], bins: int = 15) -> float:
    return reliability(confidence, right, bins).ece

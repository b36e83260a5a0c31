"""Every figure is drawn for unusual cases: one exit, six exits, fifty classes, empty bins."""

import cv2
import numpy as np
import pytest
from toy_outputs import toy_outputs

from vit_tactile_ros.evaluation import figures
from vit_tactile_ros.evaluation.metrics import reliability
from vit_tactile_ros.evaluation.resampling import check_promise


def assert_picture(figure, path):
    figures.save_figure(figure, path)
    picture = cv2.imread(str(path))
    assert min(picture.shape[:2]) > 300 and picture.std() > 5
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize('exits', (1, 3, 6))
def test_trade_off(tmp_path, exits):
    """A figure for three exits only; overlapping points."""
    points = [figures.TradeOff(t, 0.9 - 0.0001 * i, 0.1 * i, (1 / exits,) * exits)
              for i, t in enumerate(np.linspace(0.99, 0.6, 5))]
    figure = figures.trade_off_figure(points, 0.9, tuple(range(1, exits + 1)), 'toy')
    assert_picture(figure, tmp_path / 'a.png')


@pytest.mark.parametrize('classes', (2, 50))
def test_classes(tmp_path, classes):
    """Fifty class names that overlap or are cut off; a class without samples."""
    names = [f'a rather long class name {i}' for i in range(classes)]
    counts = np.eye(classes, dtype=int) * 7
    counts[1] = 0
    (tmp_path / 'a').mkdir()
    assert_picture(figures.confusion_figure(counts, names, 'toy'), tmp_path / 'a' / 'a.png')
    accuracies = np.full((classes, 4), 0.8)
    accuracies[1] = np.nan
    (tmp_path / 'b').mkdir()
    assert_picture(figures.per_class_figure(accuracies, ['1', '2', '3', 'tau'], names, 'toy'), tmp_path / 'b' / 'b.png')


@pytest.mark.parametrize('exits', (1, 3, 5))
def test_reliability(tmp_path, exits):
    """More exits than fit into a row; bins without samples."""
    bins = [reliability(np.array([0.5, 0.9]), np.array([True, False]))] * exits
    figure = figures.reliability_figure(bins, tuple(range(exits)), (0.5,) * exits, 'toy')
    assert_picture(figure, tmp_path / 'a.png')


def test_promise(tmp_path):
    """A bound that could not be verified."""
    checks = check_promise(toy_outputs(300), (0.001, 0.05), rounds=3)
    assert_picture(figures.promise_figure(checks, 0.95), tmp_path / 'a.png')


def test_a_failed_write_keeps_the_old_figure(tmp_path, monkeypatch):
    """A full disk that leaves an incomplete figure."""
    figure = figures.trade_off_figure([figures.TradeOff(0.8, 0.9, 0.5, (1.0,))], 0.9, (1,), 'toy')
    path = tmp_path / 'a.png'
    path.write_bytes(b'old')
    monkeypatch.setattr(type(figure), 'savefig', lambda self, file, **_: (file.write_bytes(b'half'), 1 / 0))
    with pytest.raises(ZeroDivisionError):
        figures.save_figure(figure, path)
    assert path.read_bytes() == b'old' and list(tmp_path.iterdir()) == [path]


def test_names_with_dollars_are_drawn_as_they_are(tmp_path):
    """matplotlib parses text between two dollars as mathematics, and fails if it is not."""
    names = ('$5 coin$', r'$\frac{1$')
    assert_picture(figures.confusion_figure(np.eye(2, dtype=np.int64), names, '$bag_$ {x}'), tmp_path / 'a.png')
    figure = figures.confusion_figure(np.eye(2, dtype=np.int64), names, 'toy')
    figures.save_figure(figure, tmp_path / 'b.png')
    axes = figure.axes[0]
    assert not any(t.get_parse_math() for t in (axes.title, *axes.get_xticklabels(), *axes.get_yticklabels()))

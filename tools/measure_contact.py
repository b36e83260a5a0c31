"""Contact frame by frame on recorded clips, against contacts labelled by eye: missed and false, by grey level.

    python tools/measure_contact.py --clips FOLDER --contacts FILE [--checkpoint FILE]

FILE is a CSV of clip,first,last: frames of a clip, 0-based, with visible contact. Every clip is judged with its own
first frames as the no-contact reference, and its untouched frames again with the first frames of every other clip,
which shows what a reference costs that no longer fits. Frames are judged in order as by the node, with the gate and
what it knows of a touch; with --no_gate each frame alone, by the network. The grey level of a frame is the highest
mean over 5x5 px (of the network's input) of the difference to its own reference, in the channel where it is highest.
Prints a table; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vit_tactile_ros.inference.classifier import TactileClassifier
from vit_tactile_ros.inference.reference import REFERENCE_FRAMES, Reference
from vit_tactile_ros.inference.reference_monitor import ReferenceMonitor
from vit_tactile_ros.inference.touch_events import NO_CONTACT
from vit_tactile_ros.model import load_checkpoint, shipped_checkpoint

sys.path.insert(0, str(Path(__file__).parent))
from measure_touch_events import contacts_of, recorded

STEP_NS = 40_000_000  # between two frames
MARGIN = 2  # frames beside the begin and end of a contact that are not judged: the eye does not see it sooner
LEVELS = ((0, 3), (3, 5), (5, 8), (8, 12), (12, 256))  # grey levels of the touched frames
OFFSETS = ((0, 1.5), (1.5, 6), (6, 256))  # grey levels, mean over the image, that another clip's reference is off


class Clip:
    """The fitted frames of a clip, (n, h, w, 3), its reference, and which frames are touched."""

    def __init__(self, path: Path, contacts: list[tuple[int, int]], classifier: TactileClassifier) -> None:
        self.name = path.stem
        self.frames = [classifier.fit(image) for image, _label in recorded(path, contacts)]
        self.reference = np.mean(self.frames[:REFERENCE_FRAMES], axis=0, dtype=np.float64).astype(np.float32)
        numbers = np.arange(len(self.frames))
        self.touched = np.zeros(len(numbers), bool)
        self.judged = np.ones(len(numbers), bool)
        self.onsets = []
        for first, last in contacts:
            self.touched[first:last + 1] = True
            for end in (first, last):
                self.judged[max(0, end - MARGIN):end + MARGIN + 1] = False
            self.onsets.append((first, last))
        self.level = np.array([peak(frame, self.reference) for frame in self.frames])


def peak(frame: NDArray[np.uint8], reference: NDArray[np.float32]) -> float:
    return float(np.abs(cv2.blur(frame.astype(np.float32) - reference, (5, 5))).max())


def is_touched(frames: Sequence[NDArray[np.uint8]], reference: NDArray[np.float32], classifier: TactileClassifier,
               tau: float, gate: bool) -> NDArray[np.bool_]:
    """Whether the prediction is contact, for each of these fitted frames in the order of time."""
    monitor = ReferenceMonitor(Reference(fixed=np.rint(reference).astype(np.uint8)))
    found = np.zeros(len(frames), bool)
    thresholds = classifier.thresholds(tau)
    for number, frame in enumerate(frames):
        if gate:
            monitor.check(frame, number * STEP_NS)
            if monitor.is_untouched and classifier.untouched(thresholds):
                continue
        seen = monitor.reference.frame if gate else reference
        decision, = classifier.classify([frame], [seen], thresholds,
                                        touch_odds=[monitor.touch_odds] if gate else None)
        found[number] = decision.class_name != NO_CONTACT
    return found


def measure(clips: list[Clip], classifier: TactileClassifier, tau: float, gate: bool) -> dict[str, Any]:
    missed: dict[str, list[bool]] = defaultdict(list)
    false: dict[str, list[bool]] = defaultdict(list)
    late, unnoticed = [], []
    for clip in clips:
        called = is_touched(clip.frames, clip.reference, classifier, tau, gate)
        for low, high in LEVELS:
            rows = clip.judged & clip.touched & (clip.level >= low) & (clip.level < high)
            missed[f'{low} to {high}'] += (~called[rows]).tolist()
        false['own'] += called[clip.judged & ~clip.touched].tolist()
        for first, last in clip.onsets:
            seen = np.flatnonzero(called[first:last + 1])
            if len(seen):
                late.append(int(seen[0]))
            else:
                unnoticed.append(clip.name)
        untouched = [clip.frames[row] for row in np.flatnonzero(clip.judged & ~clip.touched)[::10]]
        for other in clips:
            if other is not clip:
                off = float(np.abs(other.reference - clip.reference).mean())
                span = next(f'{low:g} to {high:g} off' for low, high in OFFSETS if low <= off < high)
                false[span] += is_touched(untouched, other.reference, classifier, tau, gate).tolist()
    share = lambda found: {name: {'share': round(float(np.mean(v)), 4), 'n': len(v)}  # noqa: E731
                           for name, v in found.items() if v}
    return {'missed touched frames, by grey levels': share(missed), 'false touches, by reference': share(false),
            'contacts': {'n': len(late) + len(unnoticed), 'unnoticed': unnoticed, 'frames late, median and p90':
                         [float(np.percentile(late, q)) for q in (50, 90)] if late else []}}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--clips', type=Path, required=True, help='folder of video files')
    parser.add_argument('--contacts', type=Path, required=True, help='CSV of clip,first,last')
    parser.add_argument('--checkpoint', type=Path, help='default: the shipped one')
    parser.add_argument('--tau', type=float, default=1.0, help='exit threshold; 1: all blocks (default: 1)')
    parser.add_argument('--no_gate', action='store_true', help='each frame alone, by the network')
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    classifier = TactileClassifier(load_checkpoint(arguments.checkpoint or shipped_checkpoint()), engine='auto')
    contacts = contacts_of(arguments.contacts)
    clips = [Clip(arguments.clips / name, spans, classifier) for name, spans in contacts.items()]
    found = measure(clips, classifier, arguments.tau, not arguments.no_gate)
    for title, rows in found.items():
        print(title)
        for name, value in rows.items():
            print(f'  {name:24} {value}')
    print(json.dumps(found))


if __name__ == '__main__':
    main()

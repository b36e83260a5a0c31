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
import sys
from functools import partial
from pathlib import Path

import torch

from vit_tactile_ros.evaluation.touchbench.clips import contacts_of
from vit_tactile_ros.evaluation.touchbench.contact import Clip, is_touched, judged, measure
from vit_tactile_ros.inference.classifier import TactileClassifier
from vit_tactile_ros.model import load_checkpoint, shipped_checkpoint

sys.path.insert(0, str(Path(__file__).parent))
from titled_rows import report


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--clips', type=Path, required=True, help='folder of video files')
    parser.add_argument('--contacts', type=Path, required=True, help='CSV of clip,first,last')
    parser.add_argument('--checkpoint', type=Path, help='default: the shipped one')
    parser.add_argument('--tau', type=float, default=1.0, help='exit threshold; 1: all blocks (default: 1)')
    parser.add_argument('--no_gate', action='store_true', help='each frame alone, by the network')
    parser.add_argument('--events', action='store_true',
                        help='frames count as touched while a touch is reported, from its ONSET to its RELEASE; '
                             'without the references of other clips')
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    classifier = TactileClassifier(load_checkpoint(arguments.checkpoint or shipped_checkpoint()), engine='auto')
    contacts = contacts_of(arguments.contacts)
    clips = [Clip(arguments.clips / name, spans, classifier) for name, spans in contacts.items()]
    judge = partial(is_touched, classifier=classifier, tau=arguments.tau, gate=not arguments.no_gate,
                    events=arguments.events)
    report(measure(clips, judged(clips, judge), None if arguments.events else judge))


if __name__ == '__main__':
    main()

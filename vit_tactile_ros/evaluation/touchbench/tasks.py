"""The tasks: where the data is from and how it is cut, what is kept apart, the metric and the controls."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vit_tactile_ros.data.table import DataError


@dataclass(frozen=True)
class Task:
    """What `--list` and the documentation show of a task."""

    question: str
    needs: tuple[str, ...]  # files and folders below --data; a pattern matches one or more
    data: str  # where to fetch it, licence
    cut: str
    split: str
    metric: str
    controls: str

    def check(self, folder: Path, name: str) -> None:
        """Raises DataError where the data is absent."""
        for pattern in self.needs:
            if not any(folder.glob(pattern)):
                raise DataError(f'{folder / pattern} does not exist; the task {name} needs: {self.cut} Source: '
                                f'{self.data}. Name the folder with --data, or leave the task out with --tasks')


OCTOPI = ('Octopi / PhysiCLeAR (clear-nus/octopi, RSS 2024, arXiv 2405.02794), videos of a GelSight without markers; '
          'no licence stated: only to measure, not to train what is published')
GRASPS = ('Incipient-Slip-Detection (amitparag/Incipient-Slip-Detection), videos of a GelSight Mini with markers; '
          'BSD-2-Clause')
PRESSES = ('gelsight_touches/labels.csv with the columns image, reference, object, press, {}; six frames of each '
           'press, evenly spaced over the contact, 320x240 px, and as reference a frame of it without contact.')
OBJECTS = ('gelsight_grasps/index.csv with the columns file, object, exp_num (the grasp), gel and split (train, {}), '
           'reference_gelA.png and so on, the median image of each gel; 12 frames of each grasp, object held.')


def _property(question: str, label: str) -> Task:
    return Task(question, ('gelsight_touches/labels.csv',), OCTOPI, PRESSES.format(label),
                'folds that keep objects apart', 'balanced accuracy per press, log probabilities averaged over its '
                'frames; interval over objects', 'border: only the outer 15 % is shown; reference: the frame without '
                'contact instead of the touch')


def _object(question: str, split: str, what: str) -> Task:
    return Task(question, ('gelsight_grasps/index.csv',), GRASPS, OBJECTS.format(split), what,
                'accuracy per frame, mean over objects; interval over objects',
                'border: only the outer 15 % is shown')


TASKS = {
    'roughness': _property('How rough is an object that was never touched before: smooth, slightly rough or rough?',
                           'roughness'),
    'bumps': _property('Has it no, small or big bumps?', 'bumps'),
    'hardness': _property('Is it soft, moderately hard or hard?', 'hardness'),
    'object': _object('Which of 19 objects is held, in a pose that was not trained on?', 'test_pose',
                      'grasps of another pose are tested'),
    'object_gel': _object('Which object is held, on a gel that was not trained on?', 'cross_gel',
                          'trained on one gel, tested on the other'),
    'shape': Task('Is a ball recognised on real sensors, without training?', ('gelsight_calibration/*/presses.csv',),
                  'Taxim (Robo-Touch/Taxim), ball presses of a GelSight; MIT',
                  'gelsight_calibration/SENSOR/presses.csv with the column image, one press of a ball each, and '
                  'reference.png beside it, for each sensor.', 'nothing is trained on these images',
                  'share of the presses that are predicted as sphere; exact interval', 'border: only the outer 15 % is '
                  'shown'),
    'contact': Task('Is the gel touched, frame by frame?', ('gelsight_clips',), OCTOPI,
                    'gelsight_clips/ with whole videos of presses, and a CSV of clip,first,last with the frames of '
                    'each contact as seen by eye (--contacts).',
                    'hand-made: the threshold of a clip is chosen on the others; checkpoint: nothing is trained',
                    'balanced accuracy of the frames, those touched by at least 5 grey levels against those untouched, '
                    'two frames around each begin and end of contact apart; interval over clips',
                    'border: only the outer 15 % is shown'),
    'slip': Task('Does the object slip out of the grasp?', ('gelsight_slip/grasps.csv',), GRASPS,
                 'gelsight_slip/grasps.csv with the columns grasp, object, outcome (slip, stable), finger, file; whole '
                 'grasps (close, lift, shake, put back), 25 frames/s.',
                 'folds that keep objects apart, for the threshold and the hand-made figures',
                 'balanced accuracy per grasp, log odds averaged over its fingers; interval over objects',
                 'still: a still frame instead of the motion; length: only the length of the clip'),
}


def listing() -> str:
    """All tasks as text."""
    lines = []
    for name, task in TASKS.items():
        lines += [f'{name}: {task.question}', f'  data      {task.data}', f'  cut       {task.cut}',
                  f'  split     {task.split}', f'  metric    {task.metric}', f'  controls  {task.controls}', '']
    return '\n'.join(lines)

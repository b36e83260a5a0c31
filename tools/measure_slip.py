"""Slip on recorded grasps whose label says of the whole grasp whether the object slipped.

    python tools/measure_slip.py --grasps gelsight_slip/grasps.csv --checkpoint models/tactile_slip.safetensors

No image is used for training. Scores, folds and controls are those of vit_tactile_ros/evaluation/touchbench/slip.py,
which explains them; `vit-tactile touchbench --tasks slip` shows fewer of them, in one process. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vit_tactile_ros.evaluation.touchbench.slip import LENGTH, SCORES, judge, read_grasps, references_for, scores_of


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--grasps', type=Path, required=True, help='CSV of the clips')
    parser.add_argument('--checkpoint', type=Path, required=True, help='checkpoint of states')
    parser.add_argument('--processes', type=int, default=2, help='processes that classify (default: 2)')
    arguments = parser.parse_args(argv)
    grasps = read_grasps(arguments.grasps)
    truth = grasps.slipped
    results: dict[str, object] = {'grasps': len(truth), 'slipped': int(truth.sum())}
    with ProcessPoolExecutor(arguments.processes, get_context('spawn')) as pool:  # a fork hangs in torch
        references = references_for(grasps, arguments.checkpoint, partial(_mapped, pool))
        print(f'{"score":18}{"AUC":>8}{"balanced":>10}{"both outcomes: AUC":>20}{"balanced":>10}{"false":>8}'
              f'{"found at 5 % false":>20}')
        for still in (False, True):
            scores = scores_of(grasps, references, arguments.checkpoint, still, partial(_mapped, pool))
            for name in (*SCORES, *(() if still else (LENGTH,))):
                label = f'{name}{", still" if still else ""}'
                found = results[label] = judge(scores[name], truth, grasps.objects)
                print(f'{label:18}{found["auc"]:8.3f}{found["balanced"]:10.3f}{found["auc_both_outcomes"]:20.3f}'
                      f'{found["balanced_both_outcomes"]:10.3f}{found["false_alarms"]:8.3f}'
                      f'{found["found_at_5_percent_false"]:20.3f}')
    print(json.dumps(results))


def _mapped(pool: ProcessPoolExecutor, do: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterable[Any]:
    return tqdm(pool.map(do, tasks), total=len(tasks))


if __name__ == '__main__':
    main()

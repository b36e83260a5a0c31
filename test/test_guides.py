"""The guides' commands run as printed, one after the other, on toy data: what one writes is what the next one reads."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from documentation import ROOT, commands, of_package
from toy_bags import write_bag
from toy_parquet import images, write_lerobot, write_parquet
from toy_touches import write_picture

# Appended to what a guide prints, to take seconds: of an option that is given twice, argparse takes the last.
SMALLER = {
    'train': '--epochs 1 --batch_size 8 --workers 0 --device cpu --exits 1 2 --image_size 32 32'.split(),
    'sweep': '--n_steps 2 --timing_images 2 --timing_rounds 1'.split(),
    'replay': '--timing_frames 2'.split(),
    'compare': '--resamples 100'.split(),
    'calibrate --check': '--check 5'.split(),
    'calibrate --token_threshold': '--size 40'.split(),  # of the shipped network, on simulated touches
}


@pytest.fixture
def toy_world(tmp_path, monkeypatch, request) -> Path:
    """The inputs that the guides speak of, in the current folder."""
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on a busy machine torch's threads spend most of their time waiting for one another
    request.addfinalizer(lambda: torch.set_num_threads(threads))
    number = iter(range(1000))
    for name in ('bolt', 'nut'):
        for group in range(40):
            for image in range(4):
                write_picture(Path('touches', name, f'{name}{group}__{image}.png'), next(number))
    write_picture(Path('touches', 'reference.png'), 1000)
    names = ['no_contact'] * 6 + ['sphere'] * 6 + ['no_contact'] * 6 + ['edge'] * 6
    for folder in ('bags', 'recordings'):
        Path(folder).mkdir()
        write_bag(Path(folder, 'first'), {'left': [*names, *names]})
    Path('intervals.csv').write_text('start,end,label\n' + ''.join(
        f'{0.6 * i:.1f},{0.6 * (i + 1):.1f},{label}\n' for i, label in enumerate(
            ('no_contact', 'sphere', 'no_contact', 'edge') * 2)))
    return tmp_path


def run(guide: str, *wanted: str) -> list[str]:
    """Run the commands of a guide that are among `wanted`, in the order of the page; their names."""
    done = []
    for command in commands(ROOT / 'docs' / 'guides' / guide):
        name, arguments = of_package(command.text) or ('', [])
        if name not in wanted:
            continue
        if name == 'compare' and not Path(arguments[0]).exists():
            for folder in arguments[:2]:  # the guide speaks of two replays that it does not print
                shutil.copytree('runs/replay', folder)
        if name == 'extract':
            shutil.rmtree(arguments[arguments.index('--output') + 1], ignore_errors=True)
        flag = next((f' {flag}' for flag in ('--check', '--token_threshold') if flag in arguments), '')
        smaller = SMALLER.get(f'{name}{flag}', [])
        code = importlib.import_module(f'vit_tactile_ros.{name}').main([*arguments, *smaller])
        assert code == 0, f'{command}: {command.text}'
        done.append(name)
    return done


def test_train_calibrate_sweep(toy_world):
    """The folder of images becomes a calibrated checkpoint, which `sweep` and `calibrate --check` take."""
    first = commands(ROOT / 'docs' / 'guides' / 'train.md')[0]
    name, arguments = of_package(first.text)
    assert name == 'train' and importlib.import_module('vit_tactile_ros.train').main(
        [*arguments, *SMALLER['train']]) == 0
    assert run('speed.md', 'calibrate', 'sweep') == ['sweep', 'calibrate', 'calibrate', 'calibrate']


def test_replay_report_compare_extract_train(toy_world):
    """Recordings are replayed, compared, extracted, and what is extracted is trained on; so are data sets of others."""
    pytest.importorskip('pyarrow', reason='Parquet needs the optional package pyarrow')
    write_parquet(Path('data/train-00000-of-00001.parquet'), {
        'image': images([10, 20, 30, 40]), 'material': ['wood', 'wood', 'steel', 'steel'], 'object': list('abcd')})
    write_lerobot(Path('episodes'), 3, [[20] * 6 + [140] * 6, [40] * 6 + [160] * 6])
    assert run('recordings.md', 'replay', 'compare', 'extract', 'train') == [
        'replay', 'replay', 'compare', 'compare', 'extract', 'train', 'extract', 'extract']
    assert Path('material/touches.csv').is_file() and Path('contact/touches.csv').is_file()
    assert Path('runs/replay/report.html').is_file()
    assert np.loadtxt('touches/touches.csv', str, delimiter=',').shape[0] == 1 + 48 // 3
    assert Path('runs/mine/checkpoint.safetensors').is_file()

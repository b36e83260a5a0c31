"""The script that checks a GPU, tried on the CPU."""

import json

import pytest
import torch
from gpu_check import PARTS, main


def test_dry_run(tmp_path, capsys):
    """A script that fails where its time is counted; two engines that differ must be found."""
    parts = ['environment', 'parity']
    assert main(['--dry_run', '--parts', *parts, '--output', str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == 'PASSED'
    report = json.loads((tmp_path / 'gpu_check.json').read_text())
    assert list(report) == parts and all(part['passed'] for part in report.values())
    assert report['environment']['result']['device'] == 'cpu'
    parity = report['parity']['result']
    assert len(parity) == 6 and all(case['other class'] == 0 for case in parity.values())
    assert all(case['largest difference of a probability'] < 1e-5 for name, case in parity.items() if 'float32' in name)


def test_without_a_gpu(tmp_path, capsys):
    """An unknown part, or no GPU: exit status 2, and nothing is written."""
    with pytest.raises(SystemExit) as ended:
        main(['--parts', 'nothing'])
    message = capsys.readouterr().err
    assert ended.value.code == 2 and all(name in message for name in PARTS)
    if torch.cuda.is_available():
        pytest.skip('there is a CUDA device')
    assert main(['--output', str(tmp_path / 'out')]) == 2
    assert 'finds no CUDA device' in capsys.readouterr().err and not (tmp_path / 'out').exists()

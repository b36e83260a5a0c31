"""What a run leaves in its folder survives kills, full disks and a second run."""

import logging
import os
import resource
import stat

import pytest
import torch

from vit_tactile_ros.foundation.files import temporary_beside
from vit_tactile_ros.training import state as state_module
from vit_tactile_ros.training import state_file
from vit_tactile_ros.training.state import CHECKPOINT, PICKLED, PREVIOUS, STATE, RunFolder, StateError


def content(epoch, size=1000):
    parameter = torch.nn.Parameter(torch.ones(2, 3))
    optimizer = torch.optim.AdamW([{'params': [parameter], 'weight_decay': 0.1}, {'params': []}], lr=1e-3)
    parameter.grad = torch.full((2, 3), 0.1)
    optimizer.step()
    return {'epoch': epoch, 'step': 3, 'loss_sum': 0.1 + epoch, 'model': {'w': torch.full((size,), float(epoch))},
            'average': {'w': torch.zeros(size)}, 'optimizer': optimizer.state_dict(), 'class_names': ['a', 'ü'],
            'settings': {'lr': 1e-3, 'exits': [1, 2], 'init': None, 'preprocessing': {'crop': 'none'}}}


@pytest.fixture
def folder(tmp_path):
    with RunFolder(tmp_path / 'run') as opened:
        yield opened


def test_saved_is_loaded(folder):
    assert folder.load() is None and folder.saved_epoch == 0
    folder.save(content(1))
    folder.save(content(2))
    assert folder.load()['epoch'] == folder.saved_epoch == 2
    assert torch.equal(folder.load()['model']['w'], torch.full((1000,), 2.0))
    assert sorted(p.name for p in folder.path.iterdir()) == ['lock', PREVIOUS, STATE]


@pytest.mark.parametrize('left', (0, 1, 0.01, 0.5, 0.999))
def test_a_truncated_state_is_explained_and_the_previous_one_taken(folder, caplog, left):
    """A traceback out of the archive reader, or a run that starts from nothing."""
    folder.save(content(1))
    folder.save(content(2))
    data = (folder.path / STATE).read_bytes()
    (folder.path / STATE).write_bytes(data[:int(len(data) * left) if left < 1 else 1])
    with caplog.at_level(logging.WARNING):
        assert folder.load()['epoch'] == 1
    assert 'is not a complete state file' in caplog.text and PREVIOUS in caplog.text
    assert 'weights_only' not in caplog.text


def test_a_flipped_bit_is_noticed_and_the_previous_state_taken(folder):
    """A reader takes a flipped bit in the middle of the weights for a weight, and the run resumes from it."""
    folder.save(content(1))
    folder.save(content(2))
    data = bytearray((folder.path / STATE).read_bytes())
    data[data.find(torch.full((1000,), 2.0).numpy().tobytes()) + 403] ^= 1 << 4
    (folder.path / STATE).write_bytes(data)
    assert folder.load()['epoch'] == 1


def test_all_of_the_state_is_kept(folder):
    """Also the types: AdamW's betas as a list, numbers of parameters as texts."""
    saved = content(1)
    folder.save(saved)
    loaded = folder.load()
    assert loaded['optimizer']['param_groups'] == saved['optimizer']['param_groups']
    moments = loaded['optimizer']['state'][0]
    assert moments.keys() == {'step', 'exp_avg', 'exp_avg_sq'}
    assert all(torch.equal(moments[name], value) for name, value in saved['optimizer']['state'][0].items())
    same = ('epoch', 'step', 'loss_sum', 'class_names', 'settings')
    assert loaded.keys() == saved.keys() and all(loaded[name] == saved[name] for name in same)


def test_no_whole_state_is_an_error_that_says_what_to_do(folder):
    folder.save(content(1))
    (folder.path / STATE).write_bytes(b'garbage')
    with pytest.raises(StateError, match=r'is not a complete state file.*training_state.previous: is missing.*--init'):
        folder.load()


def test_a_pickled_state_is_never_opened(folder):
    """Of earlier releases; a pickle can execute code, and torch.load read one."""
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(folder.path / 'executed'),)

    torch.save({'model': Hostile(), 'epoch': 3, 'version': 3}, folder.path / PICKLED)
    with pytest.raises(StateError, match=r'training_state\.pt: was written by another release.*--init'):
        folder.load()
    os.replace(folder.path / PICKLED, folder.path / STATE)
    with pytest.raises(StateError, match='is not a complete state file'):
        folder.load()
    assert not (folder.path / 'executed').exists()


def test_a_state_of_another_release_is_refused(folder, monkeypatch):
    monkeypatch.setattr(state_file, 'VERSION', '5')
    folder.save(content(1))
    monkeypatch.undo()
    with pytest.raises(StateError, match='another release'):
        folder.load()


@pytest.mark.parametrize('step', ('link', 'replace', 'fsync'))
def test_a_kill_while_saving_leaves_a_whole_state(folder, monkeypatch, step):
    """Every system call of a save, as the last one that was made."""
    folder.save(content(1))
    folder.save(content(2))
    calls = []
    original = getattr(os, step)

    class Killed(BaseException):
        pass

    def killed(*arguments):
        calls.append(arguments)
        raise Killed

    monkeypatch.setattr(state_module.os, step, killed)
    with pytest.raises(Killed):
        folder.save(content(3))
    monkeypatch.setattr(state_module.os, step, original)
    assert calls
    assert folder.load()['epoch'] == 2
    folder.save(content(3))
    assert folder.load()['epoch'] == 3


def test_a_file_system_without_links_keeps_the_previous_state(folder, monkeypatch):
    def refuses(*_):
        raise PermissionError(1, 'links not supported')

    monkeypatch.setattr(state_module.os, 'link', refuses)
    for epoch in (1, 2, 3):
        folder.save(content(epoch))
    (folder.path / STATE).unlink()
    assert folder.load()['epoch'] == 2


def test_a_full_disk_leaves_what_was_saved(folder):
    """The real thing: the system refuses the rest of the file."""
    folder.save(content(1))
    folder.save(content(2))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        with pytest.raises(OSError, match='File too large'):
            folder.save(content(3, size=100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert folder.saved_epoch == 2 and folder.load()['epoch'] == 2
    assert sorted(p.name for p in folder.path.iterdir()) == ['lock', PREVIOUS, STATE]


@pytest.mark.parametrize('mask', (0o022, 0o077))
def test_the_mode_follows_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        with RunFolder(tmp_path / 'run') as folder:
            folder.save(content(1))
            folder.save(content(2))
    finally:
        os.umask(before)
    assert {stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / 'run').iterdir()} == {0o666 & ~mask}


def test_two_runs_never_share_a_folder(folder):
    """Two trainers that overwrite each other's files in turn."""
    with pytest.raises(StateError, match='another run trains in this folder'):
        with RunFolder(folder.path):
            pass


def test_a_folder_is_free_once_its_run_has_ended(tmp_path):
    killed = [tmp_path / f'{PICKLED}.tmp',
              *(temporary_beside(tmp_path / name) for name in (STATE, PREVIOUS, CHECKPOINT))]
    for _ in range(2):
        with RunFolder(tmp_path):
            for left in killed:
                left.write_bytes(b'of a killed run')
    with RunFolder(tmp_path):
        assert sorted(p.name for p in tmp_path.iterdir()) == ['lock']

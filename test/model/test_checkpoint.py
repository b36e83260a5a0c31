"""The checkpoint: saved files load exactly; anything else is an error with file and field."""

import dataclasses
import json
import os
import resource
import stat
import struct
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from vit_tactile_ros.model import (
    Calibration,
    Checkpoint,
    CheckpointError,
    DropBound,
    ModelConfig,
    PreprocessingConfig,
    Provenance,
    ViTTactile,
    load_checkpoint,
    save_checkpoint,
)
from vit_tactile_ros.model import checkpoint as checkpoint_module

NAMES = ('none', 'sphere', 'edge', 'größe')
CONFIG = ModelConfig(num_classes=4, width=48, heads=3, depth=3, exits=(1, 2, 3), image_size=(32, 48),
                     feature_map_dim=32)


def some_checkpoint(config: ModelConfig = CONFIG, **changes) -> Checkpoint:
    torch.manual_seed(0)
    fields = {
        'model': ViTTactile(config, 0.7).eval(),
        'preprocessing': PreprocessingConfig(image_size=config.image_size, reference='difference', std=(0.1, 0.2, 0.3)),
        'class_names': NAMES,
        'calibration': Calibration(temperatures=(1.5, 1.2, 0.9), tau=0.7),
        'provenance': Provenance('train --output x', 'touches', '2026-01-02', {'accuracy': 0.25, 'epoch': 3}),
    }
    return Checkpoint(**(fields | changes))


@pytest.fixture
def path(tmp_path):
    """A valid checkpoint in its own file."""
    path = tmp_path / 'good.safetensors'
    save_checkpoint(path, some_checkpoint())
    return path


def rewrite(path, metadata=lambda m: m, tensors=lambda t: t):
    """Write the file again with its metadata (dict of strings) or tensors changed, and the digest of its version."""
    with safe_open(str(path), framework='pt') as f:
        old_metadata, old_tensors = f.metadata(), {name: f.get_tensor(name).clone() for name in f.keys()}  # noqa: SIM118
    new_metadata, new_tensors = metadata(old_metadata), tensors(old_tensors)
    if new_metadata and new_metadata.get('version') in ('1', '2'):
        new_metadata.pop('digest')
    elif new_metadata and 'digest' in new_metadata:
        new_metadata['digest'] = checkpoint_module.digest(new_metadata, new_tensors)
    save_file(new_tensors, str(path), new_metadata)


def set_field(section: str, **values):
    """A change of metadata: fields of one section set, or dropped where the value is `...`."""
    def change(metadata):
        fields = json.loads(metadata[section]) | values
        return metadata | {section: json.dumps({k: v for k, v in fields.items() if v is not ...})}
    return change


def assert_predicts_as(model, wanted):
    images = torch.randn(3, 3, 32, 48)
    assert all(torch.equal(*pair) for pair in zip(model.stages(images), wanted.stages(images), strict=True))


def assert_refused(path, *parts: str, **arguments):
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(path, **arguments)
    for part in (str(path), *parts):
        assert part in str(error.value), error.value


@pytest.mark.parametrize('attention', ('favor_softmax', 'favor_relu', 'softmax'))
def test_saved_equals_loaded_in_float32(tmp_path, attention):
    """A weight, a random projection or a field that is not saved, and is silently drawn again or set to its default."""
    saved = some_checkpoint(dataclasses.replace(CONFIG, attention=attention))
    save_checkpoint(tmp_path / 'a' / 'new.safetensors', saved, torch.float32)
    torch.manual_seed(99)
    loaded = load_checkpoint(tmp_path / 'a' / 'new.safetensors')
    assert loaded.model.state_dict().keys() == saved.model.state_dict().keys()
    for name, tensor in loaded.model.state_dict().items():
        assert tensor.dtype == torch.float32 and torch.equal(tensor, saved.model.state_dict()[name]), name
    for name in ('preprocessing', 'class_names', 'calibration', 'provenance'):
        assert getattr(loaded, name) == getattr(saved, name)
    assert loaded.model.config == saved.model.config and not loaded.model.training
    assert loaded.model.tau == (0.7, 0.7) and loaded.model.temperatures == (1.5, 1.2, 0.9)
    images = torch.randn(3, 3, 32, 48)
    for a, b in zip(loaded.model.stages(images), saved.model.stages(images), strict=True):
        assert torch.equal(a, b)


def test_activation_ranges_are_kept_and_may_be_missing(tmp_path):
    """Ranges that are lost or rounded, or belong to another depth; older files that are refused."""
    saved = some_checkpoint()
    count = 4 * saved.model.config.depth
    ranges = tuple((-0.1 * i, 1.0 / (1 + i)) for i in range(count))
    calibration = dataclasses.replace(saved.calibration, activation_ranges=ranges)
    save_checkpoint(tmp_path / 'new.safetensors', dataclasses.replace(saved, calibration=calibration))
    assert load_checkpoint(tmp_path / 'new.safetensors').calibration == calibration
    rewrite(tmp_path / 'new.safetensors', set_field('calibration', activation_ranges=...))
    assert load_checkpoint(tmp_path / 'new.safetensors').calibration == saved.calibration
    with pytest.raises(CheckpointError, match=f'activation_ranges has {count - 1} ranges; .* has {count}'):
        save_checkpoint(tmp_path / 'less.safetensors', dataclasses.replace(
            saved, calibration=Calibration(activation_ranges=ranges[1:])))
    for wrong in ((0.5, 1.0), (0.0, 0.0), (-1.0, float('inf'))):
        with pytest.raises(ValueError, match='activation_ranges is .*finite, from at most 0'):
            Calibration(activation_ranges=(wrong,))


def test_saved_is_close_to_loaded_in_float16(path):
    """Half precision on disk that is also used to compute, which breaks FAVOR+."""
    loaded, saved = load_checkpoint(path), some_checkpoint()
    images = torch.randn(3, 3, 32, 48)
    for a, b in zip(loaded.model.stages(images), saved.model.stages(images), strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, atol=2e-3, rtol=2e-2)


def test_weights_on_disk_are_half_precision(path):
    """A file of twice the size, or one that only a pickle reader can read."""
    with safe_open(str(path), framework='pt') as f:
        assert {f.get_tensor(name).dtype for name in f.keys()} == {torch.float16}  # noqa: SIM118
        assert f.metadata()['format'] == 'vit_tactile' and f.metadata()['version'] == '3'


def test_saving_does_not_change_the_model(tmp_path):
    """Weights of the model being trained that are rounded by saving it."""
    saved = some_checkpoint()
    before = {name: tensor.clone() for name, tensor in saved.model.state_dict().items()}
    save_checkpoint(tmp_path / 'half.safetensors', saved, torch.float16)
    assert all(torch.equal(t, before[name]) for name, t in saved.model.state_dict().items())


def test_a_truncated_file_is_refused_at_every_cut(path):
    """An interrupted copy: part of the weights must not be accepted as all of them."""
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], 'little')
    for cut in (0, 1, 7, 8, 9, header // 2, header - 1, header, header + 1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert_refused(path, 'not a complete safetensors file')


@pytest.mark.parametrize('content', (b'garbage that is no header', b'\xff' * 64, b'\x80\x02}q\x00.', b'{}' * 40))
def test_another_kind_of_file_is_refused(path, content):
    """An image, a pickle or a text file given as the checkpoint."""
    path.write_bytes(content)
    assert_refused(path, 'not a complete safetensors file')


def test_a_pickle_is_never_opened(path):
    """torch.load on a path of the user would execute code in the file."""
    torch.save(some_checkpoint().model.state_dict(), path)
    assert_refused(path, 'not a complete safetensors file')


@pytest.mark.parametrize('missing', ('nothing_here.safetensors', '.'))
def test_no_such_file(tmp_path, missing):
    """A misspelt path must be distinguished from a damaged file."""
    assert_refused(tmp_path / missing, 'no such file')


def test_a_safetensors_file_of_another_project_is_refused(path):
    """Weights of another project, without metadata, or with other metadata."""
    rewrite(path, metadata=lambda m: {'format': 'pt'})
    assert_refused(path, "metadata format is 'pt'")
    rewrite(path, metadata=lambda m: None)
    assert_refused(path, 'metadata format is None')


def test_another_version_is_refused(path):
    """A newer file read with the meaning of an older format."""
    rewrite(path, metadata=lambda m: m | {'version': '4'})
    assert_refused(path, "metadata version is '4'", "'1', '2' and '3'")


def test_files_of_version_1_are_read(path):
    """A checkpoint made before risk control that no longer loads, or that seems to have a bound."""
    without = set_field('calibration', drops=..., num_samples=..., ece=...)
    rewrite(path, metadata=lambda m: without(m) | {'version': '1'})
    calibration = load_checkpoint(path).calibration
    assert calibration == Calibration(temperatures=(1.5, 1.2, 0.9), tau=0.7)
    with pytest.raises(ValueError, match='not calibrated for max_accuracy_drop: run .*calibrate'):
        calibration.bound_for(0.01)


def test_what_version_1_lacks_is_not_optional_since(path):
    """A new file that lost its bounds, accepted as one that never had any."""
    rewrite(path, metadata=set_field('calibration', drops=...))
    assert_refused(path, 'metadata calibration.drops is missing')


@pytest.mark.parametrize('version', ('1', '2', '3'))
def test_files_without_a_training_part_are_read(path, version):
    """A checkpoint made before that was recorded, which no longer loads."""
    without_part, without = set_field('provenance', training_part=...), set_field('calibration', drops=...)
    rewrite(path, metadata=lambda m: (without if version == '1' else dict)(without_part(m)) | {'version': version})
    assert load_checkpoint(path).provenance == Provenance('train --output x', 'touches', '2026-01-02',
                                                          {'accuracy': 0.25, 'epoch': 3})


@pytest.mark.parametrize('version', ('2', '3'))
def test_files_from_before_there_was_motion_are_read(path, version):
    """A released checkpoint that no longer loads, or that becomes one with motion."""
    no_channels, no_interval = set_field('model', channels=...), set_field('preprocessing', motion_interval=...)
    no_std = set_field('preprocessing', motion_std=...)
    rewrite(path, metadata=lambda m: no_std(no_interval(no_channels(m))) | {'version': version})
    read = load_checkpoint(path)
    assert read.model.config.channels == read.preprocessing.channels == 3 and not read.preprocessing.motion_interval


@pytest.mark.parametrize('version', ('2', '3'))
def test_files_from_before_there_were_queries_and_added_exits_are_read(path, version):
    """A released checkpoint that no longer loads, or whose heads are others."""
    before = load_checkpoint(path).model
    rewrite(path, metadata=lambda m: set_field('model', queries=..., added_exits=...)(m) | {'version': version})
    read = load_checkpoint(path).model
    assert read.config.queries == 0 and read.config.added_exits is False
    assert_predicts_as(read, before)


def test_queries_and_added_exits_are_kept(tmp_path):
    written = some_checkpoint(dataclasses.replace(CONFIG, queries=2, added_exits=True))
    save_checkpoint(tmp_path / 'c.safetensors', written, torch.float32)
    read = load_checkpoint(tmp_path / 'c.safetensors').model
    assert read.config.queries == 2 and read.config.added_exits
    assert_predicts_as(read, written.model)


def test_motion_is_kept(tmp_path):
    config = dataclasses.replace(CONFIG, channels=6)
    preprocessing = PreprocessingConfig(image_size=CONFIG.image_size, motion_interval=0.08, motion_std=0.05)
    save_checkpoint(tmp_path / 'c.safetensors', some_checkpoint(config, preprocessing=preprocessing))
    read = load_checkpoint(tmp_path / 'c.safetensors')
    assert read.preprocessing == preprocessing
    with torch.no_grad():
        assert read.model(torch.zeros(1, 6, *CONFIG.image_size))[0].shape == (1, 4)
    with pytest.raises(ValueError, match=r'shape \(1, 3, 32, 48\); must be \(B, 6, H, W\)'):
        read.model(torch.zeros(1, 3, *CONFIG.image_size))


def test_the_training_part_is_kept(tmp_path):
    """The field that keeps training images out of a calibration, lost when saving or loading."""
    provenance = Provenance(training_part={'place': 'abc', 'split_seed': '3'})
    save_checkpoint(tmp_path / 'c.safetensors', some_checkpoint(provenance=provenance))
    assert load_checkpoint(tmp_path / 'c.safetensors').provenance == provenance


def test_bounds_are_kept(tmp_path):
    """Thresholds or bounds that change when saving or loading."""
    drops = (DropBound(0.001, 0.95, (1.0, 1.0)), DropBound(0.01, 0.95, (0.6, 0.5)))
    calibration = Calibration((1.5, 1.2, 0.9), 0.6, drops, 1234, (0.01, 0.02, 0.03))
    save_checkpoint(tmp_path / 'c.safetensors', some_checkpoint(calibration=calibration))
    assert load_checkpoint(tmp_path / 'c.safetensors').calibration == calibration


@pytest.mark.parametrize('section', ('format', 'version', 'model', 'preprocessing', 'class_names', 'calibration',
                                     'provenance'))
def test_a_missing_section_is_named(path, section):
    """A section that silently takes defaults which the weights were not trained with."""
    rewrite(path, metadata=lambda m: {k: v for k, v in m.items() if k != section})
    assert_refused(path, f'metadata {section} is')


@pytest.mark.parametrize('section', ('model', 'preprocessing', 'calibration', 'provenance', 'class_names'))
@pytest.mark.parametrize(('text', 'part'), (('{', 'is not JSON'), ('3', 'is 3; must be'), ('null', 'is None; must be')))
def test_a_section_of_another_type_is_named(path, section, text, part):
    """A damaged section that surfaces as a TypeError far from the file."""
    rewrite(path, metadata=lambda m: m | {section: text})
    assert_refused(path, f'metadata {section} ', part)


def test_an_unknown_section_is_refused(path):
    """A section that this release would ignore."""
    rewrite(path, metadata=lambda m: m | {'augmentation': '{}'})
    assert_refused(path, 'metadata augmentation is unknown')


@pytest.mark.parametrize(('section', 'field'), (('model', 'qk_norm'), ('preprocessing', 'crop'), ('calibration', 'tau'),
                                                ('provenance', 'created')))
def test_missing_and_unknown_fields_are_named(path, section, field):
    """A field that silently takes its default, or a misspelt one that is silently dropped."""
    whole = path.read_bytes()
    rewrite(path, metadata=set_field(section, **{field: ...}))
    assert_refused(path, f'metadata {section}.{field} is missing')
    path.write_bytes(whole)
    rewrite(path, metadata=set_field(section, surprise=1))
    assert_refused(path, f'metadata {section}.surprise is unknown')


@pytest.mark.parametrize(('section', 'values', 'part'), (
    ('model', {'heads': 5}, 'metadata model.heads is 5'),
    ('model', {'attention': 'mystery'}, "metadata model.attention is 'mystery'"),
    ('model', {'exits': [1, 2]}, 'metadata model.exits is (1, 2)'),
    ('model', {'width': '48'}, "metadata model.width is '48'"),
    ('model', {'mlp_ratio': float('inf')}, 'metadata model.mlp_ratio is inf'),
    ('model', {'image_size': [32, 32]}, 'model.image_size is (32, 32)'),
    ('preprocessing', {'image_size': [32, 32]}, 'preprocessing.image_size is (32, 32)'),
    ('preprocessing', {'std': [0, 1, 1]}, 'metadata preprocessing.std is (0.0, 1.0, 1.0)'),
    ('calibration', {'temperatures': [1.0]}, 'calibration.temperatures has 1 values'),
    ('calibration', {'tau': 3}, 'metadata calibration.tau is 3'),
    ('calibration', {'drops': [{'max_accuracy_drop': 0.01, 'confidence': 0.95, 'tau': [0.5]}]}, 'holds 1 thresholds'),
    ('calibration', {'drops': [{'max_accuracy_drop': 2, 'confidence': 0.95, 'tau': [0.5, 0.5]}]},
     'metadata calibration.drops[0].max_accuracy_drop is 2'),
    ('calibration', {'drops': [{'tau': [0.5, 0.5]}]}, 'metadata calibration.drops[0].max_accuracy_drop is missing'),
))
def test_contradictory_fields_are_named(path, section, values, part):
    """Inconsistent metadata must not be decided by the order of reading."""
    rewrite(path, metadata=set_field(section, **values))
    assert_refused(path, part)


def test_wrong_class_count(path):
    """Names that do not belong to the outputs: every class after the gap would be misnamed."""
    rewrite(path, metadata=lambda m: m | {'class_names': json.dumps(NAMES[:3])})
    assert_refused(path, 'class_names has 3 names', 'model.num_classes is 4')


@pytest.mark.parametrize('names', ('["a", "b", "c", 4]', '{"a": 0}', '"abcd"'))
def test_class_names_must_be_strings(path, names):
    """A string read as a list of letters, or a number published as a class name."""
    rewrite(path, metadata=lambda m: m | {'class_names': names})
    assert_refused(path, 'metadata class_names is', 'a list of strings')


def test_a_class_name_twice(path):
    """Two outputs that cannot be distinguished in a message."""
    rewrite(path, metadata=lambda m: m | {'class_names': json.dumps(['a', 'b', 'a', 'c'])})
    assert_refused(path, 'class_names', 'twice')


@pytest.mark.parametrize('expected', (NAMES[:3], NAMES[::-1], ()))
def test_expected_classes_that_differ(path, expected):
    """A robot program written for other classes, or for the same in another order."""
    assert load_checkpoint(path, expected_classes=list(NAMES)).class_names == NAMES
    assert_refused(path, 'class_names are', str(list(expected)), expected_classes=expected)


def test_missing_weight(path):
    """A weight that keeps its random initial value."""
    rewrite(path, tensors=lambda t: {k: v for k, v in t.items() if k != 'stage_modules.1.head.norm.bias'})
    assert_refused(path, '1 weights are missing', 'stage_modules.1.head.norm.bias')


def test_unknown_weight(path):
    """Weights of a larger network than the metadata describes."""
    rewrite(path, tensors=lambda t: t | {'stage_modules.3.head.norm.bias': torch.zeros(48)})
    assert_refused(path, '1 weights are unknown', 'stage_modules.3.head.norm.bias')


def test_wrong_shape(path):
    """A head of another class count, which torch would report without the file's name."""
    rewrite(path, tensors=lambda t: t | {'stage_modules.2.head.classify.weight': torch.zeros(5, 48)})
    assert_refused(path, 'weight stage_modules.2.head.classify.weight has shape (5, 48)', '(4, 48)')


@pytest.mark.parametrize('value', (float('nan'), float('inf')))
def test_weights_that_are_not_finite(path, value):
    """A diverged training run whose outputs are all NaN, and so always class 0."""
    rewrite(path, tensors=lambda t: t | {'embed.project.bias': torch.full((48,), value)})
    assert_refused(path, 'weight embed.project.bias holds values that are not finite')


@pytest.mark.parametrize(('value', 'dtype'), ((float('nan'), torch.float32), (1e6, torch.float16)))
def test_weights_that_could_not_be_loaded_are_not_saved(path, value, dtype):
    """A diverged run, or a weight too large for half precision, that replaces the last good checkpoint."""
    before = path.read_bytes()
    bad = some_checkpoint()
    with torch.no_grad():
        bad.model.embed.project.bias[3] = value
    with pytest.raises(CheckpointError, match=r'good.safetensors: weight embed.project.bias .* not finite'):
        save_checkpoint(path, bad, dtype)
    assert path.read_bytes() == before


@pytest.mark.parametrize(('changes', 'part'), (
    ({'class_names': NAMES[:3]}, 'class_names has 3 names'),
    ({'class_names': ('a', 'a', 'b', 'c')}, 'holds a name twice'),
    ({'preprocessing': PreprocessingConfig()}, 'preprocessing.image_size'),
    ({'preprocessing': PreprocessingConfig(image_size=(32, 48), motion_interval=0.08)},
     'preprocessing.motion_interval is 0.08 and motion_views 1, which gives 6 channels; model.channels is 3'),
    ({'calibration': Calibration(temperatures=(1.0, 1.0))}, 'calibration.temperatures'),
))
def test_a_checkpoint_that_could_not_be_loaded_is_not_saved(path, changes, part):
    """Hours of training in a file that load_checkpoint refuses."""
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=part):
        save_checkpoint(path, some_checkpoint(**changes))
    assert path.read_bytes() == before


@pytest.mark.parametrize('stopped', (False, True))
def test_a_failing_write_keeps_the_old_file_and_nothing_else(path, monkeypatch, stopped):
    """A full disk or Ctrl-C that costs the last good checkpoint, or leaves hidden files behind."""
    before, limits, whole = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE), Path.write_bytes
    if stopped:
        def interrupted(file, data):
            whole(file, data[:1000])
            raise KeyboardInterrupt
        monkeypatch.setattr(Path, 'write_bytes', interrupted)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))  # the real thing: the system refuses the rest
        with pytest.raises(KeyboardInterrupt if stopped else OSError,
                           match=None if stopped else f'could not write {path}: File too large'):
            save_checkpoint(path, some_checkpoint())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_failing_rename_keeps_the_old_file_and_nothing_else(path, monkeypatch):
    """The temporary file that stays behind when the last step fails."""
    before = path.read_bytes()
    monkeypatch.setattr(os, 'replace', lambda *_: (_ for _ in ()).throw(PermissionError(1, 'held')))
    with pytest.raises(OSError, match=f'could not write {path}: held'):
        save_checkpoint(path, some_checkpoint())
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_saving_replaces_the_old_file(path):
    """A second save that appends, refuses, or keeps the weights of the first one."""
    other = some_checkpoint(class_names=('a', 'b', 'c', 'd'))
    save_checkpoint(path, other)
    assert load_checkpoint(path).class_names == ('a', 'b', 'c', 'd')
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(('mask', 'mode'), ((0o022, 0o644), (0o077, 0o600), (0o002, 0o664)))
def test_the_mode_follows_the_umask(tmp_path, mask, mode):
    """A file that others can read where the user keeps files private, or one that a group can't use."""
    before = os.umask(mask)
    try:
        save_checkpoint(tmp_path / 'c.safetensors', some_checkpoint())
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / 'c.safetensors').stat().st_mode) == mode


def with_header(path, change):
    """Write the file again with its header, a dict, changed in place; weights and length are adapted."""
    raw = path.read_bytes()
    size = struct.unpack('<Q', raw[:8])[0]
    header = json.loads(raw[8:8 + size])
    text = change(header)
    if text is None:
        text = json.dumps(header).encode()
    path.write_bytes(struct.pack('<Q', len(text)) + text + raw[8 + size:])


def claim(**values):
    """A change of the header: these values for fields of the model."""
    def change(header):
        model = json.loads(header['__metadata__']['model']) | values
        header['__metadata__']['model'] = json.dumps(model)
        if 'num_classes' in values:
            header['__metadata__']['class_names'] = json.dumps([f'class {i}' for i in range(values['num_classes'])])
        if 'image_size' in values:
            header['__metadata__']['preprocessing'] = json.dumps(
                json.loads(header['__metadata__']['preprocessing']) | {'image_size': values['image_size']})
        if 'exits' in values:
            header['__metadata__']['calibration'] = json.dumps(
                json.loads(header['__metadata__']['calibration']) | {'temperatures': []})
    return change


@pytest.mark.parametrize(('values', 'part'), (
    ({'depth': 10**6, 'exits': [10**6]}, 'metadata model.depth is 1000000; must be 1 to 256'),
    ({'depth': 256, 'exits': [256]}, 'metadata model.depth is 256; the file holds only'),
    ({'width': 192_000}, 'metadata model.width is 192000; must be 4 to 8192'),
    ({'width': 8160}, 'metadata model.width is 8160; must be smaller'),
    ({'width': 4080}, 'has shape'),
    ({'feature_map_dim': 10**8}, 'metadata model.feature_map_dim is 100000000; must be 1 to 4096'),
    ({'feature_map_dim': 4096}, 'projection_matrix has shape (32, 16); the model it describes needs (4096, 16)'),
    ({'mlp_ratio': 10**400}, 'metadata model.mlp_ratio is 1000'),
    ({'mlp_ratio': 64}, 'has shape'),
    ({'num_classes': 4096}, 'the model it describes needs (4096,'),
    ({'patch_size': 10**9}, 'metadata model.patch_size is 1000000000; must be 1 to 256'),
    ({'image_size': [10**9, 10**9]}, 'metadata model.image_size is (1000000000, 1000000000); must be two multiples'),
    ({'heads': 48}, 'has shape'),
    ({'queries': 10**9}, 'metadata model.queries is 1000000000; must be 0 to 64'),
    ({'queries': 64}, '3 weights are missing, the first is stage_modules.0.head.queries'),
))
def test_a_header_that_claims_another_model_is_refused_at_once(path, values, part):
    """Models were made as large as the header said, in gigabytes and 20 s, before the shapes were compared."""
    with_header(path, claim(**values))
    before = resource.getrusage(resource.RUSAGE_SELF)
    assert_refused(path, part)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_maxrss - before.ru_maxrss < 100_000  # kB
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0  # s, of this process alone


def test_weights_are_not_read_before_the_shapes_fit(path, monkeypatch):
    """Gigabytes that are read for a model that is then refused."""
    with_header(path, claim(heads=48))
    monkeypatch.setattr(checkpoint_module.safetensors.torch, 'load', lambda data: pytest.fail('the weights were read'))
    assert_refused(path, 'has shape')


def swap(header):
    """Two weights of one shape are swapped; only the digest detects it."""
    first, second = (header[f'stage_modules.{i}.head.classify.weight'] for i in (0, 1))
    first['data_offsets'], second['data_offsets'] = second['data_offsets'], first['data_offsets']


WEIGHT = 'embed.project.bias'


@pytest.mark.parametrize(('change', 'part'), (
    (lambda h: h[WEIGHT].update(data_offsets=[0, 10**12]), 'has 1000000000000 bytes'),
    (lambda h: h[WEIGHT].update(data_offsets=[-96, 0]), 'must be two numbers of 0 or more'),
    (lambda h: h[WEIGHT].update(data_offsets=[96, 0]), 'has -96 bytes; [48] of F16 take 96'),
    (lambda h: h[WEIGHT].update(data_offsets=h['embed.project.weight']['data_offsets']), 'bytes; [48] of F16 take 96'),
    (lambda h: h['stage_modules.0.head.norm.bias'].update(h['stage_modules.0.head.norm.weight']), 'begins at byte'),
    (lambda h: h[WEIGHT].update(dtype='I4'), "has dtype 'I4'; must be one of F16, BF16, F32, F64"),
    (lambda h: h[WEIGHT].update(dtype=['F16']), "has dtype ['F16']"),
    (lambda h: h[WEIGHT].update(shape=[10**400]), 'has shape [1000'),
    (lambda h: h[WEIGHT].update(shape=[True]), 'has shape [True]'),
    (lambda h: h[WEIGHT].update(shape=[48, 0]), 'has 96 bytes; [48, 0] of F16 take 0'),
    (lambda h: h.update({WEIGHT: 3}), 'is 3; must be an object of dtype, shape and data_offsets'),
    (lambda h: h.update(__metadata__=[1]), 'its __metadata__ is [1]; must be an object of strings'),
    (lambda h: h['__metadata__'].update(model=[]), 'must be an object of strings'),
    (lambda h: h.pop(WEIGHT) and None, 'begins at byte'),
    (lambda h: json.dumps(h).replace('"embed.project.weight"', '"embed.project.bias"', 1).encode(),
     "an object holds 'embed.project.bias' twice"),
    (lambda h: b'[' * 10**5, 'nested too deeply'),
    (lambda h: b'[]', 'its header is []'),
    (lambda h: b'{}' + b' ' * 2_000_000, 'longer than 2000000'),
    (lambda h: b'{"\xff": 1}', 'utf-8'),
))
def test_a_wrong_header_is_refused(path, change, part):
    """Offsets that overlap or lie outside, names twice, types that are unknown."""
    with_header(path, change)
    assert_refused(path, 'not a complete safetensors file', part)


def test_a_header_longer_than_the_file_is_refused(path):
    path.write_bytes(struct.pack('<Q', 2**63) + b'{}')
    assert_refused(path, 'not a complete safetensors file (10 bytes are fewer than its header needs)')


@pytest.mark.parametrize('section', ('model', 'preprocessing', 'class_names', 'calibration', 'provenance'))
@pytest.mark.parametrize('text', ('[' * 100_000, '{"a":' * 100_000), ids=('lists', 'objects'))
def test_sections_nested_without_end_are_refused(path, section, text):
    """A RecursionError."""
    with_header(path, lambda h: h['__metadata__'].update({section: text}))
    assert_refused(path, f'metadata {section} is not JSON: nested too deeply')


@pytest.mark.parametrize(('section', 'text', 'part'), (
    ('class_names', json.dumps(['a', 'b', 'c', 'd' * 10**6]), "class_names is 'ddd"),
    ('class_names', json.dumps(['a', 'b', 'c', 'd\x1b[2J']), "class_names is 'd\\x1b[2J'; must be 1 to 255 characters"),
    ('class_names', json.dumps(['a', 'b', 'c', '\ud800']), "class_names is '\\ud800'; must be 1 to 255 characters"),
    ('class_names', json.dumps(['a'] * 200_000), 'class_names has 200000 names; model.num_classes is 4'),
    ('calibration', '{"tau": 0.5, "drops": 3}', 'metadata calibration.temperatures is missing'),
))
def test_absurd_names_are_refused_in_a_short_line(path, section, text, part):
    """A message of 10 MB, or one that clears the terminal."""
    with_header(path, lambda h: h['__metadata__'].update({section: text}))
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(path)
    assert part in str(error.value)
    assert len(str(error.value)) < 600 and str(error.value).isprintable()


@pytest.mark.parametrize(('section', 'field', 'value', 'part'), (
    ('calibration', 'temperatures', [1.0, float('nan'), 1.0], 'metadata calibration.temperatures[1] is nan; must be a'),
    ('calibration', 'temperatures', {'a': 1}, "metadata calibration.temperatures is {'a': 1}; must be a list"),
    ('calibration', 'num_samples', 10**30, 'metadata calibration.num_samples is 1000'),
    ('calibration', 'ece', [0.5], 'calibration.ece has 1 values; the model has 3 exits'),
    ('calibration', 'drops', [[1]], 'metadata calibration.drops[0] is [1]; must be an object'),
    ('calibration', 'activation_ranges', [[0, 1e300]] * 12, 'metadata calibration.activation_ranges is (0.0, 1e+300)'),
    ('calibration', 'tau', 10**400, 'metadata calibration.tau is 1000'),
    ('preprocessing', 'image_size', [10**9, 10**9], 'metadata preprocessing.image_size is (1000000000, 1000000000)'),
    ('preprocessing', 'mean', [10**400, 0, 0], 'metadata preprocessing.mean is 1000'),
    ('preprocessing', 'crop', ['center'], "metadata preprocessing.crop is ['center']; must be one of center, none"),
    ('provenance', 'metrics', {'a': 'b'}, "metadata provenance.metrics.a is 'b'; must be of type float"),
    ('provenance', 'metrics', {'a\n': []}, "metadata provenance.metrics.'a\\n' is []; must be of type float"),
    ('provenance', 'command', ['x'], "metadata provenance.command is ['x']; must be of type str"),
    ('model', 'queries', 1.5, 'metadata model.queries is 1.5; must be of type int'),
    ('model', 'added_exits', 1, 'metadata model.added_exits is 1; must be of type bool'),
    ('model', 'queries', True, 'metadata model.queries is True; must be of type int'),
    ('model', 'exits', [1, 2, 10**400], 'metadata model.exits[2] is 1000'),
    ('model', 'exits', list(range(1, 50_000)), 'must be a list of at most 10000'),
))
def test_wrong_types_and_absurd_numbers_are_named(path, section, field, value, part):
    """TypeErrors and OverflowErrors far from the file."""
    rewrite(path, metadata=set_field(section, **{field: value}))
    assert_refused(path, part)


@pytest.mark.parametrize('bit', (0, 3, 14))
def test_one_flipped_bit_in_a_weight_is_refused(path, bit):
    """A weight 16 times as large, or of the other sign, that is loaded without an error."""
    data = bytearray(path.read_bytes())
    data[-1000 + bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    assert_refused(path, 'weights or metadata were changed')


@pytest.mark.parametrize('change', (
    swap,
    lambda h: h['__metadata__'].update(class_names=h['__metadata__']['class_names'].replace('edge', 'edgf')),
    lambda h: h['__metadata__'].update(calibration=h['__metadata__']['calibration'].replace('0.7', '0.9')),
    lambda h: h['__metadata__'].update(digest='sha256:' + '0' * 64),
    lambda h: h['__metadata__'].update(digest=''),
))
def test_a_change_that_only_the_digest_detects_is_refused(path, change):
    """A threshold, a class name or the place of a weight that changed after the file was written."""
    with_header(path, change)
    assert_refused(path, 'weights or metadata were changed')


def test_a_file_without_its_digest_is_refused(path):
    """A damaged file that passes once its digest is gone."""
    with_header(path, lambda h: h['__metadata__'].pop('digest') and None)
    assert_refused(path, 'metadata digest is missing')
    with_header(path, lambda h: h['__metadata__'].update(version='2'))
    load_checkpoint(path)  # as written before there was one


def test_loading_does_not_touch_the_random_numbers(path):
    """A training run whose random numbers depend on checkpoints loaded before."""
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    load_checkpoint(path)
    assert torch.equal(torch.rand(3), wanted)


def test_a_loaded_model_can_be_trained(path):
    """Weights without gradients, shared with the file, or left on the meta device."""
    before, model = path.read_bytes(), load_checkpoint(path).model
    assert all(t.device.type == 'cpu' for t in (*model.parameters(), *model.buffers()))
    assert all(p.requires_grad and p.is_leaf for p in model.parameters())
    model.train()(torch.randn(2, 3, 32, 48))[-1].sum().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert path.read_bytes() == before


@pytest.mark.parametrize('name', ('x' * 300, 'a\0b'))
def test_a_path_that_cannot_be_read(tmp_path, name):
    """OSError: File name too long."""
    with pytest.raises(CheckpointError, match='cannot be read: File name too long|no such file'):
        load_checkpoint(tmp_path / name)


def test_metadata_that_could_not_be_loaded_is_not_saved(path):
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match='metadata of 2.* characters, 2.* of them in provenance; must be at most'):
        save_checkpoint(path, some_checkpoint(provenance=Provenance('x' * 2_000_000)))
    assert path.read_bytes() == before

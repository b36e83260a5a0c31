"""The checkpoint's sections: accepted values, and the messages for others."""

import dataclasses
import json
import math

import pytest

from vit_tactile_ros.foundation.errors import shown
from vit_tactile_ros.foundation.strict_json import build
from vit_tactile_ros.model import Calibration, DropBound, ModelConfig, PreprocessingConfig, Provenance
from vit_tactile_ros.model.config import check_class_names

CONFIGS = (
    ModelConfig(num_classes=3, image_size=(32, 48), exits=(2, 5, 12), attention='favor_relu', qk_norm=False),
    PreprocessingConfig(image_size=(48, 64), reference='difference', orientation='match', crop='center'),
    Calibration(temperatures=(1.5, 1.25, 1.0), tau=0.9, drops=(DropBound(0.01, 0.95, (0.5, 0.625)),), num_samples=99,
                ece=(0.01, 0.02, 0.03)),
    Provenance(command='train', data='touches', created='2026-01-01', metrics={'accuracy': 0.5, 'epoch': 3.0}),
)


@pytest.mark.parametrize('config', CONFIGS, ids=lambda c: type(c).__name__)
def test_json_round_trip(config):
    """A field that JSON converts (tuples to lists) and that is not converted back."""
    values = json.loads(json.dumps(dataclasses.asdict(config)))
    assert build(type(config), values) == config


@pytest.mark.parametrize('config', CONFIGS, ids=lambda c: type(c).__name__)
def test_missing_and_unknown_fields_are_refused(config):
    """A field that silently takes its default, or a misspelt one that is silently dropped."""
    values = dataclasses.asdict(config)
    for name in values:
        with pytest.raises(ValueError, match=f'{name} is missing'):
            build(type(config), {k: v for k, v in values.items() if k != name})
    with pytest.raises(ValueError, match='exit_blocks is unknown; known are'):
        build(type(config), values | {'exit_blocks': 1})


@pytest.mark.parametrize(('field', 'value'), (
    ('num_classes', 0), ('patch_size', 0), ('depth', -1), ('heads', 0), ('heads', 5), ('feature_map_dim', 0),
    ('mlp_ratio', 0.0), ('mlp_ratio', math.nan), ('mlp_ratio', math.inf), ('mlp_ratio', 0.001),
    ('width', 195), ('width', 198), ('attention', 'linformer'), ('image_size', (224, 225)), ('image_size', (0, 224)),
    ('image_size', (224,)), ('image_size', (224, 224, 224)),
    ('exits', ()), ('exits', (4, 8)), ('exits', (4, 4, 12)), ('exits', (8, 4, 12)), ('exits', (0, 12)),
    ('exits', (4, 13)),
    ('queries', -1), ('queries', 65), ('queries', 10**30),
    ('num_classes', 10**9), ('patch_size', 2**20), ('width', 192_000), ('depth', 10**6), ('heads', 10**30),
    ('feature_map_dim', 10**8), ('mlp_ratio', 10**400), ('mlp_ratio', 65.0), ('image_size', (16, 4112)),
    ('image_size', (10**9, 10**9)), ('image_size', (4096, 4096)), ('image_size', (224, -224)),
))
def test_model_config_names_the_wrong_field(field, value):
    """A network that can't be built must be refused with the field's name, not by a traceback from torch."""
    with pytest.raises(ValueError, match=r'must be') as error:
        ModelConfig(**{field: value})
    assert str(error.value).startswith(f'{field} is {shown(value)}; must be ')
    assert len(str(error.value)) < 300


@pytest.mark.parametrize('changes', (
    {'width': 8192, 'heads': 64}, {'width': 4096, 'heads': 64, 'depth': 4, 'exits': (4,), 'queries': 64,
                                   'num_classes': 4096}, {'width': 4096, 'heads': 64, 'mlp_ratio': 64.0},
    {'width': 1024, 'heads': 1, 'depth': 256, 'exits': (256,), 'feature_map_dim': 4096},
    {'width': 8192, 'heads': 256, 'depth': 1, 'exits': (1,), 'patch_size': 256, 'image_size': (256, 256)},
))
def test_a_network_of_too_many_weights_is_refused(changes):
    """Sizes that are each allowed but together need more memory than a machine has."""
    with pytest.raises(ValueError, match=r'^width is \d+; must be smaller: with depth .* at most 1e\+09'):
        ModelConfig(**changes)


@pytest.mark.parametrize('changes', (
    {'width': 1280, 'heads': 16, 'depth': 32, 'exits': (32,)},  # ViT-Huge
    {'image_size': (896, 896)}, {'image_size': (2048, 2048)}, {'num_classes': 1000, 'feature_map_dim': 1024},
))
def test_large_networks_are_allowed(changes):
    """Bounds that refuse networks in use."""
    ModelConfig(**changes)


@pytest.mark.parametrize('names', (('a', ''), ('a', 'b\n'), ('a', 'b\x1b[31m'), ('a', '\ud800'), ('a', 'b\u2028c'),
                                   ('a', 'x' * 256), ('a', 'x' * 10**7), ('a', 'a')))
def test_class_names_that_cannot_be_shown_are_refused(names):
    """A name that breaks a log line, clears a terminal or makes a message of 10 MB."""
    with pytest.raises(ValueError, match='^class_names .*(must be 1 to 255 characters|holds a name twice)') as error:
        check_class_names(names)
    assert len(str(error.value)) < 300 and str(error.value).isprintable()


def test_class_names_in_any_script():
    check_class_names(('größe', 'kein Kontakt', '接触なし', 'x' * 255, '👩‍🔧', "it's", 'a/b', '100 %'))


@pytest.mark.parametrize(('kind', 'field', 'value'), (
    (PreprocessingConfig, 'reference', 'subtract'), (PreprocessingConfig, 'orientation', 'auto'),
    (PreprocessingConfig, 'crop', 'left'), (PreprocessingConfig, 'image_size', (0, 4)),
    (PreprocessingConfig, 'image_size', (4,)), (PreprocessingConfig, 'std', (0.5, 0.0, 0.5)),
    (PreprocessingConfig, 'std', (0.5, math.nan, 0.5)), (PreprocessingConfig, 'mean', (math.inf, 0.0, 0.0)),
    (PreprocessingConfig, 'image_size', (10**9, 10**9)), (PreprocessingConfig, 'std', (0.5, 1e-300, 0.5)),
    (PreprocessingConfig, 'motion_interval', 0.001), (PreprocessingConfig, 'motion_interval', 2.0),
    (PreprocessingConfig, 'motion_interval', math.nan), (PreprocessingConfig, 'motion_std', 0.0),
    (PreprocessingConfig, 'motion_views', 0), (PreprocessingConfig, 'motion_views', 7),
    (ModelConfig, 'channels', 4),
    (PreprocessingConfig, 'mean', (0.5, 1e300, 0.5)), (PreprocessingConfig, 'mean', (10**400, 0.5, 0.5)),
    (Calibration, 'temperatures', (1.0, 1e-300)), (Calibration, 'temperatures', (1e300,)),
    (Calibration, 'temperatures', (1.0, 0.0)), (Calibration, 'temperatures', (math.nan,)),
    (Calibration, 'tau', 1.5), (Calibration, 'tau', math.nan), (Calibration, 'ece', (0.1, math.nan)),
    (Calibration, 'drops', (DropBound(0.02, 0.9, (0.5,)), DropBound(0.01, 0.9, (0.5,)))),
))
def test_other_configs_name_the_wrong_field(kind, field, value):
    """A division by zero or a NaN probability later on, far from the value that causes it."""
    with pytest.raises(ValueError, match=f'^{field} is .*must be'):
        kind(**{field: value})


@pytest.mark.parametrize(('field', 'value'), (
    ('num_classes', '4'), ('num_classes', True), ('num_classes', 4.0), ('num_classes', None), ('qk_norm', 1),
    ('mlp_ratio', '4'), ('mlp_ratio', False), ('image_size', 224), ('image_size', [224]), ('image_size', [224, '224']),
    ('image_size', [1, 2, 3]), ('exits', 12), ('exits', [4, 8.0, 12]), ('attention', 3),
))
def test_wrong_json_types_are_refused(field, value):
    """What JSON and Python would accept: True as 1, '4' as 4, 4.0 as 4."""
    values = dataclasses.asdict(ModelConfig()) | {field: value}
    with pytest.raises(ValueError, match=rf'^{field}(\[\d\])? is .*must be'):
        build(ModelConfig, values)


def test_an_integer_is_accepted_for_a_float():
    """A temperature or mean of 1 stored without a decimal point."""
    values = dataclasses.asdict(Calibration()) | {'temperatures': [1, 2.0], 'tau': 1}
    assert build(Calibration, values) == Calibration((1.0, 2.0), 1.0)


def test_a_section_must_be_an_object():
    """A section of another JSON type must be named, not fail on its first use."""
    with pytest.raises(ValueError, match=r'metadata calibration is \[1\]; must be an object'):
        build(Calibration, [1], 'metadata calibration')


@pytest.mark.parametrize(('asked', 'bound'), ((0.005, 0.005), (0.0099, 0.005), (0.01, 0.01), (0.5, 0.01)))
def test_the_next_stricter_bound_is_taken(asked, bound):
    """A bound in between that is interpolated or rounded to the nearest: it was never verified."""
    calibration = Calibration(drops=(DropBound(0.005, 0.95, (0.9, 0.9)), DropBound(0.01, 0.95, (0.6, 0.6))))
    assert calibration.bound_for(asked).max_accuracy_drop == bound


def test_a_stricter_bound_than_calibrated_is_refused():
    """The loosest bound used for a stricter one."""
    calibration = Calibration(drops=(DropBound(0.005, 0.95, (0.9, 0.9)),))
    with pytest.raises(ValueError, match=r'calibrated for 0.005, not for 0.001 or less: run .*calibrate'):
        calibration.bound_for(0.001)


def test_a_bound_that_could_not_be_verified_is_marked():
    """Full depth mistaken for a chosen threshold."""
    assert not DropBound(0.001, 0.95, (1.0, 1.0)).is_shown
    assert DropBound(0.001, 0.95, (1.0, 0.9)).is_shown

"""The checkpoint's sections: what they accept, and what the refusal says."""

import dataclasses
import json
import math

import pytest

from vit_tactile_ros.model import Calibration, DropBound, ModelConfig, PreprocessingConfig, Provenance
from vit_tactile_ros.model.config import config_from_dict

CONFIGS = (
    ModelConfig(num_classes=3, image_size=(32, 48), exits=(2, 5, 12), attention='favor_relu', qk_norm=False),
    PreprocessingConfig(image_size=(48, 64), reference='difference', orientation='match', crop='center'),
    Calibration(temperatures=(1.5, 1.25, 1.0), tau=0.9, drops=(DropBound(0.01, 0.95, (0.5, 0.625)),), num_samples=99,
                ece=(0.01, 0.02, 0.03)),
    Provenance(command='train', data='touches', created='2026-01-01', metrics={'accuracy': 0.5, 'epoch': 3.0}),
)


@pytest.mark.parametrize('config', CONFIGS, ids=lambda c: type(c).__name__)
def test_json_round_trip(config):
    """A field that JSON turns into something else (tuples into lists) and that stays so."""
    values = json.loads(json.dumps(dataclasses.asdict(config)))
    assert config_from_dict(type(config), values) == config


@pytest.mark.parametrize('config', CONFIGS, ids=lambda c: type(c).__name__)
def test_missing_and_unknown_fields_are_refused(config):
    """A field that silently takes its default, or a misspelt one that is silently dropped."""
    values = dataclasses.asdict(config)
    for name in values:
        with pytest.raises(ValueError, match=f'{name}: missing'):
            config_from_dict(type(config), {k: v for k, v in values.items() if k != name})
    with pytest.raises(ValueError, match='exit_blocks: unknown field; known are'):
        config_from_dict(type(config), values | {'exit_blocks': 1})


@pytest.mark.parametrize(('field', 'value'), (
    ('num_classes', 0), ('patch_size', 0), ('depth', -1), ('heads', 0), ('heads', 5), ('feature_map_dim', 0),
    ('mlp_ratio', 0.0), ('mlp_ratio', math.nan), ('mlp_ratio', math.inf), ('mlp_ratio', 0.001),
    ('width', 195), ('width', 198), ('attention', 'linformer'), ('image_size', (224, 225)), ('image_size', (0, 224)),
    ('image_size', (224,)), ('image_size', (224, 224, 224)),
    ('exits', ()), ('exits', (4, 8)), ('exits', (4, 4, 12)), ('exits', (8, 4, 12)), ('exits', (0, 12)),
    ('exits', (4, 13)),
))
def test_model_config_names_the_wrong_field(field, value):
    """A network that can't be built must be refused with the field's name, not by a traceback from torch."""
    with pytest.raises(ValueError, match=r'must be') as error:
        ModelConfig(**{field: value})
    assert repr(value) in str(error.value) or field in str(error.value)


@pytest.mark.parametrize(('kind', 'field', 'value'), (
    (PreprocessingConfig, 'reference', 'subtract'), (PreprocessingConfig, 'orientation', 'auto'),
    (PreprocessingConfig, 'crop', 'left'), (PreprocessingConfig, 'image_size', (0, 4)),
    (PreprocessingConfig, 'image_size', (4,)), (PreprocessingConfig, 'std', (0.5, 0.0, 0.5)),
    (PreprocessingConfig, 'std', (0.5, math.nan, 0.5)), (PreprocessingConfig, 'mean', (math.inf, 0.0, 0.0)),
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
    """What JSON and Python would let through: True as 1, '4' as 4, 4.0 as 4."""
    values = dataclasses.asdict(ModelConfig()) | {field: value}
    with pytest.raises(ValueError, match=f'^{field} is .*must be'):
        config_from_dict(ModelConfig, values)


def test_an_integer_is_accepted_for_a_float():
    """A temperature or mean of 1 that some writer stores without the point."""
    values = dataclasses.asdict(Calibration()) | {'temperatures': [1, 2.0], 'tau': 1}
    assert config_from_dict(Calibration, values) == Calibration((1.0, 2.0), 1.0)


def test_a_section_must_be_an_object():
    """A section of another JSON type must be named, not fail on its first use."""
    with pytest.raises(ValueError, match=r'Calibration is \[1\]; must be an object'):
        config_from_dict(Calibration, [1])


@pytest.mark.parametrize(('asked', 'bound'), ((0.005, 0.005), (0.0099, 0.005), (0.01, 0.01), (0.5, 0.01)))
def test_the_next_stricter_bound_is_taken(asked, bound):
    """A bound in between that is interpolated, or rounded to the nearest, breaks a promise nobody has tested."""
    calibration = Calibration(drops=(DropBound(0.005, 0.95, (0.9, 0.9)), DropBound(0.01, 0.95, (0.6, 0.6))))
    assert calibration.bound_for(asked).max_accuracy_drop == bound


def test_nothing_as_strict_is_refused():
    """The loosest promise given for a stricter one."""
    calibration = Calibration(drops=(DropBound(0.005, 0.95, (0.9, 0.9)),))
    with pytest.raises(ValueError, match=r'calibrated for 0.005, for nothing as strict as 0.001: run .*calibrate'):
        calibration.bound_for(0.001)


def test_a_bound_that_could_not_be_shown_says_so():
    """Full depth that is taken for a threshold somebody chose."""
    assert not DropBound(0.001, 0.95, (1.0, 1.0)).is_shown
    assert DropBound(0.001, 0.95, (1.0, 0.9)).is_shown

"""Sensor files: saved files load; others are refused with file and field."""

import dataclasses
import json
import os
import resource
import stat

import pytest

from vit_tactile_ros.simulator import DIGIT, GELSIGHT, Markers, SensorFileError, load_sensor, save_sensor


def test_a_saved_sensor_loads_as_it_was(tmp_path):
    for config in (GELSIGHT, dataclasses.replace(DIGIT, markers=Markers(1.5), depth_rgb=(1.5, -2.0, 0.0), name='mine')):
        save_sensor(tmp_path / 'mine.json', config)
        assert load_sensor(tmp_path / 'mine.json') == config
        assert load_sensor(str(tmp_path / 'mine.json')) == config


@pytest.mark.parametrize('change, message', [
    (lambda values: values.pop('mm_per_px'), 'mm_per_px is missing'),
    (lambda values: values.update(colour='red'), 'colour is unknown; known are name, height'),
    (lambda values: values['lights'][1].update(azimut=1), r'lights\[1\].azimut is unknown; known are azimuth_rad'),
    (lambda values: values['lights'][0].pop('rgb'), r'lights\[0\].rgb is missing'),
    (lambda values: values.update(height='240'), "height is '240'; must be of type int"),
    (lambda values: values.update(noise=True), 'noise is True; must be of type float'),
    (lambda values: values.update(lights={}), 'lights is {}; must be a list'),
    (lambda values: values['gel'].update(spread_mm=[0.1, None]), r'gel.spread_mm\[1\] is None; must be of type float'),
    (lambda values: values.update(gel=3), 'gel is 3; must be an object'),
    (lambda values: values.update(mm_per_px=-1), 'mm_per_px is -1.0; it must be a positive number'),
    (lambda values: values.update(noise=float('nan')), 'noise is nan; must be a finite number'),
    (lambda values: values['lights'][0].update(falloff=float('inf')), r'lights\[0\].falloff is inf; must be a finite'),
    (lambda values: values.update(noise=10**400), r'noise is 10+\.\.\.0+; must be a finite number'),
    (lambda values: values['lights'][0].update(rgb=[1, 2]), r'lights\[0\].rgb is \(1.0, 2.0\); must be three numbers'),
    (lambda values: values.update(background_rgb=[1] * 4), r'background_rgb is \(1.0, .* 1.0\); must be three numbers'),
    (lambda values: values.update(height=10**9), 'height is 1000000000; must be 32 to 4096'),
    (lambda values: values.update(width=-10**30), 'width is -10+; must be an integer of 64 bits'),
    (lambda values: values.update(width=0), 'width is 0 px; a sensor needs at least 32'),
    (lambda values: values.update(mm_per_px=1e-9), 'mm_per_px is 1e-09; must be 0.001 to 10'),
    (lambda values: values['lights'][2].update(rgb=[0, 1e9, 0]), r'lights\[2\].rgb\[1\] is 1000000000.0; must be -1'),
    (lambda values: values['lights'][0].update(falloff=1e3), r'lights\[0\].falloff is 1000.0; must be -10 to 10'),
    (lambda values: values['lights'][0].update(elevation_rad=25), r'lights\[0\].elevation_rad is 25.0; must be -10 to'),
    (lambda values: values['glows'][1].update(width_x=0), r'glows\[1\].width_x is 0.0; must be 0.001 to 100'),
    (lambda values: values.update(glows=values['glows'] * 100), 'glows is .*; must be a list of 0 to 256'),
    (lambda values: values.update(lights=[0] * 20_000), 'lights is .*; must be a list of at most 10000'),
    (lambda values: values.update(vignette=2), 'vignette is 2.0; must be 0 to 1'),
    (lambda values: values.update(noise=-1), 'noise is -1.0; must be 0 to 255'),
    (lambda values: values.update(specks=10**9), 'specks is 1000000000; must be 0 to 10000'),
    (lambda values: values['gel'].update(spread_mm=[]), r'gel.spread_mm is \(\); must be a list of 1 to 16'),
    (lambda values: values['gel'].update(spread_mm=[90]), 'gel.spread_mm is 90.0; must be at most four times what'),
    (lambda values: values.update(mm_per_px=5, markers={'pitch_mm': 0.1, 'radius_mm': 0.1}), 'markers.pitch_mm is 0.1; '
     'must be larger: .*dots'),
    (lambda values: values.update(markers={'pitch_mm': 0}), 'markers.pitch_mm is 0.0; must be 0.05 to 100'),
    (lambda values: values.update(markers={'pitch_mm': 1, 'radius_mm': 50}), 'markers.radius_mm is 50.0; must be at'),
    (lambda values: values.update(name='a\nb'), r"name is 'a\\nb'; must be at most 255 characters"),
    (lambda values: values.update(name='a' * 10**5), "name is 'a+\\.\\.\\.a+'; must be at most 255 characters"),
    (lambda values: values.update({'a\nb' * 1000: 1}), r"'a\\nb.*\.\.\..*' is unknown; known are"),
])
def test_a_wrong_sensor_file_is_refused_by_name_and_field(tmp_path, change, message):
    path = tmp_path / 'mine.json'
    save_sensor(path, GELSIGHT)
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    with pytest.raises(SensorFileError, match=message) as error:
        load_sensor(path)
    assert 'mine.json' in str(error.value)
    assert len(str(error.value)) < 800 and str(error.value).isprintable()


@pytest.mark.parametrize('text, message', [
    ('[' * 10**6, 'not JSON: nested too deeply'), ('{"name":' * 10**5, 'not JSON: nested too deeply'),
    (b'\xff\xfe\x00', 'not JSON: '), ('1' * 10**5, 'not JSON: '), ('{"name": "a", "name": "b"}', "holds 'name' twice"),
    (' ' * 10**6 + '1', 'is longer than 1000000 bytes'), ('[[1]]', r'the value is \[\[1\]\]; must be an object')])
def test_a_file_that_is_not_a_sensor_is_refused_at_once(tmp_path, text, message):
    """Deep nesting gave a RecursionError, and a large file took time and memory."""
    (tmp_path / 'mine.json').write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SensorFileError, match=f'mine.json: {message}|mine.json: .*{message}'):
        load_sensor(tmp_path / 'mine.json')


@pytest.mark.parametrize('path', ['x' * 300 + '.json', 'x' * 300, 'a\0.json'])
def test_a_path_that_cannot_be_looked_at_is_refused(path):
    """OSError: File name too long."""
    with pytest.raises(SensorFileError, match='cannot be read: File name too long|no such sensor'):
        load_sensor(path)


def test_a_sensor_that_could_not_be_loaded_is_not_saved(tmp_path):
    with pytest.raises(SensorFileError, match='mine.json: vignette is 1.5; must be 0 to 1'):
        save_sensor(tmp_path / 'mine.json', dataclasses.replace(GELSIGHT, vignette=1.5))
    assert list(tmp_path.iterdir()) == []


def test_a_sensor_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    """A fit of an hour replaced by half a file; a link to it that becomes a copy."""
    path, link = tmp_path / 'mine.json', tmp_path / 'link.json'
    save_sensor(path, GELSIGHT)
    link.symlink_to(path)
    save_sensor(link, DIGIT)
    assert link.is_symlink() and load_sensor(path) == DIGIT
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        with pytest.raises(OSError, match='too large'):
            save_sensor(path, GELSIGHT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before and sorted(p.name for p in tmp_path.iterdir()) == ['link.json', 'mine.json']


def test_an_unknown_sensor_or_invalid_json_is_refused(tmp_path):
    with pytest.raises(SensorFileError, match='gelsigth: no such sensor; give a .json file or one of digit, gelsight'):
        load_sensor('gelsigth')
    (tmp_path / 'cut.json').write_text('{"name": "cu')
    with pytest.raises(SensorFileError, match='cut.json: not JSON'):
        load_sensor(tmp_path / 'cut.json')


@pytest.mark.parametrize('mask', (0o022, 0o077, 0o002))
def test_the_mode_follows_the_umask(tmp_path, mask):
    """0644 whatever the umask."""
    before = os.umask(mask)
    try:
        save_sensor(tmp_path / 'mine.json', GELSIGHT)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / 'mine.json').stat().st_mode) == 0o666 & ~mask

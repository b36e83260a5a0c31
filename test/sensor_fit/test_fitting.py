"""Sensors fitted to ball presses: of the simulator, where the truth is known, and of a real sensor."""

import math
from functools import partial

import cv2
import numpy as np
import pytest
from real_data import real_data
from toy_presses import COLUMNS, KNOWN, write_presses, write_rows

from vit_tactile_ros.data.table import DataError
from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.sensor_fit.example_table import ExampleTable, load_table
from vit_tactile_ros.sensor_fit.fitting import (
    Placement,
    Shading,
    fit_lights_to_table,
    fit_shading,
    predict,
    predict_from_table,
    refine,
    view_of,
)
from vit_tactile_ros.sensor_fit.glow_fit import fit_background
from vit_tactile_ros.sensor_fit.press_errors import press_error, zero
from vit_tactile_ros.sensor_fit.presses import read_presses
from vit_tactile_ros.simulator import GELSIGHT, Contact, Gel, Light, SensorUnit, load_sensor

TRUTH = Shading(KNOWN.lights, KNOWN.depth_rgb, KNOWN.gel, KNOWN.lens_blur_px)


def read(folder):
    return read_presses(folder / 'presses.csv', folder / 'reference.png')


def test_the_fit_predicts_what_the_simulator_renders(tmp_path):
    """The fit has its own shading code because it needs each light separately; both must agree."""
    write_presses(tmp_path, 6)
    press = read(tmp_path).presses[2]
    unit = SensorUnit(KNOWN, np.random.default_rng(0), variation=0)
    for x_px, y_px, depth in ((press.x_px, press.y_px, 0.9), (press.x_px + 2, press.y_px - 3, 1.8)):
        view = view_of(press, KNOWN.gel)
        ball = Contact('sphere', depth, radius_mm=2.0, x_mm=(x_px - unit.centre_px[0]) * KNOWN.mm_per_px,
                       y_mm=(y_px - unit.centre_px[1]) * KNOWN.mm_per_px)
        lit = np.full_like(unit.background, 1000)  # far from black, where the simulator cuts off
        unit._add_shading(ball, lit)
        rendered = lit.transpose(1, 2, 0)[view.y_px.astype(int), view.x_px.astype(int)][view.seen] - 1000
        np.testing.assert_allclose(predict(view, Placement(x_px, y_px, depth), TRUTH), rendered, atol=0.6)


def test_presses_rendered_by_the_simulator_give_back_its_lights(tmp_path):
    """Labelled by hand, so a pixel off."""
    write_presses(tmp_path, 9, off_px=1.0)
    views = [view_of(press, GELSIGHT.gel) for press in read(tmp_path).presses]
    shading, placements = fit_shading(views, GELSIGHT.gel, KNOWN.lens_blur_px)
    for true in KNOWN.lights:
        # lights have no order: each channel's strongest is its light
        found = max(shading.lights, key=lambda light: light.rgb[int(np.argmax(true.rgb))])
        turn = math.remainder(found.azimuth_rad - true.azimuth_rad, 2 * math.pi)
        assert abs(turn) < 0.1, (true, found)
        assert found.elevation_rad == pytest.approx(true.elevation_rad, abs=0.15)
        assert found.rgb == pytest.approx(true.rgb, abs=20)
    assert shading.gel.spread_mm[0] == pytest.approx(KNOWN.gel.spread_mm[0], rel=0.25)
    # the residual is the noise (1 grey level in image and reference) and rounding
    assert press_error('', '', '', views, placements, partial(predict, shading=shading)).disc < 1.7


def test_a_wrong_label_is_corrected(tmp_path):
    write_presses(tmp_path, 6)
    press = read(tmp_path).presses[4]
    view = view_of(press, KNOWN.gel)
    wrong = view.labelled.moved(1.5, -1.0, 0.2)
    found = refine(view, partial(predict, shading=TRUTH), wrong)
    assert (found.x_px, found.y_px) == pytest.approx((press.x_px, press.y_px), abs=0.3)
    assert found.depth_mm == pytest.approx(press.depth_mm, abs=0.08)


def test_drift_of_the_light_is_removed(tmp_path):
    write_presses(tmp_path, 6)
    before = read(tmp_path).presses[0].change
    brighter = cv2.imread(str(tmp_path / '00.png')).astype(int) + 9
    cv2.imwrite(str(tmp_path / '00.png'), np.clip(brighter, 0, 255))
    np.testing.assert_allclose(read(tmp_path).presses[0].change, before, atol=1)


def test_held_out_presses_are_spread_and_no_others(tmp_path):
    write_presses(tmp_path, 8)
    fitted, held = read(tmp_path).split(0.25)
    assert [press.name for press in held.presses] == ['03.png', '07.png']
    assert len(fitted.presses) == 6
    for share, message in ((0.0, 'hold_out is 0.0'), (0.05, '8 of 8 presses to fit and 0'), (0.9, '0.9: 1 of 8')):
        with pytest.raises(DataError, match=message):
            read(tmp_path).split(share)


def test_a_contact_larger_than_its_ball_is_clipped_with_a_warning(tmp_path, caplog):
    rows = write_presses(tmp_path, 6)
    rows[2][3] = 99
    write_rows(tmp_path, rows)
    presses = read(tmp_path)
    assert presses.num_clipped == 1 and presses.presses[2].depth_mm == pytest.approx(2.0)
    assert '1 of 6 contact radii are larger than the ball' in caplog.text


def change_cell(column, value):
    def change(folder, rows):
        rows[3][COLUMNS.index(column)] = value
        write_rows(folder, rows)
    return change


def other_size(folder, rows):
    cv2.imwrite(str(folder / '03.png'), np.zeros((90, 128, 3), np.uint8))


@pytest.mark.parametrize('change, message', [
    (lambda folder, rows: write_rows(folder, [row[1:] for row in rows], COLUMNS[1:]), "no column 'image'; it needs"),
    (lambda folder, rows: write_rows(folder, [row[:5] for row in rows], COLUMNS[:5]), "no column 'mm_per_px'"),
    (lambda folder, rows: write_rows(folder, rows[:5]), 'has 5 presses; must be at least 6'),
    (lambda folder, rows: (folder / '03.png').write_bytes(b'not an image'), r'03.png cannot be read'),
    (lambda folder, rows: (folder / '03.png').unlink(), r'03.png cannot be read: No such file'),
    (lambda folder, rows: (folder / 'reference.png').unlink(), r'reference.png cannot be read: No such file'),
    (other_size, 'line 5: 03.png is 128x90 px; must be 128x96 like the reference .*reference.png'),
    (change_cell('center_x_px', 128), r'line 5: the press at \(128, .* is outside its image of 128x96 px'),
    (change_cell('center_y_px', -1), r'is outside'),
    (change_cell('center_y_px', 'mid'), "line 5: center_y_px is 'mid'; must be a number"),
    (change_cell('contact_radius_px', 'nan'), "contact_radius_px is 'nan'"),
    (change_cell('ball_radius_mm', 0), 'ball_radius_mm is 0; must be above 0'),
    (change_cell('contact_radius_px', 1.5), 'the contact radius is 1.5 px'),
    (change_cell('mm_per_px', 0.3), 'mm_per_px is 0.3; must be 0.145 as in the lines above'),
])
def test_bad_presses_are_refused(tmp_path, change, message):
    rows = write_presses(tmp_path, 6)
    change(tmp_path, rows)
    with pytest.raises(UserError, match=message):
        read(tmp_path)


def test_the_background_that_is_fitted_is_painted_by_the_simulator(tmp_path):
    write_presses(tmp_path, 6)
    reference = read(tmp_path).reference
    background, glows, error = fit_background(reference, num_glows=3, starts=2)
    plain = np.abs(reference - reference.mean(axis=(0, 1))).mean()
    assert len(glows) == 3 and error < 0.3 * plain


def linear_table(bins=60):
    """A table of one light: red rises with the slope to the right, green with the slope downwards."""
    tilt = np.arange(bins) * (math.pi / 2) / (bins - 1)
    direction = np.arange(bins) * 2 * math.pi / (bins - 1) - math.pi
    slope = np.tan(np.minimum(tilt, 1.2))
    coefficients = np.zeros((bins, bins, 3, 6))
    coefficients[:, :, 0, 5] = 40 * slope[:, None] * np.cos(direction)
    coefficients[:, :, 1, 5] = 40 * slope[:, None] * np.sin(direction)
    coefficients[:, :, 2, 3] = 0.5  # and blue with the place
    return coefficients


def save_table(path, coefficients, channels='rgb'):
    red, green, blue = (coefficients[:, :, i] for i in ((0, 1, 2) if channels == 'rgb' else (2, 1, 0)))
    np.savez(path, bins=len(coefficients), grad_r=red, grad_g=green, grad_b=blue)


def test_a_table_is_looked_up_by_slope_direction_and_position(tmp_path):
    save_table(tmp_path / 'table.npz', linear_table(), 'bgr')
    table = load_table(tmp_path / 'table.npz', 'bgr')
    change = table.change(np.array([0.5, 0.0, -0.5]), np.array([0.0, 0.5, 0.01]), np.array([0, 10, 20]), np.zeros(3))
    np.testing.assert_allclose(change, [[20, 0, 0], [0, 20, 5], [-20, 0, 10]], atol=2.5)
    np.testing.assert_array_equal(load_table(tmp_path / 'table.npz', 'rgb').coefficients[:, :, 0],
                                  table.coefficients[:, :, 2])


def test_a_table_uses_the_slopes_of_the_ball_in_the_disc(tmp_path):
    write_presses(tmp_path, 6)
    view = view_of(read(tmp_path).presses[0], Gel())
    change = predict_from_table(view, view.labelled, ExampleTable(linear_table(200)), Gel())
    x = (view.x_px[view.seen] - view.labelled.x_px) * KNOWN.mm_per_px
    y = (view.y_px[view.seen] - view.labelled.y_px) * KNOWN.mm_per_px
    close = x**2 + y**2 < 0.8
    np.testing.assert_allclose(change[close, 0], -40 * x[close] / np.sqrt(4 - x[close]**2 - y[close]**2), atol=1.0)


def test_lights_are_fitted_to_a_table():
    """A table made of two known lights (Lambert's law, so only its bins contribute to the residual)."""
    known = (Light(-2.2, 0.5, (100.0, 5.0, 0.0), 0.0), Light(1.0, 0.6, (0.0, 20.0, 90.0), 0.0))
    bins = 120
    tilt = (np.arange(bins)[:, None] + 0.5) * (math.pi / 2) / (bins - 1)
    direction = (np.arange(bins)[None, :] + 0.5) * 2 * math.pi / (bins - 1) - math.pi
    coefficients = np.zeros((bins, bins, 3, 6))
    for light in known:
        # on a tilted plane: sin(elevation) cos(tilt) - cos(elevation) sin(tilt) cos(direction - azimuth)
        lit = (math.sin(light.elevation_rad) * np.cos(tilt)
               - math.cos(light.elevation_rad) * np.sin(tilt) * np.cos(direction - light.azimuth_rad))
        coefficients[..., 5] += (np.maximum(lit, 0) - math.sin(light.elevation_rad))[..., None] * np.array(light.rgb)
    lights, error, nothing = fit_lights_to_table(ExampleTable(coefficients), (96, 128), num_lights=2)
    assert error < 0.05 * nothing
    for true in known:
        found = max(lights, key=lambda light: light.rgb[int(np.argmax(true.rgb))])
        assert abs(math.remainder(found.azimuth_rad - true.azimuth_rad, 2 * math.pi)) < 0.05
        assert found.elevation_rad == pytest.approx(true.elevation_rad, abs=0.05)
        assert found.rgb == pytest.approx(true.rgb, abs=6)


@pytest.mark.parametrize('spoil, message', [
    (lambda path: path.write_bytes(b'PK no zip'), 'cannot be read as a table'),
    (lambda path: path.unlink(), 'cannot be read as a table'),
    (lambda path: np.savez(path, bins=8), "no 'grad_r'"),
    (lambda path: save_table(path, np.zeros((8, 9, 3, 6))), r'grad_r has the shape \(8, 9, 6\); must be \(8, 8, 6\)'),
])
def test_another_file_is_not_a_table(tmp_path, spoil, message):
    path = tmp_path / 'table.npz'
    save_table(path, linear_table(8))
    spoil(path)
    with pytest.raises(DataError, match=message):
        load_table(path)


def test_a_real_sensors_held_out_presses(caplog):
    """Fitted to every fourth press that is not held out, to save time; all of them make it half a grey level better."""
    folder = real_data('gelsight_calibration/taxim_gelsight_ball4mm')
    fitted, held = read_presses(folder / 'presses.csv', folder / 'reference.png').split(0.25)
    base = load_sensor('gelsight')
    views = [view_of(press, base.gel) for press in fitted.presses[::4]]
    shading, _ = fit_shading(views, base.gel, 0.3, rounds=2)
    predictor = partial(predict, shading=shading)
    views = [view_of(press, base.gel) for press in held.presses]
    places = [refine(view, predictor, view.labelled) for view in views]
    ours, nothing = (press_error('held-out', '', '', views, places, model) for model in (predictor, zero))
    assert ours.presses == 9 and ours.disc_pixels > 6000
    assert ours.disc < 9 and ours.disc < nothing.disc / 3
    assert ours.ring < nothing.ring / 2


@pytest.mark.parametrize('name', ('03.png', 'reference.png'))
def test_a_truncated_or_rotated_press_is_read_like_any_image(tmp_path, name):
    """Presses had a separate reader, which accepted truncated JPEGs and rotated images by EXIF."""
    write_presses(tmp_path, 6)
    before = read(tmp_path)
    path = tmp_path / name
    ok, data = cv2.imencode('.jpg', cv2.imread(str(path)), (cv2.IMWRITE_JPEG_QUALITY, 100))
    path.write_bytes(data.tobytes() + b'trailer\xff\xd9')
    np.testing.assert_allclose(read(tmp_path).reference, before.reference, atol=8)
    path.write_bytes(data.tobytes()[:len(data) // 2])
    with pytest.raises(UserError, match=rf'{name} cannot be read as .*truncated'):
        read(tmp_path)

"""Fit the simulator to your own sensor: press a ball into its gel 20 times and label the contact discs.

presses.csv has the columns image, center_x_px, center_y_px, contact_radius_px, ball_radius_mm and mm_per_px. Without
presses, --from_table fits the lights to an example-based table (.npz of Taxim) of the sensor.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from vit_tactile_ros import flags
from vit_tactile_ros.evaluation.figures import save_figure
from vit_tactile_ros.foundation.command import command
from vit_tactile_ros.foundation.command_flags import REQUIRED, flag
from vit_tactile_ros.foundation.errors import UserError, check_least
from vit_tactile_ros.foundation.files import check_writable
from vit_tactile_ros.inference.image_file import read_image
from vit_tactile_ros.sensor_fit.example_table import load_table
from vit_tactile_ros.sensor_fit.fitting import (
    ROUNDS,
    Placement,
    Predictor,
    Shading,
    View,
    fit_lights_to_table,
    fit_shading,
    predict,
    predict_from_table,
    refine,
    view_of,
)
from vit_tactile_ros.sensor_fit.glow_fit import fit_background
from vit_tactile_ros.sensor_fit.press_errors import PressError, press_error, press_figure, zero
from vit_tactile_ros.sensor_fit.presses import PressSet, read_presses
from vit_tactile_ros.simulator import Contact, SensorConfig, SensorUnit, load_sensor, save_sensor

NUM_SHOWN = 3  # presses in the figure
FITTED = 'fitted'
EXAMPLES = (
    '--presses presses.csv --reference reference.png --output my_sensor.json --picture fit.png',
    '--from_table polycalib.npz --base digit --table_size 240 320 --output my_digit.json',
)


@dataclass(frozen=True, kw_only=True)
class FitRequest:
    """The settings of the command; raises UserError naming the field that is wrong."""

    presses: Path | None = flag(None, 'CSV of ball presses; image paths relative to its folder')
    reference: Path | None = flag(None, 'image without contact, of the same size; the background is fitted to it')
    output: Path = flag(REQUIRED, 'sensor file (.json) to write')
    table: Path | None = flag(None, 'example-based table (.npz) of the same sensor and image size, for comparison')
    from_table: Path | None = flag(None, 'table (.npz) to fit the lights to, instead of presses')
    table_channels: Literal['bgr', 'rgb'] = flag(
        'bgr', "'bgr' if the table's grad_r holds blue, as in Taxim's GelSight tables; 'rgb' if it is red")
    table_size: tuple[int, int] | None = flag(
        None, 'size in px of the images that --from_table was made from; default: the size of the base sensor',
        ('WIDTH', 'HEIGHT'))
    picture: Path | None = flag(None, f'PNG of {NUM_SHOWN} held-out presses, real and simulated')
    base: str = flag('gelsight', 'sensor for what presses do not determine: noise, texture, skin, lens')
    hold_out: float = flag(0.25, 'share of the presses that are not fitted, to measure the error')
    lights: int = flag(3, 'how many lights to fit; 6 fit slightly better and render slower')
    positive_colours: bool = flag(False, 'no light may darken a channel (slightly worse fit)')
    rounds: int = flag(ROUNDS, 'how often lights and ball positions are fitted in turn')
    scale: float = flag(1.0, 'resolution of the written sensor relative to the images')
    name: str = flag('', "the sensor's name; default: that of the output file")
    source: str = flag('', 'origin and licence of the presses, stored in the file')

    def __post_init__(self) -> None:
        if (self.presses is None) == (self.from_table is None):
            raise UserError('give either --presses or --from_table')
        if self.presses and not self.reference:
            raise UserError('presses needs --reference, the image without contact')
        if self.output.suffix != '.json':
            raise UserError(f'output is {self.output}; must end in .json')
        if not 1 <= self.lights <= 12:
            raise UserError(f'lights is {self.lights}; must be 1 to 12')
        check_least(self, rounds=1)
        if not 0.25 <= self.scale <= 8:
            raise UserError(f'scale is {self.scale}; must be 0.25 to 8')


def parse_arguments(argv: list[str] | None = None) -> FitRequest:
    return flags.parse('fit_sensor', __doc__, EXAMPLES, FitRequest, argv)


@command('fit_sensor', stopped='stopped; no sensor file was written')
def main(argv: list[str] | None = None) -> int:
    request = parse_arguments(argv)
    logging.getLogger('vit_tactile_ros').setLevel(logging.INFO)
    for path in (request.output, request.picture):
        if path:
            check_writable(path)
    cv2.setNumThreads(1)
    console = Console(width=None if sys.stdout.isatty() else 120)
    fit = _fit_presses if request.presses else _fit_table
    result = fit(console, request, load_sensor(request.base))
    console.print(f'wrote {request.output}', soft_wrap=True)
    print(json.dumps({'sensor': str(request.output), **result}))
    return 0


def _fit_presses(console: Console, request: FitRequest, base: SensorConfig) -> dict[str, Any]:
    assert request.presses and request.reference
    presses = read_presses(request.presses, request.reference)
    fitted, held = presses.split(request.hold_out)
    table = load_table(request.table, request.table_channels) if request.table else None
    height, width = presses.reference.shape[:2]
    blur = base.lens_blur_px * max(width, height) / max(base.width, base.height)
    train_views, held_views = ([view_of(press, base.gel) for press in part.presses] for part in (fitted, held))
    shading, train_places = fit_shading(train_views, base.gel, blur, request.lights, not request.positive_colours,
                                        request.rounds)
    background, glows, background_error = fit_background(presses.reference)
    config = _rounded(replace(
        base, name=request.name or request.output.stem, source=_source(request, presses, fitted), height=height,
        width=width, mm_per_px=presses.mm_per_px, lights=shading.lights, depth_rgb=shading.depth_rgb, gel=shading.gel,
        lens_blur_px=blur, background_rgb=background, glows=glows, vignette=0.0, shadow=0.0))
    # the rounded values are measured, as they are written
    shading = Shading(config.lights, config.depth_rgb, config.gel, config.lens_blur_px)
    models: dict[str, Predictor] = {FITTED: partial(predict, shading=shading)}
    if table:
        models['table'] = partial(predict_from_table, table=table, gel=shading.gel)
    errors, refined = _measure(models, train_views, held_views, {FITTED: train_places})
    _report(console, errors, background_error, presses, bool(table))
    if request.picture:
        shown = _spread(len(held_views), NUM_SHOWN)
        views = [held_views[i] for i in shown]
        places = {name: [refined[name][i] for i in shown] for name in models}
        figure = press_figure(views, _renders(config, views, places[FITTED]),
                              {name: (predictor, places[name]) for name, predictor in models.items()})
        request.picture.parent.mkdir(parents=True, exist_ok=True)
        save_figure(figure, request.picture)
        console.print(f'drew {request.picture}', soft_wrap=True)
    _write(request, config)
    return {'presses': len(presses.presses), 'clipped_radii': presses.num_clipped, 'background_error': background_error,
            'errors': [asdict(error) for error in errors]}


def _fit_table(console: Console, request: FitRequest, base: SensorConfig) -> dict[str, Any]:
    assert request.from_table
    table = load_table(request.from_table, request.table_channels)
    width, height = request.table_size or (base.width, base.height)
    lights, error, nothing = fit_lights_to_table(table, (height, width), request.lights,
                                                 not request.positive_colours)
    source = request.source or f'Lights: fitted to the gradient-to-colour table {request.from_table.name}.'
    config = replace(base, name=request.name or request.output.stem, source=source, height=height, width=width,
                     mm_per_px=base.mm_per_px * max(base.width, base.height) / max(width, height), lights=lights,
                     lens_blur_px=base.lens_blur_px * max(width, height) / max(base.width, base.height),
                     depth_rgb=(0.0, 0.0, 0.0))
    result: dict[str, Any] = {'table_error': error, 'no_model_error': nothing}
    if request.reference:
        background, glows, result['background_error'] = fit_background(read_image(request.reference))
        config = replace(config, background_rgb=background, glows=glows)
    console.print(f'{len(lights)} lights differ from the table by {error:.1f} grey levels (mean absolute), no light at '
                  f'all by {nothing:.1f}; the table does not describe the gel; that of {base.name} is kept',
                  soft_wrap=True)
    _write(request, _rounded(config))
    return result


def _measure(models: dict[str, Predictor], train: Sequence[View], held: Sequence[View],
             known: dict[str, list[Placement]]) -> tuple[list[PressError], dict[str, list[Placement]]]:
    """Errors of every model with labelled, shifted and refined geometry; the held-out presses' refined places.

    known: the refined places of the training presses, if a fit has found them.
    """
    errors, places = [], {}
    labelled = {'train': [view.labelled for view in train], 'held-out': [view.labelled for view in held]}
    shift = {}
    for name, predictor in models.items():
        refined = {'train': known.get(name) or [refine(view, predictor, view.labelled) for view in train]}
        # the mean error of the labels, measured on the fitted presses
        shift[name] = np.mean([(place.x_px - label.x_px, place.y_px - label.y_px, place.depth_mm - label.depth_mm)
                               for place, label in zip(refined['train'], labelled['train'])], axis=0).tolist()
        shifted = {part: [place.moved(*shift[name]) for place in labels] for part, labels in labelled.items()}
        refined['held-out'] = [refine(view, predictor, place) for view, place in zip(held, shifted['held-out'])]
        places[name] = refined['held-out']
        for part, views in (('train', train), ('held-out', held)):
            for geometry, chosen in (('labelled', labelled), ('shifted', shifted), ('refined', refined)):
                errors.append(press_error(part, name, geometry, views, chosen[part], predictor))
    for part, views in (('train', train), ('held-out', held)):
        errors.append(press_error(part, 'no model', 'any', views, labelled[part], zero))
    return sorted(errors, key=lambda error: error.part == 'held-out'), places


def _report(console: Console, errors: Sequence[PressError], background_error: float, presses: PressSet,
            has_table: bool) -> None:
    table = Table('presses', 'n', 'model', 'geometry', 'error in the disc', 'around it', 'pixels in / around',
                  title='mean absolute colour error, grey levels')
    before = errors[0]
    for error in errors:
        if error.part != before.part:
            table.add_section()
        table.add_row(error.part, str(error.presses), error.model, error.geometry, f'{error.disc:.2f}',
                      f'{error.ring:.2f}', f'{error.disc_pixels} / {error.ring_pixels}')
        before = error
    console.print(table)
    lines = ["Geometry: as labelled; labels shifted by the model's mean correction on the train presses; or each "
             "model's own best centre and depth of every press, within a few px of the label."]
    if has_table:
        lines.append('The table was probably calibrated on all presses with these labels, the held-out ones included.')
    if presses.num_clipped:
        lines.append(f'{presses.num_clipped} of {len(presses.presses)} labelled contacts were larger than the ball and '
                     'replaced by its radius.')
    lines.append(f'Background and glows: {background_error:.1f} grey levels from the reference.')
    for line in lines:
        console.print(line, soft_wrap=True)


def _renders(config: SensorConfig, views: Sequence[View], places: Sequence[Placement]) -> list[np.ndarray]:
    """The presses rendered by the simulator, with the nominal unit of the sensor."""
    rng = np.random.default_rng(0)
    unit = SensorUnit(replace(config, specks=0), rng, variation=0)
    return [unit.render(Contact('sphere', place.depth_mm, radius_mm=view.press.ball_radius_mm,
                                x_mm=(place.x_px - unit.centre_px[0]) * config.mm_per_px,
                                y_mm=(place.y_px - unit.centre_px[1]) * config.mm_per_px), rng)
            for view, place in zip(views, places)]


def _spread(length: int, count: int) -> list[int]:
    return sorted(set(np.linspace(0, length - 1, count).round().astype(int).tolist()))


def _source(request: FitRequest, presses: PressSet, fitted: PressSet) -> str:
    radii = sorted({press.ball_radius_mm for press in presses.presses})
    balls = f'{len(presses.presses)} presses of a ball of {", ".join(f"{radius:g}" for radius in radii)} mm radius'
    how = (f"Lights, depth_rgb and the gel's spread_mm: fitted to {len(fitted.presses)} of {balls}; background and "
           f'glows: least squares on the reference image; the rest: {request.base}.')
    return f'{request.source} {how}' if request.source else how


def _rounded(config: SensorConfig) -> SensorConfig:
    """The values rounded to significant digits, so that the file is readable."""
    levels = lambda rgb: tuple(round(level, 1) for level in rgb)  # noqa: E731
    return replace(
        config, mm_per_px=round(config.mm_per_px, 6), lens_blur_px=round(config.lens_blur_px, 3),
        lights=tuple(replace(light, azimuth_rad=round(light.azimuth_rad, 3), falloff=round(light.falloff, 3),
                             elevation_rad=round(light.elevation_rad, 3), rgb=levels(light.rgb))
                     for light in config.lights),
        background_rgb=levels(config.background_rgb), depth_rgb=levels(config.depth_rgb),
        glows=tuple(replace(glow, x=round(glow.x, 3), y=round(glow.y, 3), width_x=round(glow.width_x, 3),
                            width_y=round(glow.width_y, 3), rgb=levels(glow.rgb)) for glow in config.glows),
        gel=replace(config.gel, spread_mm=tuple(round(spread, 3) for spread in config.gel.spread_mm)))


def _write(request: FitRequest, config: SensorConfig) -> None:
    factor = request.scale
    config = replace(config, height=round(config.height * factor), width=round(config.width * factor),
                     mm_per_px=config.mm_per_px / factor, lens_blur_px=round(config.lens_blur_px * factor, 3))
    save_sensor(request.output, config)


if __name__ == '__main__':
    sys.exit(main())

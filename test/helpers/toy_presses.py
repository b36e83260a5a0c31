"""Ball presses rendered by the simulator, in the files that a user would record with a real sensor."""

import csv
from dataclasses import replace

import cv2
import numpy as np

from vit_tactile_ros.simulator import GELSIGHT, Contact, Light, SensorUnit

# a third of the camera's resolution; no two lights alike, and none where the search starts
KNOWN = replace(
    GELSIGHT, name='known', height=96, width=128, mm_per_px=0.145, vignette=0.0, shadow=0.0, texture=0.2, specks=0,
    lens_blur_px=0.4, noise=1.0, depth_rgb=(-4.0, 2.0, 8.0),
    lights=(Light(-2.3, 0.50, (100.0, 12.0, 5.0), 0.10), Light(0.4, 0.60, (8.0, 90.0, 10.0), 0.30),
            Light(1.7, 0.45, (-15.0, 10.0, 110.0), 0.20)))
COLUMNS = ['image', 'center_x_px', 'center_y_px', 'contact_radius_px', 'ball_radius_mm', 'mm_per_px']


def write_presses(folder, n=8, config=KNOWN, off_px=0.0):
    """presses.csv, reference.png and n images; off_px: standard deviation of the label errors. Returns the rows."""
    rng = np.random.default_rng(0)
    unit = SensorUnit(config, rng, variation=0)
    cv2.imwrite(str(folder / 'reference.png'), unit.reference[..., ::-1])
    rows = []
    for i in range(n):
        x, y = 0.25 + 0.5 * (i % 3) / 2, 0.3 + 0.4 * (i // 3 % 3) / 2
        x_px, y_px = x * config.width, y * config.height
        depth, radius = float(rng.uniform(0.7, 1.3)), 2.0
        ball = Contact('sphere', depth, radius_mm=radius, x_mm=(x_px - unit.centre_px[0]) * config.mm_per_px,
                       y_mm=(y_px - unit.centre_px[1]) * config.mm_per_px)
        cv2.imwrite(str(folder / f'{i:02d}.png'), unit.render(ball, rng)[..., ::-1])
        contact_px = float(np.sqrt(depth * (2 * radius - depth))) / config.mm_per_px
        x_px, y_px = (float(value + off_px * rng.standard_normal()) for value in (x_px, y_px))
        rows.append([f'{i:02d}.png', x_px, y_px, contact_px, radius, config.mm_per_px])
    write_rows(folder, rows)
    return rows


def write_rows(folder, rows, columns=COLUMNS):
    with (folder / 'presses.csv').open('w', newline='') as file:
        csv.writer(file).writerows([columns, *rows])

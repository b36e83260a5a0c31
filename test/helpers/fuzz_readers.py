"""The readers of bytes from outside, for `fuzz`: valid inputs, the call, the documented error, limits."""

from __future__ import annotations

import functools
import importlib.util
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bag_mutations
import fuzz_arrays as arrays
import fuzz_bags as bags
import fuzz_images as images
import fuzz_text as text
from mutations import mutate_bytes

from vit_tactile_ros.foundation.errors import UserError


@dataclass(frozen=True)
class Reader:
    name: str
    prepare: Callable[[Path], list[Path]]  # writes valid inputs to a folder, each in one of its own
    call: Callable[[Path], str | None]  # the outcome; raises AssertionError for a wrong one
    documented: tuple[type[Exception], ...] = (UserError,)
    mutate: Callable[[bytes, random.Random], bytes] = mutate_bytes
    strategy: Callable[[dict[Path, bytes]], Any] | None = None  # of hypothesis, from the valid contents
    seconds: float = 1.0  # of the CPU
    sample: int = 60  # inputs in `make test`
    megabytes: int = 300  # above those of the process without input; also what it may grow by over all inputs


def readers() -> list[Reader]:
    return [
        Reader('raw message', images.raw_messages, images.read_message, mutate=images.mutate_message,
               strategy=images.message_strategy),
        Reader('compressed message', images.compressed_messages, images.read_compressed, mutate=images.mutate_image,
               megabytes=700),
        Reader('image file', images.image_files, images.read_image_file, mutate=images.mutate_image, megabytes=700),
        Reader('checkpoint', arrays.checkpoints, arrays.read_checkpoint, mutate=arrays.mutate_checkpoint),
        Reader('training state', arrays.training_states, arrays.read_training_state, arrays.state_errors(),
               mutate=arrays.mutate_checkpoint),
        Reader('stored reference', arrays.stored_references, arrays.read_stored_reference, mutate=arrays.mutate_npz),
        Reader('stored outputs', arrays.stored_outputs, arrays.read_stored_outputs, arrays.damaged_outputs(),
               mutate=arrays.mutate_npz),
        Reader('example table', arrays.example_tables, arrays.read_example_table, mutate=arrays.mutate_npz),
        Reader('sensor file', text.sensor_files, text.read_sensor_file, mutate=text.mutate_json,
               strategy=text.json_strategy),
        Reader('lerobot', text.lerobot_sets, text.read_lerobot_set, mutate=text.mutate_lerobot),
        Reader('engine choice', text.engine_choices, text.read_engine_choice, mutate=text.mutate_json,
               strategy=text.json_strategy),
        Reader('touches csv', text.touch_tables, text.read_touch_table, mutate=text.mutate_text,
               strategy=text.csv_strategy),
        Reader('intervals csv', text.interval_tables, text.read_interval_table, mutate=text.mutate_text,
               strategy=text.csv_strategy),
        Reader('presses csv', text.press_tables, text.read_press_table, mutate=text.mutate_text,
               strategy=text.csv_strategy),
        Reader('frames csv', text.frame_tables, text.read_frame_table, mutate=text.mutate_text),
        Reader('metadata yaml', text.metadata_files, text.read_metadata_file, (ValueError,), mutate=text.mutate_text,
               strategy=text.yaml_strategy),
        *([Reader('parameters yaml', text.parameter_files, text.read_parameter_file, (), mutate=text.mutate_text,
                  strategy=text.yaml_strategy)] if importlib.util.find_spec('rclpy') else []),  # the library has none
        *(Reader(f'bag {kind}', functools.partial(bags.write_bag, kind), functools.partial(bags.judge_bag, kind), (),
                 mutate=functools.partial(mutate_bytes, gentle=True), sample=48, megabytes=700)
          for kind in bag_mutations.FORMATS),
        *(Reader(f'hostile bag {kind}', functools.partial(bags.write_bag, kind), bags.read_bag, (), sample=30,
                 megabytes=700)
          for kind in bag_mutations.FORMATS),
    ]

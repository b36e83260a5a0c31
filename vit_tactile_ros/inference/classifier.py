"""Frames to decisions: preprocessing, the staged runtime and the exit decision joined."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.inference.closer import look_closer
from vit_tactile_ros.inference.decide import decide
from vit_tactile_ros.inference.engines.select import make_runtime
from vit_tactile_ros.inference.gate import GATE_CONFIDENCE, GATE_EXIT_BLOCK, GATE_EXIT_INDEX
from vit_tactile_ros.inference.preprocess import Input, fit, normalise
from vit_tactile_ros.inference.runtime import Precision, Runtime, fastest_thread_count, select_device
from vit_tactile_ros.inference.slip_evidence import SlipEvidence
from vit_tactile_ros.inference.touch_events import NO_CONTACT, are_states
from vit_tactile_ros.model import GREY_SHARE, UNLABELLED, Checkpoint, Hurry, compute_shares, thresholds
from vit_tactile_ros.model.tokens import Group, choose_tokens, kept_shares, touched_images

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Decision:
    """The prediction for one frame."""

    class_id: int
    class_name: str
    confidence: float  # probability of the class at the exit that was taken, 0..1
    probabilities: NDArray[np.float32]  # (C,)
    exit_index: int  # 0-based; -1: the gate decided, no block ran
    exit_block: int  # 1-based block that the exit follows; 0: the gate
    exit_confidences: NDArray[np.float32]  # at every evaluated exit, earliest first
    tau: tuple[float, ...]  # threshold of each early exit; of `Hurry` where the exit that was used needed it
    compute_share: float  # of the full depth's multiply-adds, times the share of patches that were computed, 0..1
    inference_time: float  # s, from the ready input of the batch to the decision; the gate's: 0
    slip: SlipEvidence | None = None  # of the motion, for classes that are states
    is_repeated: bool = False  # the result of an earlier frame


class TactileClassifier:
    """A checkpoint prepared on a device; not thread-safe, one caller at a time."""

    def __init__(self, checkpoint: Checkpoint, device: str = 'auto',
                 precision: Precision | Literal['auto'] = 'float32', threads: int = 0,
                 engine: str | None = None) -> None:
        """Raises UserError for a device that does not exist, a precision or engine that can't run here, or a checkpoint
        that was pre-trained without labels.

        `engine` and `precision` are those of `engines.select.make_runtime`. engine None is plain torch, so that the
        figures of offline commands are comparable, but 'auto' if the precision is 'int8' or 'auto'.

        `threads` is the number of CPU threads of the whole process; 0 measures whether more than one is faster.
        """
        if checkpoint.class_names == UNLABELLED:
            raise UserError('this checkpoint was pre-trained without labels and has no classes: train it on labels '
                            'first, with --init and its path')
        torch_device = select_device(device)
        if torch_device.type == 'cpu':
            cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
            # One core is left for the camera drivers: two threads on two cores are fast alone, but three times slower
            # than one thread next to two sensors at 30 Hz. With so few tokens, more than four gain nothing.
            torch.set_num_threads(threads or fastest_thread_count(checkpoint.model, min(4, cores - 1)))
        self.threads = torch.get_num_threads()
        self.runtime: Runtime = make_runtime(
            checkpoint.model, device, engine or ('auto' if precision in ('int8', 'auto') else 'torch'), precision,
            self.threads, checkpoint.calibration.activation_ranges)
        self.preprocessing = checkpoint.preprocessing
        self.class_names = checkpoint.class_names
        self.exits = checkpoint.model.config.exits
        # Checkpoints without this entry are of colour sensors, like all that this package ships.
        self.expects_grey = checkpoint.provenance.metrics.get(GREY_SHARE, 0.0) > 0.5
        # From the checkpoint, so that a network just trained predicts as it will when loaded.
        self.temperatures = checkpoint.calibration.temperatures or (1.0,) * len(self.exits)
        self.compute_shares = compute_shares(checkpoint.model.config)
        self.digest = checkpoint.digest
        self._config = checkpoint.model.config

    @property
    def needs_reference(self) -> bool:
        return self.preprocessing.reference == 'difference'

    @property
    def gate_problem(self) -> str:
        """Why the gate can't be used with this checkpoint; '' if it can."""
        if not self.needs_reference:
            return 'this checkpoint uses no reference'
        if NO_CONTACT not in self.class_names:
            return f'this checkpoint has no class {NO_CONTACT}'
        return '' if len(self.exits) > 1 else 'this checkpoint has no early exit'

    def untouched(self, tau: Sequence[float]) -> Decision | None:
        """The decision of the gate for an untouched frame; None if the network has to decide.

        With all thresholds at 1 it has to: no image exits early. Lower ones change nothing, since the confidence of the
        gate is not compared with them.
        """
        if self.gate_problem or min(tau) >= 1:
            return None
        class_id = self.class_names.index(NO_CONTACT)
        return Decision(class_id, NO_CONTACT, GATE_CONFIDENCE, gate_probabilities(self.class_names), GATE_EXIT_INDEX,
                        GATE_EXIT_BLOCK, np.empty(0, np.float32), tuple(tau), 0.0, 0.0)

    @staticmethod
    def repeated(decision: Decision, tau: Sequence[float]) -> Decision | None:
        """The decision for an unchanged frame from that of the frame before (`Frame.is_unchanged`).

        None if the network has to decide: with all thresholds at 1, no image exits early.
        """
        if min(tau, default=1.0) >= 1:
            return None
        return replace(decision, compute_share=0.0, inference_time=0.0, is_repeated=True)

    def evidence(self, touch_odds: Sequence[float] | None) -> NDArray[np.float32] | None:
        """Log likelihoods of the classes from the odds of a touch of each frame (`Frame.touch_odds`), (B, C).

        None if no frame shows anything, this checkpoint can't use it, or its classes are states: a slip leaves marks on
        the gel, which it was trained to tell from contact.
        """
        if touch_odds is None or self.gate_problem or are_states(self.class_names) or all(
                odds == 1 for odds in touch_odds):
            return None
        found = np.zeros((len(touch_odds), len(self.class_names)), np.float32)
        found[:, self.class_names.index(NO_CONTACT)] = -np.log(touch_odds)
        return found

    def thresholds(self, tau: float | Sequence[float]) -> tuple[float, ...]:
        """`tau` as one threshold per early exit; raises UserError as `model.thresholds` does."""
        return thresholds(tau, len(self.exits))

    def fit(self, image: Image) -> Image:
        """Rotate, crop and resize an image, uint8 (H, W, 3), to the input's size."""
        return fit(image, self.preprocessing)

    def see(self, image: Image, reference: Image) -> tuple[Image, Image]:
        """What `classify` needs of an image and its reference, uint8 (H, W, 3): both fitted, or the part looked at."""
        fitted, still = self.fit(image), self.fit(reference)
        closer = look_closer(image, fitted, still, self.preprocessing)
        return (fitted, still) if closer is None else (closer.image, closer.reference)

    @torch.inference_mode()
    def warm_up(self, batch_sizes: Sequence[int] = (1,), rounds: int = 2) -> None:
        """Run every stage at the given batch sizes and numbers of patches, so that the first real frame is not slow."""
        images = touched_images(self._config)
        for batch in (image.expand(batch, -1, -1, -1).contiguous() for batch in batch_sizes for image in images):
            for _ in range(rounds):
                self.classify_inputs(batch.numpy(), self.thresholds(1.0))
                for _logits in self.runtime.stages(batch):
                    pass  # a model that is confident about this image exits early at any tau

    def choose(self, inputs: Input) -> tuple[list[Group] | None, NDArray[np.float32]]:
        """Which patches of the inputs are computed, for `Runtime.stages`, and the share of each input, (B,).

        None: all patches.
        """
        if not self._config.token_threshold:
            return None, np.ones(len(inputs), np.float32)
        groups = choose_tokens(torch.from_numpy(inputs), self._config.patch_size, self._config.token_threshold)
        return groups, kept_shares(groups, self._config)

    def classify(self, fitted: Sequence[Image], references: Sequence[NDArray[np.floating] | Image | None],
                 tau: Sequence[float], previous: Sequence[Image | None] | None = None,
                 hurry: Hurry | None = None, touch_odds: Sequence[float] | None = None,
                 gains: Sequence[float] | None = None) -> list[Decision]:
        """Decisions for a batch of fitted frames, their fitted no-contact references, and the frames before them.

        touch_odds: as for `evidence`. gains: `Frame.gain` of each; default: 1.
        """
        inputs = np.empty((len(fitted), self.preprocessing.channels, *self.preprocessing.image_size), np.float32)
        for frame, reference, before, gain, into in zip(fitted, references, previous or [None] * len(fitted),
                                                        gains or [1.0] * len(fitted), inputs, strict=True):
            normalise(frame, reference, self.preprocessing, into, before, gain)
        return self.classify_inputs(inputs, tau, hurry, touch_odds)

    @torch.inference_mode()
    def classify_inputs(self, inputs: Input, tau: Sequence[float], hurry: Hurry | None = None,
                        touch_odds: Sequence[float] | None = None) -> list[Decision]:
        """Decisions for preprocessed inputs, float32 (B, channels, h, w); `tau` holds one threshold per early exit."""
        start = time.perf_counter()
        evidence = self.evidence(touch_odds)
        groups, kept = self.choose(inputs)
        result = decide(self.runtime, torch.from_numpy(inputs), tau, self.temperatures, hurry,
                        None if evidence is None else torch.from_numpy(evidence), groups)
        probabilities = result.probabilities.cpu().numpy()
        confidences = result.confidences.cpu().numpy()
        exits = result.exit_index.tolist()
        taken = time.perf_counter() - start
        class_ids = probabilities.argmax(axis=1).tolist()
        return [
            Decision(
                class_id=class_id,
                class_name=self.class_names[class_id],
                confidence=float(row[class_id]),
                probabilities=row,
                exit_index=exit_index,
                exit_block=self.exits[exit_index],
                exit_confidences=confidence[:exit_index + 1],
                tau=tuple(tau) if hurry is None or _reached(tau, exit_index, confidence) else hurry.tau,
                compute_share=self.compute_shares[exit_index] * kept_share,
                inference_time=taken,
            )
            for class_id, row, exit_index, confidence, kept_share in zip(class_ids, probabilities, exits, confidences,
                                                                         kept.tolist(), strict=True)
        ]


def gate_probabilities(class_names: Sequence[str]) -> NDArray[np.float32]:
    """Of every class, (C,), where the gate decides."""
    others = max(1, len(class_names) - 1)
    return np.array([GATE_CONFIDENCE if name == NO_CONTACT else (1 - GATE_CONFIDENCE) / others
                     for name in class_names], np.float32)


def _reached(tau: Sequence[float], exit_index: int, confidences: NDArray[np.float32]) -> bool:
    """Whether a sample exited there by tau itself."""
    return exit_index == len(tau) or (tau[exit_index] < 1.0
                                      and bool(confidences[exit_index] >= np.float32(tau[exit_index])))

"""Train the early-exit ViT on simulated touches: `python -m vit_tactile_ros.train --output runs/first`.

A run can be stopped at any moment; started again, it goes on where its last whole epoch ended.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import shlex
import sys
import time
from dataclasses import replace
from datetime import date
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from vit_tactile_ros.data.simulated import SimulatedTouches
from vit_tactile_ros.data.simulator import CLASS_NAMES
from vit_tactile_ros.inference.runtime import select_device
from vit_tactile_ros.model import (
    Calibration,
    Checkpoint,
    ModelConfig,
    PreprocessingConfig,
    Provenance,
    ViTTactile,
    save_checkpoint,
)

VALIDATION_SEED_OFFSET = 1_000_000  # keeps validation examples apart from every training seed


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog='python -m vit_tactile_ros.train', description=__doc__,
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--output', type=Path, required=True, help='folder for the checkpoint and the resume state')
    parser.add_argument('--batch_size', type=int, default=64, help='examples')
    parser.add_argument('--epochs', type=int, default=100, help='passes over epoch_size fresh examples')
    parser.add_argument('--epoch_size', type=int, default=6400, help='simulated examples in an epoch')
    parser.add_argument('--validation_size', type=int, default=1000, help='simulated examples for validation')
    parser.add_argument('--lr', type=float, default=1e-4, help='peak learning rate of AdamW')
    parser.add_argument('--warmup', type=float, default=0.05, help='share of the steps with a rising learning rate')
    parser.add_argument('--weight_decay', type=float, default=0.05, help='of AdamW')
    parser.add_argument('--loss_weights', type=float, nargs='+', default=[0.3, 0.3, 1.0], help='one per exit')
    parser.add_argument('--ema', type=float, default=0.998, help='decay per step of the moving average of the weights')
    parser.add_argument('--attention', choices=('favor_softmax', 'favor_relu', 'softmax'), default='favor_softmax',
                        help='attention kernel')
    parser.add_argument('--feature_map_dim', type=int, default=64, help='random features per head')
    parser.add_argument('--image_size', type=int, nargs=2, default=(96, 128), metavar=('HEIGHT', 'WIDTH'),
                        help='px, multiples of 16')
    parser.add_argument('--device', default='auto', help="'auto', 'cpu', 'cuda' or 'cuda:N'")
    parser.add_argument('--workers', type=int, default=1, help='processes that simulate')
    parser.add_argument('--seed', type=int, default=0, help='of weights and simulated examples')
    arguments = parser.parse_args(argv)
    for name in ('batch_size', 'epochs', 'epoch_size', 'validation_size'):
        if getattr(arguments, name) < 1:
            parser.error(f'--{name} is {getattr(arguments, name)}; must be at least 1')
    for name in ('workers', 'seed', 'lr', 'weight_decay'):
        if not 0 <= getattr(arguments, name) < math.inf:
            parser.error(f'--{name} is {getattr(arguments, name)}; must be at least 0')
    for name in ('warmup', 'ema'):
        if not 0 <= getattr(arguments, name) <= 1:
            parser.error(f'--{name} is {getattr(arguments, name)}; must be between 0 and 1')
    if len(arguments.loss_weights) != len(ModelConfig.exits):
        parser.error(f'--loss_weights has {len(arguments.loss_weights)} values; must be {len(ModelConfig.exits)}')
    return arguments


def multi_exit_loss(logits: list[Tensor], labels: Tensor, weights: list[float]) -> Tensor:
    """Weighted sum of the exits' cross-entropies, a scalar."""
    return torch.stack([w * F.cross_entropy(out.float(), labels)
                        for out, w in zip(logits, weights, strict=True)]).sum()


def learning_rate(step: int, total: int, peak: float, warmup: float) -> float:
    """Linear warm-up over the share `warmup` of the steps, then a half cosine to 1 % of the peak."""
    rising = max(1, int(total * warmup))
    if step < rising:
        return peak * (step + 1) / rising
    progress = (step - rising) / max(1, total - rising)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


@torch.no_grad()
def average_weights(average: ViTTactile, model: ViTTactile, decay: float) -> None:
    """Move the average towards the model by 1 - decay."""
    for kept, new in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        kept.lerp_(new, 1 - decay)


@torch.inference_mode()
def accuracy_per_exit(model: ViTTactile, loader: DataLoader[tuple[Tensor, int]], device: torch.device) -> list[float]:
    """Share of right answers at each exit, 0..1, had every sample left there."""
    right = torch.zeros(len(model.config.exits))
    total = 0
    for images, labels in loader:
        for i, logits in enumerate(model.stages(images.to(device))):
            right[i] += (logits.argmax(dim=1).cpu() == labels).sum()
        total += len(labels)
    return [float(r) / total for r in right]


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    state_path = arguments.output / 'training_state.pt'
    checkpoint_path = arguments.output / 'checkpoint.safetensors'
    try:
        device = select_device(arguments.device)
        size = (arguments.image_size[0], arguments.image_size[1])
        config = ModelConfig(num_classes=len(CLASS_NAMES), attention=arguments.attention,
                             feature_map_dim=arguments.feature_map_dim, image_size=size)
    except ValueError as error:
        print(f'train: {error}', file=sys.stderr)
        return 2
    # Differences of a gel's frames are small: a std of 0.1 brings them to the scale that the network starts with.
    preprocessing = PreprocessingConfig(image_size=size, reference='difference', orientation='match',
                                        crop='center', std=(0.1, 0.1, 0.1))
    arguments.output.mkdir(parents=True, exist_ok=True)

    torch.manual_seed(arguments.seed)
    model = ViTTactile(config).to(device).train()
    average = copy.deepcopy(model).eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.lr, weight_decay=arguments.weight_decay)
    settings = {k: v for k, v in vars(arguments).items() if k not in ('output', 'device', 'workers')}
    first_epoch = 0
    if state_path.exists():
        state = torch.load(state_path, map_location=device, weights_only=True)
        if changed := [k for k, v in settings.items() if json.dumps(state['settings'].get(k)) != json.dumps(v)]:
            print(f'train: {state_path} was started with --{changed[0]} {state["settings"].get(changed[0])}; '
                  'give the same settings to go on, or another --output', file=sys.stderr)
            return 2
        model.load_state_dict(state['model'])
        average.load_state_dict(state['average'])
        optimizer.load_state_dict(state['optimizer'])
        first_epoch = state['epoch']
        print(f'train: going on after epoch {first_epoch} of {arguments.epochs}')

    touches = SimulatedTouches(arguments.epochs * arguments.epoch_size, preprocessing, arguments.seed)
    validation = DataLoader(
        SimulatedTouches(arguments.validation_size, preprocessing, arguments.seed + VALIDATION_SEED_OFFSET),
        arguments.batch_size, num_workers=arguments.workers)
    steps_per_epoch = math.ceil(arguments.epoch_size / arguments.batch_size)
    total_steps = arguments.epochs * steps_per_epoch

    def save(epoch: int, accuracies: list[float]) -> None:
        metrics = {f'accuracy_block_{b}': a for b, a in zip(config.exits, accuracies, strict=True)}
        command = shlex.join(['python', '-m', 'vit_tactile_ros.train', *(argv if argv is not None else sys.argv[1:])])
        save_checkpoint(checkpoint_path, Checkpoint(
            copy.deepcopy(average).cpu(), preprocessing, CLASS_NAMES, Calibration(),
            replace(Provenance(), command=command, data='simulated touches', created=date.today().isoformat(),
                    metrics=metrics | {'epoch': epoch})))
        # Last: a run killed in between does the epoch again, where the other order would lose its checkpoint.
        temporary = state_path.with_suffix('.tmp')
        torch.save({'model': model.state_dict(), 'average': average.state_dict(), 'optimizer': optimizer.state_dict(),
                    'epoch': epoch, 'settings': settings}, temporary)
        os.replace(temporary, state_path)

    try:
        for epoch in range(first_epoch, arguments.epochs):
            examples = range(epoch * arguments.epoch_size, (epoch + 1) * arguments.epoch_size)
            loader = DataLoader(Subset(touches, examples), arguments.batch_size, num_workers=arguments.workers)
            bar = tqdm(loader, desc=f'epoch {epoch + 1}/{arguments.epochs}', mininterval=1.0,
                       disable=not sys.stderr.isatty())
            started, losses = time.monotonic(), []
            for step, (images, labels) in enumerate(bar, start=epoch * steps_per_epoch):
                for group in optimizer.param_groups:
                    group['lr'] = learning_rate(step, total_steps, arguments.lr, arguments.warmup)
                outputs = model(images.to(device))
                assert isinstance(outputs, list)
                loss = multi_exit_loss(outputs, labels.to(device), arguments.loss_weights)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                if not (torch.isfinite(loss) and torch.isfinite(norm)):
                    print(f'train: at step {step} the loss is {loss.item()} and the norm of its gradient '
                          f'{norm.item()}; lower --lr. What {arguments.output} holds is the last good epoch',
                          file=sys.stderr)
                    return 1
                optimizer.step()
                # A young average follows quickly, so that it is of use before 1 / (1 - ema) steps.
                average_weights(average, model, min(arguments.ema, (1 + step) / (10 + step)))
                losses.append(loss.item())
                bar.set_postfix(loss=f'{loss.item():.3f}')
            accuracies = accuracy_per_exit(average, validation, device)
            save(epoch + 1, accuracies)
            print(f'epoch {epoch + 1}/{arguments.epochs}: loss {sum(losses) / len(losses):.3f}, validation accuracy '
                  + ', '.join(f'block {b} {a:.3f}' for b, a in zip(config.exits, accuracies, strict=True))
                  + f', {time.monotonic() - started:.0f} s', flush=True)
    except KeyboardInterrupt:
        print(f'\ntrain: stopped; what {arguments.output} holds is the last whole epoch: run the same command to go on',
              file=sys.stderr)
        return 130
    print(f'train: wrote {checkpoint_path}')
    return 0


if __name__ == '__main__':
    sys.exit(main())

"""compile_kernels.py FOLDER: compiles the kernels of engine 'triton' for a Hopper GPU, on a machine without one.

Prints a line per kernel: its name, and the bytes of registers that do not suffice. FOLDER is for Triton's cache.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

os.environ.pop('TRITON_INTERPRET', None)
os.environ['TRITON_CACHE_DIR'] = sys.argv[1]

import torch  # noqa: E402
import triton  # noqa: E402
from direct_backend import DirectBackend  # noqa: E402
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.runtime.jit import JITFunction  # noqa: E402

from vit_tactile_ros.inference.engines.graphs import Graphs, Shape  # noqa: E402
from vit_tactile_ros.inference.engines.triton_steps import TritonSteps  # noqa: E402
from vit_tactile_ros.model import create_vit_tactile  # noqa: E402

# The default network with few and with many rows, and one with everything else that compiles differently.
WIDE = {'image_size': (96, 128), 'attention': 'favor_relu', 'feature_map_dim': 64, 'stem': 'convolution', 'queries': 2,
        'num_classes': 64, 'exits': (1,)}
CASES = [({'exits': (1,)}, 1), ({'exits': (1,)}, 64), (WIDE, 1)]


class NoDriver:
    """What Triton asks a driver before it compiles."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget('cuda', 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, _device: int = 0) -> int:
        return 0


def spilled(machine_code: bytes) -> int:
    """Bytes of the stack of a thread, which a kernel of Triton has only for registers that do not suffice."""
    file = Path(sys.argv[1]) / 'kernel.cubin'
    file.write_bytes(machine_code)
    tool = Path(triton.__file__).parent / 'backends' / 'nvidia' / 'bin' / 'cuobjdump'
    told = subprocess.run([tool, '-res-usage', file], capture_output=True, text=True, check=True).stdout
    return int(told.split('STACK:')[1].split()[0])


run = JITFunction.run
done: set[str] = set()


def compile_only(self: Any, *arguments: Any, grid: Any, warmup: bool, **named: Any) -> None:
    """In place of a launch."""
    compiled = run(self, *arguments, grid=grid, warmup=True, **named)
    if compiled.hash not in done:
        done.add(compiled.hash)
        print(self.fn.__name__, 'spilled', spilled(compiled.asm['cubin']), flush=True)


triton.runtime.driver.set_active(NoDriver())
JITFunction.run = compile_only
for changes, images in CASES:
    model = create_vit_tactile(**changes).eval().requires_grad_(False)
    steps = TritonSteps(model, torch.device('cpu'), torch.bfloat16, dependent=True)
    graphs = Graphs(model.config, steps, DirectBackend(), Shape(images, model.config.num_patches),
                    torch.ones(len(model.config.exits)))
    for replay in graphs.replay:
        replay()

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
from triton.compiler import ASTSource  # noqa: E402
from triton.runtime.jit import JITFunction  # noqa: E402

from vit_tactile_ros.inference.engines.graphs import Graphs, Shape  # noqa: E402
from vit_tactile_ros.inference.engines.triton_steps import TritonSteps  # noqa: E402
from vit_tactile_ros.model import ViTTactile, create_vit_tactile  # noqa: E402

TARGET = GPUTarget('cuda', 90, 32)
OPTIONS = ('num_warps', 'num_stages', 'launch_pdl')
TYPES = {torch.float32: '*fp32', torch.bfloat16: '*bf16', torch.int64: '*i64'}
done: set[tuple[Any, ...]] = set()


def compile_instead(self: Any, *arguments: Any, grid: Any, warmup: bool, **named: Any) -> None:
    """In place of a launch."""
    options = {name: named.pop(name) for name in OPTIONS if name in named}
    values = {**dict(zip(self.arg_names, arguments, strict=False)), **named}
    constants = {name: values[name] for name, parameter in zip(self.arg_names, self.params, strict=True)
                 if parameter.is_constexpr}
    signature = {name: 'constexpr' if name in constants else
                 TYPES[value.dtype] if isinstance(value := values[name], torch.Tensor) else 'i32'
                 for name in self.arg_names}
    key = (self.fn.__name__, *signature.values(), *constants.values())
    if key not in done:
        done.add(key)
        compiled = triton.compile(ASTSource(self, signature, constants), target=TARGET, options=options)
        print(self.fn.__name__, 'spilled', spilled(compiled.asm['cubin']), flush=True)


def spilled(machine_code: bytes) -> int:
    """Bytes of the stack of a thread, which a kernel of Triton has only for registers that do not suffice."""
    file = Path(sys.argv[1]) / 'kernel.cubin'
    file.write_bytes(machine_code)
    tool = Path(triton.__file__).parent / 'backends' / 'nvidia' / 'bin' / 'cuobjdump'
    told = subprocess.run([tool, '-res-usage', file], capture_output=True, text=True, check=True).stdout
    return int(told.split('STACK:')[1].split()[0])


class Once(DirectBackend):
    def capture(self, work: Any) -> Any:
        work()
        return work


JITFunction.run = compile_instead
for model in (create_vit_tactile(), create_vit_tactile(
        image_size=(96, 128), attention='favor_relu', feature_map_dim=64, stem='convolution', queries=2)):
    model: ViTTactile = model.eval().requires_grad_(False)
    steps = TritonSteps(model, torch.device('cpu'), torch.bfloat16, dependent=True)
    Graphs(model.config, steps, Once(), Shape(1, model.config.num_patches), torch.ones(3))

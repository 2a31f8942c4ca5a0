"""Source -> callable: a file in the cache folder, imported at the first call, launched on tensors.

On CUDA tensors (those of ROCm are too) a kernel runs for real; on CPU tensors only where Triton was
imported under TRITON_INTERPRET=1.
"""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from math import prod
from pathlib import Path
from types import ModuleType

import torch
import triton.knobs
import triton.language as tl
from torch import Tensor
from triton.runtime import KernelInterface

from ...compiler.kernels.kernel import Buffer, Kernel, Operand
from ...dsl.errors import CompilerFault
from ...dsl.mistakes import WrongDevice, WrongDtype, WrongRank
from .files import stored
from .options import Options, default_options
from .printer import print_triton, tiled_sizes
from .widths import MOST, fits_int32

MOST_PROGRAMS = 2**31 - 1
"""Programs of one launch; a larger grid is launched in parts."""

MOST_REMEMBERED = 4096
"""Sizes and strides whose integer width a kernel remembers."""

REALS = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def interpreted() -> bool:
    """Whether kernels run in Triton's interpreter: decided when Triton is imported."""
    return bool(triton.knobs.runtime.interpret)


@dataclass(slots=True)
class Built:
    """A kernel, ready to run. It pickles as its source; the file is written again where it is gone."""

    kernel: Kernel
    options: Options
    source: str
    entry: str
    backend: str = "triton"
    _function: KernelInterface | None = field(default=None, repr=False)
    _narrow: dict[object, bool] = field(default_factory=dict[object, bool], repr=False)

    def __getstate__(self) -> tuple[Kernel, Options, str, str]:
        return self.kernel, self.options, self.source, self.entry

    def __setstate__(self, state: tuple[Kernel, Options, str, str]) -> None:
        self.kernel, self.options, self.source, self.entry = state
        self.backend, self._function, self._narrow = "triton", None, {}

    @property
    def name(self) -> str:
        return self.kernel.name

    @property
    def path(self) -> Path:
        """The file that holds the source."""
        return stored(self.entry, self.source)

    def load(self) -> bool:
        """True: the source is in the index itself, and its file is written where it lacks."""
        return True

    def function(self) -> KernelInterface:
        """The `@triton.jit` function, imported at its first use."""
        function = self._function
        if function is None:
            function = self._function = getattr(imported(self.path), self.entry)
        return function

    def by_address(self, strides: Sequence[Sequence[int]], sizes: Sequence[int]) -> None:
        """None: Triton takes tensors."""
        return None

    def __call__(self, tensors: Sequence[Tensor], sizes: Sequence[int]) -> None:
        """Fill the outputs among `tensors`, which stand in the order of `kernel.buffers` with any
        strides; `sizes` in that of `kernel.sizes`.

        Raises WrongRank, WrongDtype, WrongDevice.
        """
        device = self._check(tensors)
        if device.type == "cuda":
            with torch.cuda.device(device):
                self._launch(tensors, sizes)
            return
        with warnings.catch_warnings():  # numpy remarks on what IEEE arithmetic defines
            warnings.simplefilter("ignore", RuntimeWarning)
            self._launch(tensors, sizes)

    def _launch(self, tensors: Sequence[Tensor], sizes: Sequence[int]) -> None:
        tiles = prod(-(-self._number(axis.size, sizes) // axis.tile) for axis in self.kernel.grid)
        strides = [stride for tensor in tensors for stride in tensor.stride()]
        width = tl.int32 if self._fits_int32(tensors, tuple(sizes), tuple(strides)) else tl.int64
        even = not interpreted() and all(sizes[place] % 16 == 0 for place in tiled_sizes(self.kernel))
        options = self.options.launch(capability(tensors[0].device))
        for first in range(0, tiles, MOST_PROGRAMS):
            run = self.function()[(min(tiles - first, MOST_PROGRAMS),)]
            run(*tensors, *strides, *sizes, first, INT=width, EVEN=even, **options)

    def _fits_int32(
        self, tensors: Sequence[Tensor], sizes: tuple[int, ...], strides: tuple[int, ...]
    ) -> bool:
        """Whether coordinates and offsets of this call lie in int32. An offset outside a tensor may wrap: its
        mask is false."""
        key = (sizes, strides, *(tensor.shape for tensor in tensors))
        known = self._narrow.get(key)
        if known is None:
            if len(self._narrow) >= MOST_REMEMBERED:
                self._narrow.clear()
            known = all(_reach(tensor) <= MOST for tensor in tensors) and fits_int32(self.kernel, sizes)
            self._narrow[key] = known
        return known

    def _number(self, size: Operand, sizes: Sequence[int]) -> int:
        if isinstance(size, str) and size in self.kernel.sizes:
            return max(0, sizes[self.kernel.sizes.index(size)])
        if isinstance(size, int):
            return max(0, size)
        raise CompilerFault("triton", f"the grid has the size `{size}`", str(self.kernel))

    def _check(self, tensors: Sequence[Tensor]) -> torch.device:
        """The one device of all tensors, each of which must be what its buffer says."""
        buffers = self.kernel.buffers
        if len(tensors) != len(buffers):
            raise CompilerFault("triton", f"`{self.name}` takes {len(buffers)} tensors, not {len(tensors)}")
        for buffer, tensor in zip(buffers, tensors, strict=True):
            if tensor.dim() != buffer.rank:
                raise WrongRank(
                    f"`{buffer.name}` has {tensor.dim()} dimensions where kernel `{self.name}` takes {buffer.rank}"
                )
            if tensor.dtype != dtype(buffer):
                raise WrongDtype(
                    f"`{buffer.name}` is {tensor.dtype} where kernel `{self.name}` takes {dtype(buffer)}"
                )
        devices = {tensor.device for tensor in tensors}
        device = tensors[0].device
        if len(devices) == 1 and (device.type == "cuda" or (device.type == "cpu" and interpreted())):
            return device
        raise self._wrong_device(tensors, devices)

    def _wrong_device(self, tensors: Sequence[Tensor], devices: set[torch.device]) -> WrongDevice:
        if len(devices) > 1:
            pairs = zip(self.kernel.buffers, tensors, strict=True)
            return WrongDevice(
                f"the tensors of kernel `{self.name}` lie on different devices",
                notes=[", ".join(f"`{buffer.name}` on {tensor.device}" for buffer, tensor in pairs)],
                helps=["move them to one GPU"],
            )
        return WrongDevice(
            f"Triton kernel `{self.name}` cannot run on {devices.pop().type} tensors",
            helps=[
                'move them to a GPU, or ask for backend="cpp"',
                "to interpret the kernel on the CPU, slowly, start Python with TRITON_INTERPRET=1",
            ],
        )


def _reach(tensor: Tensor) -> int:
    """The largest offset of an entry of a tensor."""
    pairs = zip(tensor.shape, tensor.stride(), strict=True)
    return sum(max(0, size - 1) * stride for size, stride in pairs)


@cache
def capability(device: torch.device) -> int:
    """The first number of the compute capability of a GPU; 0 for what has none."""
    return torch.cuda.get_device_capability(device)[0] if device.type == "cuda" and torch.version.cuda else 0


def dtype(buffer: Buffer) -> torch.dtype:
    """The dtype of a buffer's tensor."""
    match buffer.kind:
        case "bool":
            return torch.bool
        case "int":
            return torch.int64
        case _:
            return REALS[buffer.real]


def build(kernel: Kernel, options: Options | None = None) -> Built:
    """Print a kernel; Triton compiles it at its first call on a GPU, once for each layout of strides
    that it tells apart (1, divisible by 16, neither), each integer width, and sizes that 16 divides or not.

    Raises CompilerFault for a kernel that is not well formed.
    """
    chosen = options or default_options(kernel, "hip" if torch.version.hip else "cuda")
    source = print_triton(kernel, chosen)
    return Built(kernel, chosen, source.text, source.function)


def imported(path: Path) -> ModuleType:
    """The module of a stored source, imported once a process. Its file is where tracebacks point."""
    name = f"plait_triton_{path.stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise CompilerFault("triton", f"Python cannot import {path}")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[name] = module
    return sys.modules[name]

"""A built library as a callable, run on torch's own threads."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from ...compiler.kernel import Kernel
from ...compiler.target import CpuTarget, this_cpu
from .build import build as build_library
from .emit import mangle
from .pool import pool
from .printer import print_cpp
from .widths import overflows

MOST_SMALL = 1 << 14
"""Below this many elements of output a kernel runs on the calling thread alone."""


@cache
def runner() -> int:
    """The address of GOMP_parallel in the libgomp that torch has loaded, so that torch's threads and
    its thread settings hold; where torch brings none, a pool of our own with the same signature."""
    for path in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*")):
        library = ctypes.CDLL(str(path))
        address = ctypes.cast(library.GOMP_parallel, ctypes.c_void_p).value
        if address:
            return address
    return pool()


@dataclass(slots=True)
class Built:
    """One kernel, ready to run. `source` is read from the file that was compiled."""

    name: str
    library: Path
    backend: str = "cpp"
    _function: Callable[..., None] | None = field(default=None, repr=False)

    def __getstate__(self) -> tuple[str, Path]:
        return self.name, self.library

    def __setstate__(self, state: tuple[str, Path]) -> None:
        self.name, self.library = state
        self.backend, self._function = "cpp", None

    @property
    def source(self) -> str:
        return self.library.with_suffix(".cpp").read_text()

    def function(self) -> Callable[..., None]:
        """The function of the library, loaded at its first use."""
        function = self._function
        if function is None:
            function = getattr(ctypes.CDLL(str(self.library)), mangle(self.name))
            function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint]
            function.restype = None
            self._function = function
        return function

    def prepare(self, tensors: Sequence[Tensor], sizes: Sequence[int]) -> ctypes.Array[ctypes.c_long]:
        """Sizes and strides as the kernel takes them; the same for every call of these shapes."""
        numbers = [*sizes, *(stride for tensor in tensors for stride in tensor.stride())]
        return (ctypes.c_long * max(1, len(numbers)))(*numbers)

    def launch(self, tensors: Sequence[Tensor], numbers: ctypes.Array[ctypes.c_long]) -> None:
        """Run on prepared numbers."""
        buffers = (ctypes.c_void_p * len(tensors))(*[tensor.data_ptr() for tensor in tensors])
        self.function()(buffers, numbers, runner(), torch.get_num_threads())

    def __call__(self, tensors: Sequence[Tensor], sizes: Sequence[int]) -> None:
        self.launch(tensors, self.prepare(tensors, sizes))


def build(kernels: Sequence[Kernel], target: CpuTarget | None = None) -> list[Built]:
    """Print, compile and wrap the kernels of a program: one library. Raises MissingCompiler."""
    if not kernels:
        return []
    chosen = target or this_cpu()
    chosen = chosen.widened() if any(map(overflows, kernels)) else chosen
    library = build_library(print_cpp(kernels, chosen), chosen)
    return [Built(kernel.name, library) for kernel in kernels]

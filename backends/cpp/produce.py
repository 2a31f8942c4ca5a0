"""Kernels -> one library -> callables."""

from __future__ import annotations

from collections.abc import Sequence

from ...compiler.kernels.kernel import Kernel
from ...compiler.kernels.phases import Phased, kernels_of
from ...compiler.schedules.target import CpuTarget, this_cpu
from ..executable import LARGE
from .build import build as build_library
from .emit import mangle
from .launch import Built
from .printer import print_cpp
from .widths import overflows


def build(
    kernels: Sequence[Kernel | Phased], target: CpuTarget | None = None, most: int = LARGE
) -> list[Built]:
    """Print, compile and wrap the kernels of a program, for sizes up to `most`: one library. Raises
    MissingCompiler."""
    if not kernels:
        return []
    chosen = target or this_cpu()
    every = (kernel for unit in kernels for kernel in kernels_of(unit))
    chosen = chosen.widened() if any(overflows(kernel, most) for kernel in every) else chosen
    library = build_library(print_cpp(kernels, chosen), chosen)
    return [Built(kernel.name, library, mangle(kernel.name)) for kernel in kernels]

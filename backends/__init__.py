"""Kernels -> sources -> callables, and the calls on tensors. The compiler and triton are imported at
their first use only: this module is the lazy door to both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..compiler.kernels.kernel import Kernel
    from ..dsl.program import Program
    from .executable import Built
    from .precision import Precision


def assembler(
    program: Program, backend: str, precision: Precision, in_order: bool, orders: tuple[int, ...]
) -> Any:
    """The compiler proper, which a call that finds its kernels in the cache never needs."""
    made = import_module(".assemble", __package__).Assembler
    return made(program, backend, precision, in_order=in_order, orders=orders)


def reference() -> Any:
    """The interpreter: `interpret`, and `load`, which says what is wrong with a tensor."""
    return import_module(".reference", __package__)


def derivatives() -> Any:
    """Programs from programs: `gradient`, `tangent`, `apart`, `added`."""
    return import_module(".derivatives", __package__)


def hoists() -> Any:
    """A program in two: `hoist`."""
    return import_module(".hoists", __package__)


def triton_build() -> Callable[[Kernel], Built]:
    """The Triton backend's `build`."""
    return import_module(".triton.launch", __package__).build


def triton_rounded(kernel: Kernel) -> frozenset[str]:
    """The buffers that the Triton backend rounds to bfloat16 wherever a kernel reads them."""
    return import_module(".triton.rounded", __package__).rounded_buffers(kernel)


def triton_reports(kernels: Sequence[Kernel], target: str) -> list[Any]:
    """Kernels compiled ahead of time for a GPU: one KernelReport each."""
    return import_module(".triton.aot", __package__).reports(kernels, target)

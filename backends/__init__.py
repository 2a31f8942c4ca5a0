"""Kernels -> sources -> callables, and the calls on tensors. triton is imported at its first use only:
this module is the lazy door to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..compiler.kernel import Kernel
    from .executable import Built


def triton_build() -> Callable[[Kernel], Built]:
    """The Triton backend's `build`."""
    return import_module(".triton.launch", __package__).build


def triton_reports(kernels: Sequence[Kernel], target: str) -> list[Any]:
    """Kernels compiled ahead of time for a GPU: one KernelReport each."""
    return import_module(".triton.aot", __package__).reports(kernels, target)

"""Kernels -> sources -> callables, and the calls on tensors. triton is imported at its first use only:
this module is the lazy door to it."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..compiler.kernel import Kernel
    from .executable import Built


def triton_build() -> Callable[[Kernel], Built]:
    """The Triton backend's `build`."""
    return import_module(".triton.launch", __package__).build

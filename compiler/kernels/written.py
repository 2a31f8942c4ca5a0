"""A kernel with what its caller must pass: the form behind every buffer and every number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...dsl.program import Form
from .kernel import Kernel


@dataclass(frozen=True, slots=True)
class Written:
    """`tensors` are (form, is it the presence of it) in the order of the kernel's buffers, `numbers`
    size forms in the order of its sizes."""

    kernel: Kernel
    numbers: tuple[Form, ...]
    tensors: tuple[tuple[Form, bool], ...]

    @classmethod
    def of(
        cls, kernel: Kernel, numbers: Mapping[str, Form], tensors: Mapping[str, tuple[Form, bool]]
    ) -> Written:
        """Pick what the kernel, pruned of what nothing reads, still asks for."""
        return cls(
            kernel,
            tuple(numbers[name] for name in kernel.sizes),
            tuple(tensors[buffer.name] for buffer in kernel.buffers),
        )

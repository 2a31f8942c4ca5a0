"""A kernel with what its caller must pass: the form behind every buffer and every number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from ...dsl.program import Form, Leaf
from .kernel import Kernel, Let, Load, Operand, Store, every

Tensor = tuple[Form, bool]
"""What is in a buffer: the form, or the presence of it."""


@dataclass(frozen=True)
class Written:
    """`tensors` are in the order of the kernel's buffers, `numbers` size forms in the order of its sizes. Not
    slotted: which tensors it touches is asked again for every kernel that it may run with, and found once."""

    kernel: Kernel
    numbers: tuple[Form, ...]
    tensors: tuple[Tensor, ...]

    @classmethod
    def of(cls, kernel: Kernel, numbers: Mapping[str, Form], tensors: Mapping[str, Tensor]) -> Written:
        """Pick what the kernel, pruned of what nothing reads, still asks for."""
        return cls(
            kernel,
            tuple(numbers[name] for name in kernel.sizes),
            tuple(tensors[buffer.name] for buffer in kernel.buffers),
        )

    @cached_property
    def loads(self) -> tuple[tuple[Tensor, Load], ...]:
        """What the kernel reads, and where."""
        return tuple(
            (self._behind[each.buffer], each) for each in every(self.kernel.body) if isinstance(each, Load)
        )

    @cached_property
    def stores(self) -> tuple[tuple[Tensor, Store], ...]:
        """What the kernel stores, and where."""
        return tuple(
            (self._behind[each.buffer], each) for each in every(self.kernel.body) if isinstance(each, Store)
        )

    @cached_property
    def made(self) -> frozenset[Tensor]:
        """The tensors that the kernel stores for others to read. A result that is an input is a copy: who reads that
        input reads what was given."""
        pairs = zip(self.kernel.buffers, self.tensors, strict=True)
        return frozenset(
            tensor for buffer, tensor in pairs if buffer.role == "out" and not isinstance(tensor[0], Leaf)
        )

    @cached_property
    def coordinates(self) -> Mapping[Operand, str]:
        """The axes of the grid by the names of their coordinates, as they are or with nothing added."""
        found: dict[Operand, str] = {axis.name: axis.name for axis in self.kernel.grid}
        for each in every(self.kernel.body):
            match each:
                case Let(name=name, op="add" | "sub", args=(first, 0)) if first in found:
                    found[name] = found[first]
                case _:
                    pass
        return found

    @cached_property
    def _behind(self) -> Mapping[str, Tensor]:
        return {each.name: tensor for each, tensor in zip(self.kernel.buffers, self.tensors, strict=True)}

"""`...` made explicit: a program for tensors with a known number of batch dimensions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ..program import BATCH, Axis, Declaration, Form, Leaf, Program
from .renaming import Renaming


def expand_batch(program: Program, n: int) -> Program:
    """The program with the axis `...` replaced by the `n` signature axes `..0`, `..1`, and so on.

    After it no `...` is left: `Size(BATCH)` is their product, a reduction over it is one over all.
    """
    return _Expansion(tuple(Axis(f"..{k}") for k in range(n))).program(program)


@dataclass(slots=True)
class _Expansion(Renaming):
    def program(self, program: Program) -> Program:
        """`program` rebuilt; what `...` does not touch keeps its identity."""
        return replace(
            program,
            inputs=tuple(map(self.declaration, program.inputs)),
            outputs=tuple(
                replace(out, value=self.form(out.value), items=self.items(out.items))
                for out in program.outputs
            ),
            names=tuple((name, self.form(value)) for name, value in program.names),
            parameters=tuple(map(self.declaration, program.parameters)),
            buffers=tuple(map(self.declaration, program.buffers)),
            draws=tuple(map(self.declaration, program.draws)),
            updates=tuple(
                replace(update, buffer=self.leaf(update.buffer), value=self.form(update.value))
                for update in program.updates
            ),
            requires=tuple(replace(r, predicate=self.form(r.predicate)) for r in program.requires),
        )

    def declaration(self, declaration: Declaration) -> Declaration:
        return replace(declaration, leaf=self.leaf(declaration.leaf), items=self.items(declaration.items))

    def items(self, items: Iterable[tuple[Axis, ...]]) -> tuple[tuple[Axis, ...], ...]:
        """The dimensions; `...` becomes one each, and further factors inside a packed dimension."""
        made: list[tuple[Axis, ...]] = []
        for item in items:
            made += [(axis,) for axis in self.batch] if item == (BATCH,) else [self.spread(item)]
        return tuple(made)

    def copied(self, axis: Axis, low: Form, size: Form) -> Axis:
        """An axis whose size counts the batch is another axis afterwards; any other is itself."""
        same = low == axis.lo and size == axis.size
        return axis if same else Renaming.copied(self, axis, low, size)

    def leaf(self, leaf: Leaf) -> Leaf:
        ranges_over = leaf.ranges_over and self.axis(leaf.ranges_over)
        return replace(leaf, over=self.spread(leaf.over), ranges_over=ranges_over)

    def variable(self, leaf: Leaf) -> Leaf:
        return self.leaf(leaf)

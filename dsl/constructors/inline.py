"""One program put into another: its inputs become the caller's values, its axes the caller's axes.

Everything that the callee made for itself is renamed apart: fresh axes get copies, bound variables
get new names. What the caller hands in is taken as it is. Both spellings compose mixers with this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from ..errors import CompilerFault
from ..program import (
    BATCH,
    Axis,
    Carry,
    Const,
    Coordinate,
    Declaration,
    Form,
    Item,
    Leaf,
    Place,
    Program,
    Reduce,
    Size,
)
from . import build
from .renaming import Renaming


def reduces_batch(program: Program) -> bool:
    """Whether a value of the program depends on all of `...` at once."""
    return any(_takes_batch(form) for form in program.forms)


def _takes_batch(form: Form) -> bool:
    match form:
        case Size(axis=axis):
            return axis == BATCH
        case Reduce(pieces=pieces):
            return any(BATCH in piece.axes for piece in pieces)
        case Place(value=value, keep=keep):
            return BATCH in value.axes and BATCH not in keep
        case _:
            return False


@dataclass(slots=True)
class Inlining(Renaming):
    """Renames one program into another.

    `axes` are the caller's axes for formal ones, `batch` those that stand for `...`; an axis of the
    header that is in neither keeps its name. `leaves` are the caller's forms for the callee's
    tensors, set before `form` is asked. `spelled` keeps the spelling of constants, which only makes
    sense where their names are the caller's.
    """

    axes: Mapping[Axis, Axis]
    bound_name: Callable[[str], str]
    spelled: bool = True
    leaves: dict[Form, Form] = field(default_factory=dict[Form, Form])
    _bound: dict[Leaf, Leaf] = field(default_factory=dict[Leaf, Leaf])

    def declaration(self, declaration: Declaration, key: Callable[[str], str]) -> Declaration:
        """The caller's declaration for a tensor of the callee, under the key that `key` makes."""
        leaf = declaration.leaf
        items = self.items(declaration.items)
        over = tuple(axis for item in items for axis in item)
        return replace(
            declaration,
            leaf=replace(leaf, name=key(leaf.name), over=over),
            items=items,
            also=tuple(map(key, declaration.also)),
        )

    def items(self, items: Iterable[Item]) -> tuple[Item, ...]:
        return tuple(tuple(map(self.axis, item)) for item in items)

    def axis(self, axis: Axis) -> Axis:
        return self.axes[axis] if axis in self.axes else Renaming.axis(self, axis)

    def constant(self, form: Const) -> Form:
        return form if self.spelled or form.written is None else replace(form, written=None)

    def kept(self, keep: Iterable[Axis], value: Form) -> tuple[Axis, ...]:
        """Axes of the batch that the value lacks are not kept: it is the same at all their indices."""
        return tuple(axis for axis in self.spread(keep) if axis not in self.batch or axis in value.axes)

    def leaf(self, leaf: Leaf) -> Form:
        if leaf not in self.leaves:
            raise CompilerFault("inline", f"{leaf.role} `{leaf.name}` has no form in the caller")
        return self.leaves[leaf]

    def variable(self, leaf: Leaf) -> Leaf:
        if leaf not in self._bound:
            stem = leaf.name.rstrip("0123456789").rstrip("_") or leaf.name
            name, over = self.bound_name(stem), self.spread(leaf.over)
            self._bound[leaf] = replace(leaf, name=name, over=over)
        return self._bound[leaf]

    def carry(self, carry: Carry) -> Carry:
        """A first value that is the same for some axes of the batch is spread over them."""
        leaf, init = self.variable(carry.previous), self.forms[carry.init]
        lacking = [axis for axis in leaf.over[1:] if axis not in init.axes]
        return Carry(leaf, spread_over(init, lacking), self.forms[carry.step])


def spread_over(value: Form, axes: Iterable[Axis]) -> Form:
    """The value, the same at every index of further axes: `when(0 * c >= 0, value)`, always present."""
    total: Form | None = None
    for axis in axes:
        own = build.apply("mul", Const(0), Coordinate(axis))
        total = own if total is None else build.apply("add", total, own)
    return value if total is None else build.when(build.apply("ge", total, Const(0)), value, value.span)

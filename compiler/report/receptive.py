"""Which entries of its inputs one entry of an output depends on, by the structure of the program.

From the output backwards, every value gets the set of its entries that are asked for. Predicates and
indices made of coordinates are evaluated, so windows, masks, strides and borders come out as they are;
where data decides which entry is read, all that it could be count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor

from ...dsl.constructors.build import size
from ...dsl.program import (
    AsIf,
    At,
    Axis,
    Form,
    Leaf,
    Map,
    OnGradient,
    Otherwise,
    Output,
    Program,
    Reduce,
    When,
    walk,
)
from ...dsl.shapes.size_forms import axis_range, evaluate_size, is_batch
from ..meaning.interpret import evaluate
from ..meaning.memory import operands_of
from ..meaning.partial import Partial, box

MOST_ENTRIES = 2_000_000
"""Of one value; sizes are made smaller until no value has more."""
LARGEST, STILL = (33, 25, 17, 11, 7, 5, 3), 3
"""Sizes of axes along which something is read elsewhere, tried in this order, and of all others."""


@dataclass(frozen=True, slots=True)
class Field:
    """The entries of one input that one entry of an output depends on: true in `read`, whose dimensions
    are `axes`. `at` is the entry of the output."""

    name: str
    axes: tuple[Axis, ...]
    read: Tensor
    at: Mapping[Axis, int]


def moved_axes(program: Program) -> frozenset[Axis]:
    """The axes along which something is read elsewhere than where it is asked for."""
    reads = (form for form in program.forms if isinstance(form, At))
    return frozenset(axis for form in reads for axis, _ in form.indices)


def small_sizes(program: Program, sizes: Mapping[Axis, int]) -> dict[Axis, int]:
    """Sizes at which every value of a program is small enough to look at: batches of one, axes along
    which nothing is read elsewhere short, the others as they are, or as large as fits."""
    made, moved = dict(sizes), moved_axes(program)
    for most in LARGEST:
        made = {
            axis: 1 if is_batch(axis) else min(count, most if axis in moved else STILL)
            for axis, count in sizes.items()
        }
        boxes = (prod(box(form.axes, made)) for form in program.forms)
        if max(boxes, default=0) <= MOST_ENTRIES:
            break
    return made


def middle(output: Output, sizes: Mapping[Axis, int]) -> dict[Axis, int]:
    """The entry of an output in the middle of all its axes, counted from 0."""
    return {axis: evaluate_size(size(axis), sizes) // 2 for axis in output.value.axes}


def receptive_fields(program: Program, output: Output, sizes: Mapping[Axis, int]) -> list[Field]:
    """The fields of the middle entry of an output, one for each input that it depends on. The batch of
    the program is explicit."""
    at = middle(output, sizes)
    asked = Asked(dict(sizes))
    first = torch.zeros(box(output.value.axes, asked.sizes), dtype=torch.bool)
    first[tuple(at[axis] for axis in output.value.axes)] = True
    asked.add(output.value, first)
    for form in reversed(tuple(walk((output.value,), operands_of))):
        asked.below(form)
    return [
        Field(each.leaf.name, each.leaf.over, asked.found[each.leaf], at)
        for each in program.inputs
        if each.leaf in asked.found and bool(asked.found[each.leaf].any())
    ]


@dataclass(slots=True)
class Asked:
    """`found` are the entries of each value that are asked for, dimensions in the order of its axes."""

    sizes: dict[Axis, int]
    found: dict[Form, Tensor] = field(default_factory=dict[Form, Tensor])
    known: dict[Form, Partial | None] = field(default_factory=dict[Form, Partial | None])
    present: dict[Form, Tensor | None] = field(default_factory=dict[Form, Tensor | None])

    def add(self, form: Form, entries: Tensor) -> None:
        self.found[form] = entries | self.found[form] if form in self.found else entries

    def below(self, form: Form) -> None:
        """Ask the operands of a form for what it is asked for."""
        if form not in self.found:
            return
        entries = self.found[form]
        match form:
            case When(predicate=predicate, value=value):
                holds = self.value(predicate)
                self.add(predicate, self.onto(entries, form.axes, predicate.axes))
                if holds is not None:
                    entries = entries & self.spread(holds.data, holds.axes, form.axes)
                self.add(value, self.onto(entries, form.axes, value.axes))
            case Reduce(pieces=pieces):
                for piece in pieces:
                    axes = (*form.axes, *piece.axes)
                    whole = self.spread(entries, form.axes, axes).expand(box(axes, self.sizes))
                    self.add(piece.value, self.onto(whole, axes, piece.value.axes))
            case At():
                self.read(form, entries)
            case Map():
                there = self.there(form)
                entries = entries if there is None else entries & there
                for each in form.args:
                    self.add(each, self.onto(entries, form.axes, each.axes))
            case Otherwise() | AsIf() | OnGradient():
                for each in operands_of(form):
                    self.add(each, self.onto(entries, form.axes, each.axes))
            case _:
                for each in operands_of(form):
                    self.add(each, torch.ones(box(each.axes, self.sizes), dtype=torch.bool))

    def read(self, form: At, entries: Tensor) -> None:
        """The entries of the operand at the indices of those that are asked for."""
        places = entries.nonzero()
        indices = dict(form.indices)
        inside = torch.ones(len(places), dtype=torch.bool)
        chosen: list[Tensor | None] = []
        for axis in form.value.axes:
            index = indices.get(axis)
            if index is None:
                chosen.append(places[:, form.axes.index(axis)])
                continue
            self.add(index, self.onto(entries, form.axes, index.axes))
            known = self.value(index)
            if known is None:
                chosen.append(None)
                continue
            own = tuple(places[:, form.axes.index(each)] for each in known.axes)
            legal = axis_range(axis, dict(self.sizes))
            moved = (known.data[own] if own else known.data.expand(len(places))) - legal.start
            inside &= (moved >= 0) & (moved < len(legal))
            chosen.append(moved)
        made = torch.zeros(box(form.value.axes, self.sizes), dtype=torch.bool)
        given = [dim for dim, each in enumerate(chosen) if each is not None]
        moved = made.movedim(tuple(given), tuple(range(len(given)))) if given else made
        kept = [each[inside] for each in chosen if each is not None]
        if given:
            moved[tuple(kept)] = True
        else:
            made |= bool(inside.any())
        self.add(form.value, made)

    def there(self, form: Form) -> Tensor | None:
        """Where predicates of coordinates let a value be present, seen through maps; None: everywhere."""
        for each in walk((form,), _strict):
            if each in self.present:
                continue
            parts = [(part, self.present[part]) for part in _strict(each)]
            masks = [(part.axes, mask) for part, mask in parts if mask is not None]
            holds = self.value(each.predicate) if isinstance(each, When) else None
            masks += [] if holds is None else [(holds.axes, holds.data)]
            total: Tensor | None = None
            for axes, mask in masks:
                wide = self.spread(mask, axes, each.axes).expand(box(each.axes, self.sizes))
                total = wide if total is None else total & wide
            self.present[each] = total
        return self.present[form]

    def value(self, form: Form) -> Partial | None:
        """The value of a form made of coordinates; None where data has a say."""
        for each in walk((form,), operands_of):
            if each in self.known:
                continue
            operands = [self.known[operand] for operand in operands_of(each)]
            data = isinstance(each, Leaf) or any(operand is None for operand in operands)
            there = tuple(operand for operand in operands if operand is not None)
            self.known[each] = None if data else evaluate(each, there, dict(self.sizes))
        return self.known[form]

    def spread(self, data: Tensor, axes: tuple[Axis, ...], onto: tuple[Axis, ...]) -> Tensor:
        """Over `onto`, which hold all of `axes`, to broadcast."""
        ordered = data.permute([axes.index(axis) for axis in onto if axis in axes])
        return ordered[tuple(slice(None) if axis in axes else None for axis in onto)]

    def onto(self, data: Tensor, axes: tuple[Axis, ...], kept: tuple[Axis, ...]) -> Tensor:
        """Whether any entry over the other axes is asked for; over `kept`."""
        lost = [dim for dim, axis in enumerate(axes) if axis not in kept]
        left = tuple(axis for axis in axes if axis in kept)
        reduced = data.any(dim=lost) if lost else data
        return reduced.permute([left.index(axis) for axis in kept if axis in left])


def _strict(form: Form) -> tuple[Form, ...]:
    """The operands without which a value is absent, as far as predicates are looked for."""
    match form:
        case Map(args=args):
            return args
        case When(value=value):
            return (value,)
        case _:
            return ()

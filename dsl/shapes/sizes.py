"""From the shapes of a call to the sizes of its axes.

A `Binder` is made once a program and runs at every call: the good path is a few comparisons of
integers; where one fails, `size_mistakes` goes over the call again and says what is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..arithmetic import UNDEFINED
from ..constructors.batch import expand_batch
from ..errors import CompilerFault
from ..memo import Memo
from ..program import BATCH, Axis, Declaration, Item, Program, Scalar
from .size_forms import (
    Extent,
    Sizes,
    Tape,
    axis_range,
    closed,
    evaluate_size,
    is_batch,
    program_axes,
    record,
    used_axes,
)
from .size_mistakes import explain

__all__ = [
    "Binder",
    "Extent",
    "Sizes",
    "axis_range",
    "bind_sizes",
    "evaluate_size",
    "expand_batch",
    "is_batch",
]

UNKNOWN = -1

Shapes = Mapping[str, tuple[int, ...]]
"""The shape of each tensor of a call, by name."""


@dataclass(frozen=True, slots=True)
class _Reader:
    """How one tensor's shape is read. Positions after `...` count from the end."""

    name: str
    rank: int
    """Its dimensions, those of `...` left out."""
    batch: int | None
    """Where `...` starts, if the tensor has it."""
    single: tuple[tuple[int, int], ...]
    """(position, slot) of each dimension that is one signature axis."""
    derived: tuple[tuple[int, int], ...]
    """(position, place among the derived axes) of each that is one derived axis."""
    literal: tuple[int, ...]
    packed: tuple[tuple[int, Item], ...]


class Binder:
    """The sizes of a program's axes, from the shapes of its tensors."""

    def __init__(self, program: Program) -> None:
        axes = program_axes(program)
        self.program = program
        self._signature = [axis for axis in axes if axis.size is None and axis != BATCH]
        self._slots = {axis: slot for slot, axis in enumerate(self._signature)}
        self._least = [0 if is_batch(axis) else 1 for axis in self._signature]
        self._fixed = [UNKNOWN] * len(self._signature)
        for axis, size in program.fixed:
            self._fixed[self._slots[axis]] = size
        self._derived = [axis for axis in axes if axis.size is not None]
        needed = closed((*used_axes(program), *self._derived))
        self._needed = [self._slots[axis] for axis in needed if axis in self._slots]
        self._readers = [_reader(d, self._slots, self._derived) for d in program.declarations]
        self._packs = any(reader.packed for reader in self._readers)
        self._tape = self._recorded()
        self._extents = self._tape.results[: len(self._derived)]
        self._required = self._tape.results[len(self._derived) :]

    def _recorded(self) -> Tape:
        sizes = [axis.size for axis in self._derived if axis.size is not None]
        required = [require.predicate for require in self.program.requires]
        return record((*sizes, *required), (*self._signature, BATCH))

    def bind(self, shapes: Shapes, *, where: str = "") -> Sizes:
        """The size of each signature axis, and of `...` as a tuple (empty where no tensor has it).

        `shapes` names inputs, parameters, buffers and draws; what it lacks decides nothing. `where`
        is the place of the call, for messages. Raises WrongRank, AxisSizeMismatch, InvalidSize,
        RequirementFailed, UnknownArgument.
        """
        sizes = self._bound(shapes)
        if sizes is None:
            explain(self.program, shapes, where)
            raise CompilerFault("bind_sizes", f"the shapes {dict(shapes)} were refused without a reason")
        return sizes

    def _bound(self, shapes: Shapes) -> Sizes | None:
        values = self._fixed.copy()
        batch: tuple[int, ...] | None = None
        given = 0
        for reader in self._readers:
            shape = shapes.get(reader.name)
            if shape is None:
                continue
            given += 1
            extra = len(shape) - reader.rank
            if reader.batch is not None:
                found = tuple(shape[reader.batch : reader.batch + extra])
                if extra < 0 or (batch is not None and batch != found):
                    return None
                batch = found
            elif extra:
                return None
            for position, slot in reader.single:
                size = shape[position]
                if values[slot] != size:
                    if values[slot] != UNKNOWN or size < self._least[slot]:
                        return None
                    values[slot] = size
            for position in reader.literal:
                if shape[position] != 1:
                    return None
        if given != len(shapes) or (self._packs and not self._unpack(values, shapes)):
            return None
        return self._settled(values, batch or (), shapes)

    def _unpack(self, values: list[int], shapes: Shapes) -> bool:
        """Solve the packed dimensions for the one axis that each leaves unknown; False where one does
        not fit. Rounds go on as long as a solved axis may help another dimension."""
        waiting = [
            (item, shapes[reader.name][position])
            for reader in self._readers
            if reader.name in shapes
            for position, item in reader.packed
        ]
        while waiting:
            left: list[tuple[Item, int]] = []
            for item, size in waiting:
                known, unknown = self._factors(item, values)
                if len(unknown) > 1:
                    left.append((item, size))
                elif not unknown:
                    if size != known:
                        return False
                elif known <= 0 or size % known or size // known < 1:
                    return False
                else:
                    values[unknown[0]] = size // known
            if len(left) == len(waiting):
                return True
            waiting = left
        return True

    def _factors(self, item: Item, values: list[int]) -> tuple[int, list[int]]:
        """The product of the known sizes of a packed dimension, and the slots of the unknown ones."""
        known, unknown = 1, list[int]()
        for axis in item:
            if axis in self._slots:
                slot = self._slots[axis]
                if values[slot] == UNKNOWN:
                    unknown.append(slot)
                else:
                    known *= values[slot]
            elif axis.size is not None:
                measured = {a: values[slot] for a, slot in self._slots.items() if values[slot] != UNKNOWN}
                known *= evaluate_size(axis.size, measured)
        return known, unknown

    def _settled(self, values: list[int], batch: tuple[int, ...], shapes: Shapes) -> Sizes | None:
        for slot in self._needed:
            if values[slot] == UNKNOWN:
                return None
        try:
            computed = self._tape.run((*values, math.prod(batch)))
        except UNDEFINED:
            return None
        if not self._fits(computed, shapes):
            return None
        sizes: Sizes = {
            axis: size for axis, size in zip(self._signature, values, strict=True) if size != UNKNOWN
        }
        sizes[BATCH] = batch
        return sizes

    def _fits(self, computed: list[Scalar], shapes: Shapes) -> bool:
        """Whether derived axes are not empty, tensors over them have their sizes, and requires hold."""
        for slot in self._extents:
            if computed[slot] < 1:  # pyright: ignore[reportOperatorIssue]
                return False
        for reader in self._readers:
            if reader.derived and reader.name in shapes:
                shape = shapes[reader.name]
                if any(shape[at] != computed[self._extents[place]] for at, place in reader.derived):
                    return False
        return all(computed[slot] is True for slot in self._required)


def _reader(declaration: Declaration, slots: Mapping[Axis, int], derived: list[Axis]) -> _Reader:
    items = declaration.items
    batch = items.index((BATCH,)) if (BATCH,) in items else None

    def places() -> Iterator[tuple[int, Item]]:
        for place, item in enumerate(items):
            if item != (BATCH,):
                yield (place if batch is None or place < batch else place - len(items)), item

    return _Reader(
        name=declaration.leaf.name,
        rank=len(items) - (batch is not None),
        batch=batch,
        single=tuple((at, slots[i[0]]) for at, i in places() if len(i) == 1 and i[0] in slots),
        derived=tuple((at, derived.index(i[0])) for at, i in places() if len(i) == 1 and i[0] in derived),
        literal=tuple(at for at, item in places() if not item),
        packed=tuple((at, item) for at, item in places() if len(item) > 1),
    )


_binder = Memo(Binder)


def bind_sizes(program: Program, shapes: Shapes, *, where: str = "") -> Sizes:
    """`Binder(program).bind(shapes)`, with one binder kept as long as the program lives."""
    return _binder(program).bind(shapes, where=where)

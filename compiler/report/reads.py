"""Which part of its tensors a kernel touches: what has to cross the memory bus at least.

Along an axis that is read at coordinates known when the kernel is written (`v[m: 0]`, some of the taps of a table)
these count, along any other one all of it, and never more than is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from math import prod

from ...dsl.arithmetic import SCALAR_OPS
from ...dsl.constructors.build import size
from ...dsl.program import Axis, Form, Leaf
from ...dsl.shapes.size_forms import Extent, evaluate_size
from ..fusion.plan import Stored
from ..fusion.work import Term
from ..kernels.kernel import Buffer, Let, Load, Operand, every
from ..kernels.written import Written

WIDTHS = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
MOST_PLACES = 4096
"""Coordinates that are worth looking at one by one."""


def width_of(buffer: Buffer) -> int:
    """The bytes of one entry."""
    return WIDTHS[buffer.real] if buffer.kind == "real" else 1 if buffer.kind == "bool" else 8


@dataclass(frozen=True, slots=True)
class Touched:
    """Entries of `width` bytes of a tensor over `axes`: along each those at `places`, None for all of them."""

    width: int
    axes: tuple[Axis, ...]
    places: tuple[frozenset[int] | None, ...]

    @property
    def term(self) -> Term:
        """Its bytes."""
        known = prod(len(each) for each in self.places if each is not None)
        whole = tuple(axis for axis, each in zip(self.axes, self.places, strict=True) if each is None)
        return Term(self.width * known, whole)

    def at(self, sizes: Mapping[Axis, Extent]) -> Touched:
        """The same, where all places are all of an axis."""
        pairs = zip(self.axes, self.places, strict=True)
        every = (each is None or len(each) >= evaluate_size(size(axis), sizes) for axis, each in pairs)
        return replace(
            self, places=tuple(None if all_ else each for all_, each in zip(every, self.places, strict=True))
        )

    def joined(self, other: Touched) -> Touched:
        """What the two touch."""
        pairs = zip(self.places, other.places, strict=True)
        return replace(self, places=tuple(None if a is None or b is None else a | b for a, b in pairs))


def touched(
    written: Written, stored: Mapping[Form, Stored], sizes: Mapping[Axis, Extent] | None = None
) -> tuple[Touched, ...]:
    """What a kernel touches of each of its buffers; `sizes` tell what is all of an axis."""
    parts = (_touched(written, buffer, stored) for buffer in written.kernel.buffers)
    return tuple(parts) if sizes is None else tuple(each.at(sizes) for each in parts)


def _touched(written: Written, buffer: Buffer, stored: Mapping[Form, Stored]) -> Touched:
    form = dict(zip(written.kernel.buffers, written.tensors, strict=True))[buffer][0]
    axes = form.over if isinstance(form, Leaf) and buffer.role == "in" else stored[form].axes
    whole = Touched(width_of(buffer), axes, (None,) * len(axes))
    loads = [
        each for each in every(written.kernel.body) if isinstance(each, Load) and each.buffer == buffer.name
    ]
    if not loads or buffer.role != "in":
        return whole
    known = _Known(written)
    found = [replace(whole, places=tuple(known.places(each) for each in load.index)) for load in loads]
    first = found[0]
    for each in found[1:]:
        first = first.joined(each)
    return first


class _Known:
    """The coordinates of a kernel that are made of those of compiled-in axes and of numbers."""

    def __init__(self, written: Written) -> None:
        self.locals = {local.name: local.size for local in written.kernel.locals}
        self.lets = {each.name: each for each in every(written.kernel.body) if isinstance(each, Let)}

    def places(self, operand: Operand) -> frozenset[int] | None:
        """All that a coordinate comes to; None where a call has a say, or where there are very many."""
        axes = dict.fromkeys(self._axes(operand))
        if None in axes:
            return None
        names = [axis for axis in axes if axis is not None]
        if prod(self.locals[name] for name in names) > MOST_PLACES:
            return None
        ranges = (range(self.locals[name]) for name in names)
        return frozenset(
            self._at(operand, dict(zip(names, place, strict=True))) for place in product(*ranges)
        )

    def _axes(self, operand: Operand) -> Iterator[str | None]:
        """The axes that it is made of; None for anything else."""
        if isinstance(operand, str):
            if operand in self.locals:
                yield operand
            elif operand in self.lets and self.lets[operand].op in SCALAR_OPS:
                for arg in self.lets[operand].args:
                    yield from self._axes(arg)
            else:
                yield None

    def _at(self, operand: Operand, place: Mapping[str, int]) -> int:
        if not isinstance(operand, str):
            return int(operand)
        if operand in place:
            return place[operand]
        let = self.lets[operand]
        made = SCALAR_OPS[let.op](*(self._at(arg, place) for arg in let.args))
        assert isinstance(made, int)
        return made

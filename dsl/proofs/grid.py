"""Predicates over indices, evaluated: one array a form, one dimension an axis, three truth values.

What reads tensors is unknown here, so a predicate has two arrays: where it surely holds, and where it may
hold. Reads put index arrays in the place of coordinates. Iterative: generators on a stack stand for the
recursion. numpy is loaded when a grid is made, not with the language.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ..program import (
    AsIf,
    At,
    Axis,
    Const,
    Coordinate,
    Form,
    Map,
    OnGradient,
    Otherwise,
    Piece,
    Reduce,
    Size,
    When,
)
from ..shapes.size_forms import Extent, axis_range, evaluate_size
from .array_ops import operations, reductions
from .boxes import PART_CELLS, Ranges, nested_cells, parts, tabulated

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """An array over numbered dimensions, ascending, and where it has a value; both broadcast."""

    dims: tuple[int, ...]
    data: Array
    present: Array


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """Where a predicate surely holds, and where it may; the same array where that is known."""

    dims: tuple[int, ...]
    sure: Array
    maybe: Array


@dataclass(slots=True, eq=False)
class Place:
    """What the axes stand for, and what was computed under it."""

    indices: dict[Axis, Cells]
    known: dict[tuple[str, Form], Answer] = field(default_factory=dict[tuple[str, Form], "Answer"])


Answer = Truth | Cells | None
"""None is a number that only the tensors know."""

Question = tuple[Literal["truth", "number"], Form, Place]
Work = Generator[Question, Any, Answer]
"""A computation that asks for others and is sent their answers."""


class Grid:
    """Evaluation at one assignment of sizes."""

    def __init__(self, sizes: Mapping[Axis, Extent]) -> None:
        import numpy

        self.np = numpy
        self.sizes = sizes
        self._places: dict[object, Place] = {}
        self._boxes: dict[Form, Truth] = {}
        self._lengths: list[int] = []
        self._ops = operations(numpy)

    def holds(self, predicate: Form, ranges: Ranges) -> Truth:
        """The predicate over the given indices of its axes: arrays with one dimension for each of
        `ranges`, in order, of length 1 where it does not matter."""
        for form in tabulated(predicate):
            if form not in self._boxes:
                self._boxes[form] = self._box(form)
        return self._part(predicate, ranges)

    def _part(self, predicate: Form, ranges: Ranges) -> Truth:
        self._lengths = []
        self._places = {}
        place = Place({axis: self._line(indices) for axis, indices in ranges.items()})
        answer = self._run(("truth", predicate, place))
        assert isinstance(answer, Truth)
        dims = tuple(range(len(ranges)))
        return Truth(
            dims, self._lift(answer.sure, answer.dims, dims), self._lift(answer.maybe, answer.dims, dims)
        )

    def _box(self, predicate: Form) -> Truth:
        """The predicate at every index of its axes."""
        ranges = {axis: axis_range(axis, self.sizes) for axis in predicate.axes}
        shape = tuple(map(len, ranges.values()))
        sure, maybe = self.np.empty(shape, bool), self.np.empty(shape, bool)
        for part in parts(ranges, PART_CELLS // nested_cells(predicate, self.sizes)):
            truth = self._part(predicate, part)
            pairs = zip(part.values(), ranges.values(), strict=True)
            there = tuple(slice(own.start - all_.start, own.stop - all_.start) for own, all_ in pairs)
            sure[there], maybe[there] = truth.sure, truth.maybe
        return Truth(tuple(range(len(shape))), sure, maybe)

    def point(self, predicate: Form, index: Mapping[Axis, int]) -> Place:
        """The place of one index, for `truth` and `number` of the predicate's parts."""
        for form in tabulated(predicate):
            if form not in self._boxes:
                self._boxes[form] = self._box(form)
        self._lengths = []
        return Place({axis: self._line(range(at, at + 1)) for axis, at in index.items()})

    def truth(self, form: Form, place: Place) -> Truth:
        """A part of the predicate there, computed once."""
        known = place.known.get(("truth", form)) or self._run(("truth", form, place))
        assert isinstance(known, Truth)
        return known

    def number(self, form: Form, place: Place) -> int | None:
        """The value of an integer form there, if it is known and present."""
        answer = self._run(("number", form, place))
        if not isinstance(answer, Cells) or not answer.present.all():
            return None
        return int(answer.data.reshape(-1)[0])

    def read(self, indices: Iterable[tuple[Axis, Form]], place: Place) -> Place | None:
        """The place that a read there goes to, if its indices are known."""
        numbers = {axis: self.number(form, place) for axis, form in indices}
        if any(number is None for number in numbers.values()):
            return None
        moved = {axis: self._line(range(at, at + 1)) for axis, at in numbers.items() if at is not None}
        return Place({**place.indices, **moved})

    def _line(self, indices: range) -> Cells:
        """A new dimension that runs over the indices."""
        self._lengths.append(len(indices))
        line = self.np.arange(indices.start, indices.stop, dtype=self.np.int64)
        return Cells((len(self._lengths) - 1,), line, self.np.ones(1, bool))

    def _run(self, question: Question) -> Answer:
        stack = [(self._begin(question), question)]
        answer: Answer = None
        while stack:
            work, (kind, form, place) = stack[-1]
            try:
                wanted = work.send(answer)
            except StopIteration as done:
                answer = place.known[kind, form] = done.value
                stack.pop()
                continue
            known = wanted[2].known
            if (wanted[0], wanted[1]) in known:
                answer = known[wanted[0], wanted[1]]
            else:
                stack.append((self._begin(wanted), wanted))
                answer = None
        return answer

    def _begin(self, question: Question) -> Work:
        kind, form, place = question
        return self._truth(form, place) if kind == "truth" else self._number(form, place)

    def _lift(self, array: Array, own: tuple[int, ...], dims: tuple[int, ...]) -> Array:
        """The array with a dimension of length 1 for each that it lacks."""
        if own == dims:
            return array
        return array[tuple(slice(None) if dim in own else None for dim in dims)]

    # --- predicates

    def _truth(self, form: Form, place: Place) -> Work:
        match form:
            case Const(value=value):
                array = self.np.array(value is True)
                return Truth((), array, array)
            case Map(op="and" | "or" as op, args=(left, right)):
                one, other = (yield "truth", left, place), (yield "truth", right, place)
                return self._joined(op, one, other)
            case Map(op="not", args=(inner,)):
                truth = yield "truth", inner, place
                known = truth.sure is truth.maybe
                sure = self.np.logical_not(truth.maybe)
                return Truth(truth.dims, sure, sure if known else self.np.logical_not(truth.sure))
            case Otherwise(value=value, fallback=Const(value=False)):
                return (yield "truth", value, place)
            case At(value=value, indices=indices):
                moved = yield from self._moved(indices, place)
                if moved is None:
                    return self._unknown()
                if value in self._boxes:
                    return self._joined("and", moved[1], self._looked_up(value, moved[0]))
                truth = yield "truth", value, moved[0]
                return self._joined("and", moved[1], truth)
            case Reduce(op="any", pieces=(Piece(value=value, axes=axes),)):
                inner, dims = self._bind(axes, place)
                truth = yield "truth", value, inner
                return self._some(truth, dims)
            case _:
                cells = yield "number", form, place
                return (
                    self._unknown() if cells is None else self._surely(cells.dims, cells.data & cells.present)
                )

    def _unknown(self) -> Truth:
        return Truth((), self.np.array(False), self.np.array(True))

    def _surely(self, dims: tuple[int, ...], array: Array) -> Truth:
        return Truth(dims, array, array)

    def _joined(self, op: str, one: Truth, other: Truth) -> Truth:
        both = self.np.logical_and if op == "and" else self.np.logical_or
        dims = tuple(sorted({*one.dims, *other.dims}))
        sure = both(self._lift(one.sure, one.dims, dims), self._lift(other.sure, other.dims, dims))
        if one.sure is one.maybe and other.sure is other.maybe:
            return Truth(dims, sure, sure)
        maybe = both(self._lift(one.maybe, one.dims, dims), self._lift(other.maybe, other.dims, dims))
        return Truth(dims, sure, maybe)

    def _some(self, truth: Truth, bound: Sequence[int]) -> Truth:
        over = tuple(place for place, dim in enumerate(truth.dims) if dim in bound)
        dims = tuple(dim for dim in truth.dims if dim not in bound)
        sure = self.np.asarray(truth.sure.any(axis=over))
        known = truth.sure is truth.maybe
        return Truth(dims, sure, sure if known else self.np.asarray(truth.maybe.any(axis=over)))

    def _looked_up(self, form: Form, place: Place) -> Truth:
        """A predicate that is tabulated, at the indices of a place (those out of range taken to the end)."""
        table = self._boxes[form]
        cells = [place.indices[axis] for axis in form.axes]
        dims = tuple(sorted({dim for each in cells for dim in each.dims}))
        there: list[Array] = []
        for axis, each in zip(form.axes, cells, strict=True):
            own = axis_range(axis, self.sizes)
            there.append(self._lift(each.data, each.dims, dims).clip(own.start, own.stop - 1) - own.start)
        return Truth(dims, table.sure[tuple(there)], table.maybe[tuple(there)])

    # --- places

    def _bind(self, axes: Sequence[Axis], place: Place) -> tuple[Place, list[int]]:
        """The axes as new dimensions."""
        new = {axis: self._line(axis_range(axis, self.sizes)) for axis in axes}
        return Place({**place.indices, **new}), [cells.dims[0] for cells in new.values()]

    def _moved(
        self, indices: Iterable[tuple[Axis, Form]], place: Place
    ) -> Generator[Question, Any, tuple[Place, Truth] | None]:
        """The place that the indices say, and where they are in range; None where one is unknown."""
        moved: dict[Axis, Cells] = {}
        inside = self._surely((), self.np.array(True))
        for axis, index in indices:
            cells: Cells | None = yield "number", index, place
            if cells is None:
                return None
            ends = axis_range(axis, self.sizes)
            here = cells.present & (cells.data >= ends.start) & (cells.data < ends.stop)
            inside = self._joined("and", inside, self._surely(cells.dims, here))
            moved[axis] = Cells(cells.dims, cells.data, self.np.ones((1,) * len(cells.dims), bool))
        return self._shared({**place.indices, **moved}), inside

    def _shared(self, indices: dict[Axis, Cells]) -> Place:
        """One place for equal indices, so that what it knows is computed once."""
        parts = [
            (
                axis.key,
                cells.dims,
                cells.data.shape,
                cells.data.tobytes() if cells.data.size < 4096 else id(cells.data),
            )
            for axis, cells in indices.items()
        ]
        return self._places.setdefault(frozenset(parts), Place(indices))

    # --- numbers

    def _number(self, form: Form, place: Place) -> Work:
        match form:
            case Const(value=value):
                return Cells((), self.np.array(value), self.np.array(True))
            case Size(axis=axis):
                return Cells((), self.np.array(evaluate_size(Size(axis), self.sizes)), self.np.array(True))
            case Coordinate(axis=axis):
                return place.indices[axis]
            case Map(op=op, args=args):
                return (yield from self._mapped(op, form, args, place))
            case AsIf(value=value) | OnGradient(value=value):
                return (yield "number", value, place)
            case When(predicate=predicate, value=value):
                truth, cells = (yield "truth", predicate, place), (yield "number", value, place)
                return self._masked(cells, truth) if cells is not None and truth.sure is truth.maybe else None
            case Otherwise(value=value, fallback=fallback):
                one, other = (yield "number", value, place), (yield "number", fallback, place)
                return None if one is None or other is None else self._either(one, other)
            case At(value=value, indices=indices):
                moved = yield from self._moved(indices, place)
                cells = None if moved is None else (yield "number", value, moved[0])
                return None if moved is None or cells is None else self._masked(cells, moved[1])
            case Reduce(pieces=(Piece(value=value, axes=axes),)):
                inner, dims = self._bind(axes, place)
                cells = yield "number", value, inner
                return None if cells is None else self._reduced(form, cells, axes, dims)
            case _:
                return None

    def _mapped(self, op: str, form: Form, args: Sequence[Form], place: Place) -> Work:
        parts: list[Cells] = []
        for arg in args:
            cells = yield "number", arg, place
            if cells is None:
                return None
            parts.append(cells)
        dims = tuple(sorted({dim for part in parts for dim in part.dims}))
        data = [self._lift(part.data, part.dims, dims) for part in parts]
        present = self._lift(parts[0].present, parts[0].dims, dims)
        for part in parts[1:]:
            present = present & self._lift(part.present, part.dims, dims)
        with self.np.errstate(all="ignore"):
            made = self.np.asarray(self._ops[op](*data))
            kinds = {
                "int": self.np.int64,
                "real": self.np.float64,
                "complex": self.np.complex128,
                "bool": bool,
            }
            return Cells(dims, made.astype(kinds[form.kind], copy=False), present)

    def _masked(self, cells: Cells, truth: Truth) -> Cells:
        dims = tuple(sorted({*cells.dims, *truth.dims}))
        present = self._lift(cells.present, cells.dims, dims) & self._lift(truth.sure, truth.dims, dims)
        return Cells(dims, self._lift(cells.data, cells.dims, dims), present)

    def _either(self, one: Cells, other: Cells) -> Cells:
        dims = tuple(sorted({*one.dims, *other.dims}))
        here, there = self._lift(one.present, one.dims, dims), self._lift(other.present, other.dims, dims)
        data = self.np.where(
            here, self._lift(one.data, one.dims, dims), self._lift(other.data, other.dims, dims)
        )
        return Cells(dims, data, here | there)

    def _reduced(self, form: Reduce, cells: Cells, axes: Sequence[Axis], bound: Sequence[int]) -> Cells:
        """One piece of a reduction over index-only values; the listed axes last, flattened."""
        rest = tuple(dim for dim in cells.dims if dim not in bound)
        whole = tuple(sorted({*cells.dims, *bound}))
        order = [whole.index(dim) for dim in (*rest, *bound)]
        lengths = [self._lengths[dim] if dim in bound else 0 for dim in whole]

        def flat(array: Array) -> Array:
            lifted = self._lift(array, cells.dims, whole)
            shape = tuple(length or own for length, own in zip(lengths, lifted.shape, strict=True))
            turned = self.np.broadcast_to(lifted, shape).transpose(order)
            return turned.reshape((*turned.shape[: len(rest)], -1))

        data, present = self.np.broadcast_arrays(flat(cells.data), flat(cells.present))
        some = self.np.asarray(present.any(-1))
        if form.op in ("count", "any", "all"):
            some = self.np.ones_like(some)
        with self.np.errstate(all="ignore"):
            made = reductions(self.np)[form.op](data, present)
        if form.op == "argmax":
            made = self._component(made, [self._lengths[dim] for dim in bound], form.component)
            made = made + axis_range(axes[form.component], self.sizes).start
        return Cells(rest, self.np.asarray(made), some)

    def _component(self, flat: Array, lengths: Sequence[int], component: int) -> Array:
        """The index of one axis, from the place in row-major order."""
        return flat // math.prod(lengths[component + 1 :]) % lengths[component]


def first_false(array: Array) -> list[int] | None:
    """The place of the first false cell in row-major order, if there is one."""
    if array.all():
        return None
    flat, place = int(array.reshape(-1).argmin()), list[int]()
    for length in reversed(array.shape):
        flat, at = divmod(flat, length)
        place.insert(0, at)
    return place

"""Long reductions to few entries, in parts that can run side by side.

    sum[t](x) -> sum[c](sum[i](x[t: c * size(i) + i]))        and so for every reduction but these:
    count[t](x) -> sum[c](count[i](x[t: ...])) otherwise 0
    argmax[t](x) -> the first best entry of the first part that has one

A reduction to one number is one tile: it would run on one thread. Its parts are a grid. How long they are is a
formula of sizes, so that neither the bits of a result nor the artefact depend on threads, and one artefact serves
all sizes. The last part of an axis may be ragged: what lies past the end is absent, and absent entries are
skipped (language.md section 4). No part is empty, so a total value has total parts.

A term of such a sum goes through the additions of its part, then through those of the parts: `chain`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce

from ...dsl.constructors.build import apply, low, otherwise, size
from ...dsl.ops import TOTAL_REDUCTIONS
from ...dsl.program import (
    BATCH,
    At,
    Axis,
    Const,
    Coordinate,
    Form,
    Piece,
    Program,
    Reduce,
    children,
    fresh_axis,
    walk,
)
from ...dsl.shapes.size_forms import is_batch
from ..fusion.attention_family import Attention, match_attention
from ..fusion.contraction import contraction, is_fixed, is_product, parameter_axes
from ..fusion.plan import no_kernel
from ..fusion.sum_family import StreamedSum, match_sum
from ..rewrites.rewrite import guarded, rebuild
from ..rewrites.simplify import rewrite_program
from ..rewrites.total import Totality

LEAST, MOST, RUN = 2**14, 2**10, 16
"""Entries of a part, where there are as many; the parts of a reduction; what the length of a part along an axis is a
multiple of, so that it fills lanes."""

FEW = 32
"""Entries of a result that are fewer than this are too few tiles."""

ONE, PART = Const(1), "_part"


@dataclass(frozen=True, slots=True)
class Part:
    """An axis in parts: number `part`, and the place `within` it."""

    axis: Axis
    part: Axis
    within: Axis

    @property
    def index(self) -> Form:
        """Where the axis is; past its end in what a ragged last part lacks."""
        inside = apply("add", apply("mul", Coordinate(self.part), size(self.within)), Coordinate(self.within))
        return _plus(inside, low(self.axis))


def in_parts(program: Program, few: frozenset[Axis] = frozenset()) -> tuple[Program, frozenset[Form]]:
    """The program, its batch explicit, with its long reductions to one number in parts, and those to the entries of
    one of the axes that are `few`; and the parts, which are to be stored."""
    chunks = Chunks(program, few)
    if not any(chunks.fits(form) for form in program.forms):
        return program, frozenset()
    return rewrite_program(program, chunks), frozenset(chunks.parts)


def part_axes(form: Form) -> tuple[Axis, ...]:
    """The axes of the reduction of a part that number the parts."""
    return tuple(axis for axis in form.axes if axis.serial and axis.name.endswith(PART))


def short_axes(program: Program) -> tuple[Axis, ...]:
    """The axes of a fixed size that long reductions leave alone: where they have few entries (heads), parts pay."""
    fixed = parameter_axes(program) | {axis for axis, _ in program.fixed}
    left = {
        axis
        for form in program.forms
        if isinstance(form, Reduce) and len(form.axes) == 1
        for axis in form.axes
    }
    chunks = Chunks(program, frozenset(axis for axis in left if is_fixed(axis, fixed)))
    found = (form.axes for form in program.forms if form.axes and chunks.fits(form))
    return tuple(dict.fromkeys(axis for axes in found for axis in axes))


def short_costs(axes: tuple[Axis, ...]) -> tuple[Form, ...]:
    """The least of these says whether the axes are few at the sizes of a call: as an order of products does."""
    return (Const(FEW), reduce(lambda a, b: apply("maximum", a, b), map(size, axes))) if axes else ()


def chain(count: Form) -> Form:
    """The most additions that a term of a sum to one number of `count` terms goes through."""
    parts = _budget(count)
    length = apply("mul", Const(2), _rounded_up(count, parts))  # every axis of several rounds up
    return apply("minimum", count, apply("add", length, parts))


@dataclass(slots=True)
class Chunks:
    """Rewrites one program, operands first. `parts` are the reductions of parts."""

    program: Program
    few: frozenset[Axis] = frozenset()
    parts: list[Form] = field(default_factory=list[Form])
    done: dict[Form, Form] = field(default_factory=dict[Form, Form])
    total: Totality = field(init=False)
    fixed: frozenset[Axis] = field(init=False)

    def __post_init__(self) -> None:
        self.total = Totality(self.program)
        self.fixed = parameter_axes(self.program) | {axis for axis, _ in self.program.fixed}

    def __call__(self, root: Form) -> Form:
        for form in walk((root,), lambda each: () if each in self.done else children(each)):
            if form not in self.done:
                made = rebuild(form, [self.done[each] for each in children(form)])
                if isinstance(form, Reduce) and isinstance(made, Reduce) and self.fits(form):
                    made = self._split(form, made)
                self.done[form] = made
        return self.done[root]

    # --- which

    def fits(self, form: Form) -> bool:
        """Whether a reduction has few entries and, for all that is known, many to reduce."""
        if not isinstance(form, Reduce) or len(form.pieces) != 1 or no_kernel(form):
            return False
        (piece,) = form.pieces
        if len(form.axes) > 1 or not self.few.issuperset(form.axes):
            return False
        if BATCH in piece.axes or not self._long(form):
            return False
        streams = isinstance(match_sum(form), StreamedSum) or isinstance(match_attention(form), Attention)
        return not streams and not self._pairs(piece.value)

    def _long(self, form: Reduce) -> list[Axis]:
        """The reduced axes whose size belongs to the call. The answer of an argmax over several is the first in
        row-major order, which only parts of the first axis keep."""
        axes = form.pieces[0].axes
        found = [axis for axis in axes if not is_fixed(axis, self.fixed)]
        return found if form.op != "argmax" else [axis for axis in axes[:1] if axis in found]

    def _pairs(self, value: Form) -> bool:
        """Whether an entry is made of a product of two values that are no weights: stored, these products would be
        larger than what they are made of."""
        below = walk((value,), lambda each: () if isinstance(each, Reduce) else children(each))
        products = (contraction(each, ()) for each in below if is_product(each, ()))
        return any(each is not None and not any(f.weight for f in each.factors) for each in products)

    # --- how

    def _split(self, form: Reduce, made: Reduce) -> Form:
        """The reduction `made` in parts; `form` is what it was in the program."""
        (piece,) = made.pieces
        parts = self._parted(form)
        within = tuple(each.within for each in parts)
        kept = tuple(axis for axis in piece.axes if all(axis != each.axis for each in parts))
        entry = Piece(At(piece.value, tuple((each.axis, each.index) for each in parts)), (*within, *kept))
        present = self.total.of(form.pieces[0].value)
        if form.op == "argmax":
            result = self._first_best(made, entry, parts[0], present)
        else:
            inner = self._inner(Reduce(form.op, (entry,)), present)
            op = "sum" if form.op == "count" else form.op
            result = Reduce(op, (Piece(inner, tuple(each.part for each in parts)),), span=form.span)
        if form.op == "count" or (form.op not in TOTAL_REDUCTIONS and self.total.of(form)):
            return otherwise(result, _nothing(form))
        if form.op in TOTAL_REDUCTIONS:
            return result
        some = (apply("gt", size(each.axis), Const(0)) for each in parts if is_batch(each.axis))
        return guarded(result, some)

    def _inner(self, form: Reduce, present: bool) -> Form:
        made = otherwise(form, _nothing(form)) if present and form.op not in TOTAL_REDUCTIONS else form
        self.parts.append(made)
        return made

    def _first_best(self, form: Reduce, entry: Piece, part: Part, present: bool) -> Form:
        """The part is the first one with the largest value; the entry is the first such of this part."""
        best = self._inner(Reduce("max", (entry,)), present)
        first = Reduce("argmax", (Piece(best, (part.part,)),))
        chosen = Piece(At(entry.value, ((part.part, first),)), entry.axes)
        inside = Reduce("argmax", (chosen,), form.component, span=form.span)
        self.parts.append(first)
        if form.component:
            return inside
        return _plus(apply("add", apply("mul", first, size(part.within)), inside), low(part.axis))

    def _parted(self, form: Reduce) -> tuple[Part, ...]:
        """The long axes in parts: as many as the first one has entries, and so on while parts are left."""
        budget = _budget(_product(form.pieces[0].axes), _product(form.axes))
        found: list[Part] = []
        for axis in self._long(form):
            some = _at_least_one(size(axis)) if is_batch(axis) else size(axis)
            runs = _rounded_up(some, Const(RUN))
            length = apply("mul", Const(RUN), _rounded_up(runs, apply("minimum", runs, budget)))
            within = fresh_axis(f"{axis.name}_within", Const(0), length, "span")
            part = fresh_axis(f"{axis.name}{PART}", Const(0), _rounded_up(some, size(within)), "span")
            found.append(Part(axis, part, within))
            budget = _at_least_one(apply("floordiv", budget, size(part)))
        return tuple(found)


def _nothing(form: Form) -> Form:
    """What a value that is always present never is."""
    return Const(0.0) if form.kind == "real" else Const(0) if form.kind == "int" else Const(False)


def _budget(count: Form, results: Form = ONE) -> Form:
    """How many parts `count` entries a result are worth."""
    most = apply("floordiv", Const(MOST), results)
    return _at_least_one(apply("minimum", apply("floordiv", count, Const(LEAST)), most))


def _product(axes: tuple[Axis, ...]) -> Form:
    return reduce(lambda a, b: apply("mul", a, b), map(size, axes)) if axes else ONE


def _plus(form: Form, other: Form) -> Form:
    return form if other == Const(0) else apply("add", form, other)


def _rounded_up(count: Form, by: Form) -> Form:
    return apply("floordiv", apply("sub", apply("add", count, by), ONE), by)


def _at_least_one(form: Form) -> Form:
    return apply("maximum", form, ONE)

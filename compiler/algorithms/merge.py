"""Deploy forms: what is linear in a value is one stencil, with weights that are made of weights.

    s * sum[k](w * x[k]) + t, and its like           one sum, its weight s * w, and one bias
    sum[j, dh](w * x[j, h+dh]) + sum[j](v * x[j])    one sum over the larger window, v where dh is 0
      + s * x                                        the identity: s where j is the own channel, and dh is 0

The laws are those of language.md section 4: a factor is pulled into a sum, a kernel is extended by zeros,
stencils of one value are added where none of them is over nothing (they are proved to be present everywhere;
so is what scales them). Taps are matched by solving one index for the other: shifts, strides and dilations
that agree, or the same index but for the name of the tap. A window is not made larger than all that goes
into it. What is merged costs a computation of weights, so it is for calls that do not change them: `hoist.py`
asks for it in eval mode, and computes the weights once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from math import prod

from ...dsl.program import (
    BATCH,
    At,
    Axis,
    Const,
    Coordinate,
    Form,
    Map,
    Otherwise,
    Piece,
    Program,
    Reduce,
    children,
)
from ..fusion.contraction import factors_of, is_fixed, parameter_axes
from ..fusion.work import word_of
from ..rewrites.rewrite import substitute
from ..rewrites.simplify import rewrite_program, simplify
from ..rewrites.total import Totality
from ..rewrites.weights import made_of_weights
from .taps import ZERO, in_frame, reach_of, taps

NUMBERS = ("real", "int")
ONE = Const(1.0)


@dataclass(frozen=True, slots=True)
class Stencil:
    """weight * x at `indices`, summed over `over`; x itself where nothing is. `lenient`: where x is absent
    it counts as 0. `form` is a form of it, of which `own` is the weight; None where it has another one."""

    weight: Form
    own: Form | None
    value: Form
    indices: Mapping[Axis, Form]
    over: tuple[Axis, ...]
    lenient: bool
    form: Form


@dataclass(frozen=True, slots=True)
class Expression:
    """The sum of some stencils, and of what is made of weights only."""

    stencils: tuple[Stencil, ...]
    bias: Form | None


@dataclass(frozen=True, slots=True)
class Merged:
    """The program, the weights that were made for it, and what was done, in words."""

    program: Program
    weights: tuple[Form, ...]
    words: tuple[str, ...]


def merge(program: Program) -> Merged:
    """The deploy form of a program; the program itself where there is nothing to merge."""
    made = simplify(program)
    merger = Merger(made)
    roots = dict(merger.roots())
    for form, value in roots.items():
        mapping: Mapping[Form, Form] = {form: value}
        made = rewrite_program(made, lambda each, mapping=mapping: substitute(each, mapping))
    return Merged(made if roots else program, tuple(merger.weights), tuple(merger.words))


class Merger:
    """Finds what is linear. `weights` and `words` are of what was merged so far."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.still = made_of_weights(program)
        self.total = Totality(program)
        self.fixed = parameter_axes(program)
        self.names = {form: name for name, form in program.names}
        self.users: dict[Form, int] = dict.fromkeys(program.roots, 2)
        for form in program.forms:
            for child in children(form):
                self.users[child] = self.users.get(child, 0) + 1
        self.weights: dict[Form, None] = {}
        self.words: list[str] = []

    def roots(self) -> Iterator[tuple[Form, Form]]:
        """The linear values that have another form, with it, those that read others before these."""
        inside: set[Form] = set()
        for form in reversed(self.program.forms):
            if form in inside or not isinstance(form, Map) or form.kind != "real" or self.still.get(form):
                continue
            if form.op not in ("add", "sub", "mul", "div"):
                continue
            expression = self._read(form, inside, True)
            made = None if expression is None else self._merged(form, expression)
            if made is not None:
                yield form, made

    # --- what is linear

    def _read(self, form: Form, inside: set[Form], root: bool = False) -> Expression | None:
        """A form as an expression; every value is the stencil of itself."""
        still = self.still
        if still.get(form):
            return Expression((), form)
        if not root and self.users.get(form, 0) > 1:
            return self._itself(form)
        match form:
            case Map(op="add" | "sub" as op, args=(a, b)):
                inside.add(form)
                one, other = self._read(a, inside), self._read(b, inside)
                if one is None or other is None:
                    return None
                other = _scaled(other, Const(-1.0), "mul") if op == "sub" else other
                return Expression((*one.stencils, *other.stencils), _sum(one.bias, other.bias))
            case Map(op="neg", args=(a,)):
                inside.add(form)
                found = self._read(a, inside)
                return None if found is None else _scaled(found, Const(-1.0), "mul")
            case Map(op="mul" | "div" as op, args=(a, b)) if still.get(b) and b.kind in NUMBERS:
                return self._scale(form, a, b, op, inside)
            case Map(op="mul", args=(a, b)) if still.get(a) and a.kind in NUMBERS:
                return self._scale(form, b, a, "mul", inside)
            case _:
                return self._stencil(form)

    def _scale(self, form: Form, value: Form, by: Form, op: str, inside: set[Form]) -> Expression | None:
        """A value by a weight that has only axes of each sum in it. Another axis would make the weights of the
        sum larger than both, or be the one that is summed over: `sum[e](v[c, e] * sum[c](w[e, c] * x[c]))`."""
        within: set[Form] = {form}
        found = self._read(value, within)
        if found is None or any(each.over and set(by.axes) - set(each.form.axes) for each in found.stencils):
            return self._itself(form)
        inside |= within
        return _scaled(found, by, op)

    def _stencil(self, form: Form) -> Expression | None:
        lenient, inner = False, form
        match form:
            case Otherwise(value=Reduce() as value, fallback=fallback) if fallback in (Const(0), ZERO):
                lenient, inner = True, value
            case _:
                pass
        match inner:
            case Reduce(op="sum", pieces=(Piece(value=value, axes=axes),)) if BATCH not in axes:
                return self._sum(form, value, axes, lenient) or self._itself(form)
            case _:
                return self._itself(form)

    def _sum(self, form: Form, value: Form, axes: tuple[Axis, ...], lenient: bool) -> Expression | None:
        """A sum of weights and one read; None for any other."""
        factors = factors_of(value)
        data = [each for each in factors if not self.still.get(each)]
        weights = [each for each in factors if self.still.get(each)]
        if (
            len(data) != 1
            or data[0].kind != "real"
            or not weights
            or any(each.kind not in NUMBERS for each in factors)
        ):
            return None
        read = data[0]
        if isinstance(read, Otherwise) and read.fallback in (Const(0), ZERO):
            lenient, read = True, read.value
        source, moved = (read.value, dict(read.indices)) if isinstance(read, At) else (read, {})
        indices = {axis: moved.get(axis, Coordinate(axis)) for axis in source.axes}
        moves = [axis for index in indices.values() for axis in index.axes if axis in axes]
        if len(moves) != len(set(moves)) or set(moves) != set(axes):
            return None
        weight = reduce(_times, weights)
        if not self.total.of(weight):
            return None
        return Expression((Stencil(weight, weight, source, indices, axes, lenient, form),), None)

    def _itself(self, form: Form) -> Expression | None:
        if form.kind != "real":
            return None
        indices: dict[Axis, Form] = {axis: Coordinate(axis) for axis in form.axes}
        source = form
        if isinstance(form, At):
            source = form.value
            moved = dict(form.indices)
            indices = {axis: moved.get(axis, Coordinate(axis)) for axis in source.axes}
        return Expression((Stencil(ONE, ONE, source, indices, (), False, form),), None)

    # --- in one

    def _merged(self, form: Form, found: Expression) -> Form | None:
        """The expression with as few sums as there can be; None where that is what is written, or where
        something may be absent."""
        sums = [each for each in found.stencils if each.over]
        if not sums or (found.bias is not None and not self.total.of(found.bias)):
            return None
        if not all(self.total.of(each.weight) for each in found.stencils):
            return None
        frames = self._frames(found.stencils)
        if len(frames) == len(found.stencils) and all(each.weight == each.own for each in sums):
            return None
        terms = [each.form if each.weight == each.own else _written(each) for each in frames]
        made = reduce(lambda a, b: Map("add", (a, b)), terms)
        weights = [each.weight for each in frames if each.over and each.weight != each.own]
        if found.bias is not None:
            made = Map("add", (made, found.bias))
            weights.append(found.bias)
        if set(made.axes) != set(form.axes) or not all(map(self._fixed, weights)):
            return None
        self.weights |= dict.fromkeys(each for each in weights if not _bare(each))
        self._say(form, found, frames)
        return made

    def _fixed(self, weight: Form) -> bool:
        """Whether a weight has the same size at every call."""
        return all(is_fixed(axis, self.fixed) for axis in weight.axes)

    def _frames(self, stencils: Sequence[Stencil]) -> tuple[Stencil, ...]:
        """Stencils of one value in one, the widest first, each as far as the window does not grow beyond all
        that goes into it."""
        frames: list[tuple[Stencil, int]] = []
        for each in sorted(stencils, key=lambda each: (-len(each.over), -_entries(each.over))):
            size_of = _entries(each.over)
            for place, (frame, held) in enumerate(frames):
                made = self._added(frame, each)
                if made is not None and _worth(made, held, size_of):
                    frames[place] = (made, held + size_of)
                    break
            else:
                frames.append((each, size_of))
        return tuple(frame for frame, _ in frames)

    def _added(self, frame: Stencil, other: Stencil) -> Stencil | None:
        """The sum of two stencils of one value as one."""
        if frame.value != other.value or not frame.over:
            return None
        if set(frame.over) & set(other.form.axes) or set(other.over) & set(frame.form.axes):
            return None  # one axis, summed over in one and kept by the other
        present = all(each.lenient or self.total.of(each.form) for each in (frame, other))
        found = taps((frame.indices, frame.over), (other.indices, other.over))
        if not present or found is None:
            return None
        indices = {axis: tap.index for axis, tap in found.items()}
        over = tuple(tap.axis for tap in found.values() if tap.axis is not None)
        first = in_frame(frame.weight, [(tap.first, tap.axis) for tap in found.values()])
        second = in_frame(other.weight, [(tap.second, tap.axis) for tap in found.values()])
        weight = Map("add", (first, second))
        if set(weight.axes) - set(over) - set(frame.form.axes):
            return None
        made = replace(frame, weight=weight, own=None, indices=indices, over=over)
        return replace(made, lenient=frame.lenient or other.lenient, form=_written(made))

    def _say(self, form: Form, found: Expression, frames: tuple[Stencil, ...]) -> None:
        name = f"`{self.names[form]}`" if form in self.names else "a sum"
        if len(frames) < len(found.stencils):
            count = len(found.stencils)
            over = ", ".join(word_of(axis) for axis in frames[0].over)
            self.words.append(f"merged: the {count} terms of {name} are {len(frames)}, over {over}")
        else:
            self.words.append(f"folded: the scales of {name} lie in its weights")


# --- forms


def _written(found: Stencil) -> Form:
    """A stencil as a form."""
    moved = tuple((axis, index) for axis, index in found.indices.items() if index != Coordinate(axis))
    read: Form = At(found.value, moved) if moved else found.value
    read = Otherwise(read, ZERO) if found.lenient else read
    if not found.over:
        return _times(found.weight, read)
    return Reduce("sum", (Piece(_times(found.weight, read), found.over),))


def _times(one: Form, other: Form) -> Form:
    return other if one == ONE else one if other == ONE else Map("mul", (one, other))


def _sum(one: Form | None, other: Form | None) -> Form | None:
    return other if one is None else one if other is None else Map("add", (one, other))


def _scaled(found: Expression, by: Form, op: str) -> Expression:
    """An expression times or divided by a weight."""

    def scaled(form: Form) -> Form:
        return _times(form, by) if op == "mul" else Map("div", (form, by))

    stencils = (replace(each, weight=scaled(each.weight)) for each in found.stencils)
    return Expression(tuple(stencils), None if found.bias is None else scaled(found.bias))


def _bare(form: Form) -> bool:
    """Whether a weight is a tensor as it is."""
    return not children(form)


def _entries(axes: Sequence[Axis]) -> int:
    """How many entries a window has, as far as that is a number."""
    return prod(reach[1] - reach[0] + 1 for axis in axes if (reach := reach_of(axis)) is not None)


def _worth(made: Stencil, held: int, more: int) -> bool:
    return _entries(made.over) <= held + more

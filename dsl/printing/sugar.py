"""The printer's eye for structure: which form is a softmax, a mean, a select, a concatenation.

Each finding is proved before it is used: the constructor that makes the sugar is asked for it, and
must give the very form back. So a program prints shorter, and never as another one. `hidden` are the
inner forms that the sugar does not show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from ..constructors import build, build_special
from ..errors import PlaitError
from ..program import AsIf, At, Axis, Const, Coordinate, Form, Map, Otherwise, Piece, Reduce, When

MOST_PARTS = 64
"""A longer chain is not looked at as one concatenation."""

Kept = Callable[[Form], bool]
"""Whether a form has a name of its own and must not vanish into sugar."""


@dataclass(frozen=True, slots=True)
class Domain:
    """The axes of one piece of a reduction, and the predicate behind `|`."""

    axes: tuple[Axis, ...]
    where: Form | None


@dataclass(frozen=True, slots=True)
class Fold:
    """`word[domains](args)`: a reduction, a mean, a softmax. `which` is an argmax's choice."""

    word: str
    domains: tuple[Domain, ...]
    args: tuple[Form, ...]
    hidden: tuple[Form, ...] = ()
    which: int | None = None


@dataclass(frozen=True, slots=True)
class Plain:
    """`word(args)`."""

    word: str
    args: tuple[Form, ...]
    hidden: tuple[Form, ...] = ()


@dataclass(frozen=True, slots=True)
class Zeros:
    """`zeros(b, c)`."""

    axes: tuple[Axis, ...]
    hidden: tuple[Form, ...] = ()


@dataclass(frozen=True, slots=True)
class Cat:
    """`cat[over -> new](args)`."""

    over: tuple[Axis, ...]
    new: Axis
    args: tuple[Form, ...]
    hidden: tuple[Form, ...] = ()


Sugar = Fold | Plain | Zeros | Cat


def sugar(form: Form, kept: Kept) -> Sugar | None:
    """How the form prints shorter, if it does."""
    match form:
        case Reduce():
            return _reduction(form, kept)
        case Map(op="exp"):
            return _softmax(form, kept)
        case Map(op="div"):
            return _mean(form, kept)
        case Map(op="gt"):
            return _present(form, kept)
        case Map(op="minimum"):
            return _clamp(form, kept) or _reflect(form, kept)
        case Map(op="mul", args=(Const(value=0.0), total)):
            return _zeros(form, total)
        case AsIf(value=value, surrogate=Const(value=0.0)):
            return _proved(Plain("stop", (value,)), form, lambda: build_special.stop(value))
        case Otherwise():
            return _select(form, kept) or _cat(form, kept)
        case _:
            return None


def _proved(found: Sugar, form: Form, make: Callable[[], Form]) -> Sugar | None:
    """The sugar, if its constructor gives the form."""
    try:
        return found if make() == form else None
    except PlaitError:
        return None


def _fold(word: str, pieces: Sequence[Piece], kept: Kept, hidden: tuple[Form, ...] = ()) -> Fold:
    """The reduction of the pieces, their predicates taken out."""
    domains: list[Domain] = []
    values: list[Form] = []
    masked: list[Form] = []
    for piece in pieces:
        value = piece.value
        if isinstance(value, When) and not kept(value):
            domains.append(Domain(piece.axes, value.predicate))
            values.append(value.value)
            masked.append(value)
        else:
            domains.append(Domain(piece.axes, None))
            values.append(value)
    return Fold(word, tuple(domains), tuple(values), (*hidden, *masked))


def _reduction(form: Reduce, kept: Kept) -> Fold:
    found = _fold(form.op, form.pieces, kept)
    several = form.op == "argmax" and sum(len(piece.axes) for piece in form.pieces) > 1
    return replace(found, which=form.component) if several else found


def _softmax(form: Map, kept: Kept) -> Sugar | None:
    match form.args:
        case (Map(op="sub", args=(value, Reduce(op="lse", pieces=(piece,)) as norm)) as shifted,):
            if value != piece.value or kept(norm) or kept(shifted):
                return None
            found = _fold("softmax", (piece,), kept, (norm, shifted))
            return _proved(found, form, lambda: build.softmax([(value, piece.axes)])[0])
        case _:
            return None


def _mean(form: Map, kept: Kept) -> Sugar | None:
    match form.args:
        case (Reduce(op="sum", pieces=pieces) as total, Reduce(op="count", pieces=counted) as count):
            if pieces != counted or kept(total) or kept(count):
                return None
            listed = [(piece.value, piece.axes) for piece in pieces]
            return _proved(_fold("mean", pieces, kept, (total, count)), form, lambda: build.mean(listed))
        case _:
            return None


def _present(form: Map, kept: Kept) -> Sugar | None:
    match form.args:
        case (Reduce(op="count", pieces=(Piece(value=value, axes=()),)) as count, Const()):
            if kept(count):
                return None
            return _proved(Plain("present", (value,), (count,)), form, lambda: build.present(value))
        case _:
            return None


def _clamp(form: Map, kept: Kept) -> Sugar | None:
    match form.args:
        case (Map(op="maximum", args=(value, lowest)) as raised, highest) if not kept(raised):
            made = Plain("clamp", (value, lowest, highest), (raised,))
            return _proved(made, form, lambda: build.clamp(value, lowest, highest))
        case _:
            return None


def _reflect(form: Map, kept: Kept) -> Sugar | None:
    match form.args:
        case (
            Map(
                op="mod",
                args=(
                    index,
                    Map(
                        op="maximum", args=(Map(op="mul", args=(_, Map(op="sub", args=(extent, _)))), _)
                    ) as period,
                ),
            ) as wrapped,
            Map(op="sub") as other,
        ) if not any(map(kept, (wrapped, period, other))):
            return _proved(
                Plain("reflect", (index, extent), (wrapped, period, other)),
                form,
                lambda: build.reflect(index, extent),
            )
        case _:
            return None


def _zeros(form: Form, total: Form) -> Sugar | None:
    axes: list[Axis] = []
    while isinstance(total, Map) and total.op == "add" and len(axes) < MOST_PARTS:
        if not isinstance(total.args[1], Coordinate):
            return None
        axes.append(total.args[1].axis)
        total = total.args[0]
    if not isinstance(total, Coordinate):
        return None
    found = (total.axis, *reversed(axes))
    return _proved(Zeros(found), form, lambda: build_special.zeros(found))


def _select(form: Otherwise, kept: Kept) -> Sugar | None:
    match form.value, form.fallback:
        case When(predicate=predicate, value=yes) as first, When(value=no) as second:
            if kept(first) or kept(second):
                return None
            made = Plain("select", (predicate, yes, no), (first, second))
            return _proved(made, form, lambda: build.select(predicate, yes, no))
        case _:
            return None


def _cat(form: Otherwise, kept: Kept) -> Sugar | None:
    parts: list[tuple[Form, Axis]] = []
    rest: Form = form
    while isinstance(rest, Otherwise) and len(parts) < MOST_PARTS and (rest is form or not kept(rest)):
        part = _part(rest.fallback, kept)
        if part is None:
            return None
        parts.insert(0, part)
        rest = rest.value
    first = _part(rest, kept)
    if first is None or not isinstance(rest, At):
        return None
    parts.insert(0, first)
    new = _counted(rest.indices[0][1])
    if new is None:
        return None
    made = Cat(tuple(axis for _, axis in parts), new, tuple(value for value, _ in parts), tuple(_chain(form)))
    return _proved(made, form, lambda: build.cat(new, parts))


def _chain(form: Form) -> Iterator[Form]:
    """The parts of `a otherwise b otherwise c`, and what joins them."""
    rest = form
    while isinstance(rest, Otherwise):
        yield rest.fallback
        rest = rest.value
        yield rest


def _part(form: Form, kept: Kept) -> tuple[Form, Axis] | None:
    """The value and the axis of what may be one part of a concatenation."""
    match form:
        case At(value=value, indices=((axis, _),)) if not kept(form):
            return value, axis
        case _:
            return None


def _counted(index: Form) -> Axis | None:
    """The axis n of the first part's index: `n`, `n - lowest`, either with `+ low` behind it."""
    match index:
        case Coordinate(axis=axis):
            return axis
        case Map(op="sub", args=(Coordinate(axis=axis), _)):
            return axis
        case Map(op="add", args=(Coordinate(axis=axis), _)):
            return axis
        case Map(op="add", args=(Map(op="sub", args=(Coordinate(axis=axis), _)), _)):
            return axis
        case _:
            return None

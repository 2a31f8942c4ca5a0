"""Constructors that check: both spellings build forms through these, so both give one message.

Each raises the fitting `PlaitError` with the span it was given. Sugar (select, mean, softmax, cat,
clamp, reflect, present) is expanded here into the forms of `dsl.program`; the printer recognises
the expansions and prints the sugar back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from ..arithmetic import SCALAR_OPS, UNDEFINED
from ..errors import Label
from ..mistakes import (
    AmbiguousSubscript,
    InvalidSize,
    KindMismatch,
    UnknownAxis,
)
from ..ops import OPS, Kind, join, reduce_kind
from ..program import (
    At,
    Axis,
    Const,
    Coordinate,
    Form,
    How,
    Map,
    Otherwise,
    Piece,
    Place,
    Reduce,
    Scalar,
    Size,
    When,
    fresh_axis,
    map_kind,
)
from ..source import Span

Pieces = Sequence[tuple[Form, tuple[Axis, ...]]]


def constant(value: Scalar, span: Span | None = None, written: str | None = None) -> Const:
    return Const(value, span=span, written=written)


def blamed(operand: Form, span: Span | None, text: str) -> list[Label]:
    """The labels of a message about an operand of the expression at `span`: the operand itself where
    it stands there; else the expression, and the operand where it was made (in Python, lines above)."""
    own = operand.span
    if own is None or span is None:
        place = span or own
        return [Label(place, text, primary=True)] if place else []
    if own.source == span.source and span.start <= own.start and own.end <= span.end:
        return [Label(own, text, primary=True)]
    return [Label(span, "here", primary=True), Label(own, text)]


def size(axis: Axis, span: Span | None = None) -> Form:
    """The size of an axis: a constant where it is known."""
    if isinstance(axis.size, Const):
        return Const(axis.size.value, span=span, written=axis.size.written)
    if axis.how == "like" and isinstance(axis.size, Size):
        return Size(axis.size.axis, span=span)
    return Size(axis, span=span)


def low(axis: Axis) -> Form:
    """The lowest index of an axis."""
    return axis.lo if axis.lo is not None else Const(0)


# --- scalar operations


FOLDED = frozenset(
    "add sub mul div floordiv mod neg pow minimum maximum lt le gt ge eq ne and or not "
    "abs sqrt floor ceil trunc".split()
)
"""The operations that are computed at once on constants, exactly as Python computes them."""


def apply(op: str, *args: Form, span: Span | None = None) -> Form:
    """A scalar operation; constants are folded exactly as Python computes them."""
    kind = map_kind(op, args)
    if " " in kind:
        spelled = OPS[op].symbol or op
        found = " and ".join(dict.fromkeys(arg.kind for arg in args))
        labels = [Label(arg.span, f"this is {arg.kind}") for arg in args if arg.span is not None]
        raise KindMismatch(
            f"`{spelled}` {kind}, and found {found}", at=span, label="here", labels=_apart(labels, span),
            helps=_kind_help(op, args),
        )  # fmt: skip
    return _folded(op, args, span) or Map(op, args, span=span)


def _folded(op: str, args: tuple[Form, ...], span: Span | None) -> Const | None:
    if op not in FOLDED or not all(isinstance(arg, Const) for arg in args):
        return None
    values = [arg.value for arg in args if isinstance(arg, Const)]
    written = [arg.written or repr(arg.value) for arg in args if isinstance(arg, Const)]
    try:
        result = SCALAR_OPS[op](*values)
    except UNDEFINED:
        return None
    if isinstance(result, complex) and not any(isinstance(value, complex) for value in values):
        return None
    named = any(isinstance(arg, Const) and arg.written for arg in args)
    return Const(result, span=span, written=_spell(op, written) if named else None)


def _spell(op: str, written: list[str]) -> str | None:
    symbol = OPS[op].symbol
    if not symbol:
        return None
    parts = [part if part.isidentifier() or part.isdigit() else f"({part})" for part in written]
    return f"{symbol}{parts[0]}" if len(parts) == 1 else f"{parts[0]} {symbol} {parts[1]}"


def _kind_help(op: str, args: tuple[Form, ...]) -> list[str]:
    if OPS[op].rule is OPS["floordiv"].rule:
        return ["use floor(x / y) for real numbers"]
    if any(arg.kind == "bool" for arg in args):
        return ["use select(p, 1, 0) to make a number of a truth value"]
    return []


def _apart(labels: list[Label], span: Span | None) -> list[Label]:
    """Labels that do not sit on the primary span."""
    return [] if span is None else [label for label in labels if label.span != span]


# --- presence


def _predicate(predicate: Form, who: str, span: Span | None) -> None:
    if predicate.kind != "bool":
        raise KindMismatch(
            f"`{who}` needs a predicate, and found {predicate.kind}",
            labels=blamed(predicate, span, f"this is {predicate.kind}"), helps=["compare it with something: `x > 0`"],
        )  # fmt: skip


def when(predicate: Form, value: Form, span: Span | None = None) -> Form:
    """`value` where `predicate` holds, absent elsewhere."""
    _predicate(predicate, "when", span)
    return When(predicate, value, span=span)


def otherwise(value: Form, fallback: Form, span: Span | None = None) -> Form:
    """`value` where it is present, `fallback` elsewhere."""
    if (value.kind == "bool") != (fallback.kind == "bool"):
        raise KindMismatch(
            f"`otherwise` mixes {value.kind} and {fallback.kind}", at=span, label="here",
            helps=["both sides must be truth values, or both numbers"],
        )  # fmt: skip
    return Otherwise(value, fallback, span=span)


def select(predicate: Form, yes: Form, no: Form, span: Span | None = None) -> Form:
    """`yes` where the predicate holds, `no` where it does not; neither is looked at elsewhere."""
    _predicate(predicate, "select", span)
    inverse = apply("not", predicate, span=span)
    return otherwise(when(predicate, yes, span), when(inverse, no, span), span)


def present(value: Form, span: Span | None = None) -> Form:
    """True where `value` is present: count over no axes is 1 there and 0 elsewhere."""
    return apply("gt", Reduce("count", (Piece(value, ()),), span=span), Const(0), span=span)


# --- reads


def at(value: Form, indices: Mapping[Axis, Form], span: Span | None = None) -> Form:
    """`value` with its axes replaced by index expressions, all at once."""
    for axis, index in indices.items():
        if axis not in value.axes:
            raise unknown_axis(axis, value, span, "is read, but the value has no such axis")
        if index.kind != "int":
            raise KindMismatch(
                f"the index for axis `{axis.name}` is {index.kind}, not int",
                labels=blamed(index, span, f"this is {index.kind}"),
                helps=["use floor(...) or round(...) to make an index"],
            )  # fmt: skip
    changed = {a: e for a, e in indices.items() if not (isinstance(e, Coordinate) and e.axis == a)}
    return At(value, tuple(changed.items()), span=span) if changed else value


def subscript(value: Form, items: Sequence[Form], span: Span | None = None) -> Form:
    """`v[h + dh, w + dw]`: each item replaces the one axis of `value` that occurs in it.

    A bare axis of the value keeps itself in text (`k[h+dh, w+dw, d]` is not needed but harmless).
    """
    indices: dict[Axis, Form] = {}
    for item in items:
        own = [axis for axis in item.axes if axis in value.axes]
        bare = isinstance(item, Coordinate)
        if len(own) != 1 or bare or own[0] in indices:
            raise _ambiguous(value, item, own, bare, span)
        indices[own[0]] = item
    return at(value, indices, span)


def _ambiguous(value: Form, item: Form, own: list[Axis], bare: bool, span: Span | None) -> AmbiguousSubscript:
    names = ", ".join(axis.name for axis in value.axes)
    if bare and own:
        why = f"is the bare axis `{own[0].name}`, which could mean itself or a transpose"
    elif not own:
        why = "contains no axis of the value"
    elif len(own) == 1:
        why = f"replaces axis `{own[0].name}` a second time"
    else:
        why = "contains " + " and ".join(f"`{axis.name}`" for axis in own) + ", both axes of the value"
    return AmbiguousSubscript(
        f"a subscript must say which axis it replaces, and this one {why}",
        labels=blamed(item, span, "this index"), notes=[f"axes of the value: {names}"],
        helps=["write `x[{axis: index}]`"],
    )  # fmt: skip


def place(
    value: Form, indices: Mapping[Axis, Form], keep: Sequence[Axis] | None = None, span: Span | None = None
) -> Form:
    """The sum of `value` over the entries whose indices are the target's."""
    if value.kind == "bool":
        raise KindMismatch(
            "`place` adds numbers, and found bool",
            labels=blamed(value, span, "this is bool"),
            helps=["use select(p, 1, 0) to make a number of a truth value"],
        )
    used = {axis for index in indices.values() for axis in index.axes}
    kept = tuple(keep) if keep is not None else tuple(axis for axis in value.axes if axis not in used)
    for axis in kept:
        if axis not in value.axes and axis not in used:
            raise unknown_axis(axis, value, span, "is kept, but the placed value has no such axis")
    for axis, index in indices.items():
        if index.kind != "int":
            raise KindMismatch(
                f"the index for axis `{axis.name}` is {index.kind}, not int",
                labels=blamed(index, span, f"this is {index.kind}"),
            )
    return Place(value, tuple(indices.items()), kept, span=span)


def unknown_axis(axis: Axis, value: Form, span: Span | None, why: str) -> UnknownAxis:
    """The message for an axis that a value lacks, with the nearest name that it has."""
    names = [other.name for other in value.axes]
    near = get_close_matches(axis.name, names, n=1, cutoff=0.5) or names[:1] if len(names) < 2 else (
        get_close_matches(axis.name, names, n=1, cutoff=0.5))  # fmt: skip
    shown = ", ".join(names) or "none"
    return UnknownAxis(
        f"axis `{axis.name}` {why}", at=span, label=f"not an axis of this value: {shown}",
        labels=[Label(value.span, f"has axes {shown}")] if value.span and value.span != span else [],
        notes=[f"axes of the value: {shown}"], helps=[f"did you mean `{near[0]}`?"] if near else [],
    )  # fmt: skip


# --- reductions


def reduce(
    op: str, pieces: Pieces, where: Form | None = None, component: int = 0, span: Span | None = None
) -> Form:
    """`op` over the axes of each piece; `where` makes the entries that it excludes absent."""
    made: list[Piece] = []
    if where is not None:
        _predicate(where, "where", span)
    for value, axes in pieces:
        masked = value if where is None else when(where, value, span)
        for axis in axes:
            if axis not in masked.axes:
                raise unknown_axis(axis, masked, span, "is reduced, but the value has no such axis")
        made.append(Piece(masked, tuple(dict.fromkeys(axes))))
    kinds: list[Kind] = [piece.value.kind for piece in made]
    mixed = "bool" in kinds and len(set(kinds)) > 1 and op != "count"
    kind = "mixes truth values and numbers" if mixed else reduce_kind(op, join(*kinds))
    if " " in kind:
        raise KindMismatch(
            f"`{op}` {kind}, and found {' and '.join(dict.fromkeys(kinds))}", at=span, label="here"
        )
    if op == "argmax" and component >= sum(len(piece.axes) for piece in made):
        raise UnknownAxis("`argmax` needs an axis to answer for", at=span, label="names none")
    return Reduce(op, tuple(made), component, span=span)


def mean(pieces: Pieces, where: Form | None = None, span: Span | None = None) -> Form:
    """The sum over the present entries, divided by their number."""
    total = reduce("sum", pieces, where, span=span)
    return apply("div", total, reduce("count", pieces, where, span=span), span=span)


def softmax(pieces: Pieces, where: Form | None = None, span: Span | None = None) -> tuple[Form, ...]:
    """`exp(s - lse(s))` for each piece, one normaliser for all; absent where s is absent."""
    if where is not None:
        _predicate(where, "where", span)
    masked = [(s if where is None else when(where, s, span), axes) for s, axes in pieces]
    norm = reduce("lse", masked, span=span)
    return tuple(apply("exp", apply("sub", s, norm, span=span), span=span) for s, _ in masked)


# --- index sugar


def clamp(value: Form, lowest: Form, highest: Form, span: Span | None = None) -> Form:
    """`minimum(maximum(value, lowest), highest)`."""
    return apply("minimum", apply("maximum", value, lowest, span=span), highest, span=span)


def reflect(index: Form, extent: Form, span: Span | None = None) -> Form:
    """The index mirrored at 0 and at extent - 1, neither repeated (PyTorch's `reflect`)."""
    over = apply("mul", Const(2), apply("sub", extent, Const(1), span=span), span=span)
    period = apply("maximum", over, Const(1), span=span)
    wrapped = apply("mod", index, period, span=span)
    return apply("minimum", wrapped, apply("sub", period, wrapped, span=span), span=span)


def cat(axis: Axis, parts: Sequence[tuple[Form, Axis]], span: Span | None = None) -> Form:
    """The parts one after another along `axis`; each part names its own axis, which goes."""
    result: Form | None = None
    offset: Form = low(axis)
    for value, own in parts:
        start = Coordinate(axis, span=span)
        index = start if offset == Const(0) else apply("sub", start, offset, span=span)
        shifted = apply("add", index, low(own), span=span) if low(own) != Const(0) else index
        piece = at(value, {own: shifted}, span)
        result = piece if result is None else otherwise(result, piece, span)
        offset = size(own, span) if offset == Const(0) else apply("add", offset, size(own), span=span)
    if result is None:
        raise InvalidSize("`cat` needs at least one part", at=span)
    return result


# --- axes


def make_axis(name: str, lowest: Form, extent: Form, how: How, span: Span | None = None) -> Axis:
    """A fresh axis; sizes must be integers without axes, and known negative ones are refused."""
    for form in (lowest, extent):
        if form.kind != "int" or form.axes:
            what = f"has axes {', '.join(a.name for a in form.axes)}" if form.axes else f"is {form.kind}"
            raise InvalidSize(
                f"the range of axis `{name}` needs whole numbers, and this {what}",
                labels=blamed(form, span, f"this {what}"),
            )
    if isinstance(extent, Const) and isinstance(extent.value, int) and extent.value < 1:
        said = f" ({extent.written})" if extent.written else ""
        raise InvalidSize(
            f"axis `{name}` would have size {extent.value}{said}; a size is at least 1", at=span, label="here"
        )
    return fresh_axis(name, lowest, extent, how, span)


def near_axis(name: str, radius: Form, span: Span | None = None) -> Axis:
    """-radius .. radius."""
    extent = apply("add", apply("mul", Const(2), radius), Const(1))
    if isinstance(radius, Const) and isinstance(radius.value, int) and radius.value < 0:
        said = f" ({radius.written})" if radius.written else ""
        raise InvalidSize(
            f"the radius of axis `{name}` is {radius.value}{said}; it is at least 0", at=span, label="here"
        )
    return make_axis(name, apply("neg", radius), extent, "near", span)


def span_axis(name: str, lowest: Form, stop: Form, span: Span | None = None) -> Axis:
    """lowest .. stop - 1, as Python's range."""
    return make_axis(name, lowest, apply("sub", stop, lowest), "span", span)


def like_axis(axis: Axis, name: str | None = None, span: Span | None = None) -> Axis:
    """A copy of an axis: the same range, tied to it, and equal to no other axis."""
    return fresh_axis(name or f"{axis.name}_", low(axis), size(axis), "like", span)

"""The functions of the Python spelling that make values from values: scalar operations, presence,
index sugar, reductions over several domains, and the makers of axes.

Each builds at the user's own line through `dsl.constructors.build`, so that both spellings give one program and
one message. Whole-number functions of Python numbers alone give Python numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, overload

from ..constructors import build, build_special
from ..errors import PlaitError
from ..mistakes import InvalidArgument, KindMismatch
from ..program import Axis, Form
from ..proofs.requirements import filled
from ..source import Span
from .trace import current, here, report
from .value import POISON, AxisValue, Over, Value, applied, axes_in, form_of, made

Number = Value | int | float | complex
"""A value, or a Python number in its place."""
Real = Value | int | float
Whole = Value | int

# --- axes


_signature: dict[str, AxisValue] = {}


def axes(names: str) -> Any:
    """The signature axes of these names: one axis for one name, a tuple for several.

    Two axes of one name are one object. (`Any`, since a type cannot count words.)

        >>> h, w = axes("h w")
        >>> h is axes("h")
        True
    """
    made_axes = tuple(_signature_axis(name) for name in _names(names))
    return made_axes[0] if len(made_axes) == 1 else made_axes


def _signature_axis(name: str) -> AxisValue:
    return _signature.setdefault(name, AxisValue(Axis(name)))


def axis(name: str, size: Whole) -> AxisValue:
    """A fresh axis 0 .. size - 1, equal to no other."""
    return _fresh(name, partial(build_axis, lowest=0), size)[0]


def near(names: str, radius: Whole) -> Any:
    """Fresh axes -radius .. radius: one for one name, a tuple for several."""
    made_axes = _fresh(names, build.near_axis, radius)
    return made_axes[0] if len(made_axes) == 1 else made_axes


def span(name: str, lowest: Whole, stop: Whole) -> AxisValue:
    """A fresh axis lowest .. stop - 1, as Python's `range`."""
    return _fresh(name, build.span_axis, lowest, stop)[0]


def build_axis(name: str, extent: Form, where: Span | None = None, *, lowest: int = 0) -> Axis:
    """`axis(name, extent)` in core terms."""
    return build.make_axis(name, build.constant(lowest), extent, "axis", where)


def _names(names: str) -> list[str]:
    """The words of a list of names; raises InvalidArgument for what cannot be a name."""
    words = names.replace(",", " ").split() if isinstance(names, str) else [repr(names)]  # pyright: ignore[reportUnnecessaryIsInstance]
    wrong = [word for word in words if not word.isidentifier()]
    if wrong or not words:
        raise InvalidArgument(
            f'"{wrong[0]}" is no name for an axis' if wrong else "an axis needs a name", at=here(), label="here",
            helps=["the batch `...` is not made: write `...` itself, as in `x.mean(..., h)`"]
            if "..." in wrong
            else ['write names apart: `axes("h w d")`'],
        )  # fmt: skip
    return words


def _fresh(names: str, make: Callable[..., Axis], *operands: object) -> tuple[AxisValue, ...]:
    """One fresh axis a name; poisoned ones after a mistake, which is reported."""
    where = here()
    words = names.replace(",", " ").split() or ["i"]
    try:
        words = _names(names)
        if not any(isinstance(operand, Value) and operand.poisoned for operand in operands):
            forms = [form_of(operand, where) for operand in operands]
            return tuple(AxisValue(make(word, *forms, where)) for word in words)
    except PlaitError as error:
        report(error)
    return tuple(AxisValue(build_axis(word, build.constant(1)), poisoned=True) for word in words)


# --- presence


def when(predicate: object, value: object) -> Value:
    """`value` where the predicate holds, absent elsewhere."""
    return made(build.when, predicate, value)


def select(predicate: object, yes: object, no: object) -> Value:
    """`yes` where the predicate holds, `no` where it does not; neither is looked at elsewhere."""
    return made(build.select, predicate, yes, no)


def present(value: object) -> Value:
    """Whether the value is present, everywhere a truth value."""
    return made(build.present, value)


def cases(*pairs: tuple[object, object]) -> Value:
    """The value of the first condition that holds: `cases((h.size < k, small), (True, normal))`."""

    def make(*forms: Form, span: Span | None) -> Form:
        return build_special.cases(list(zip(forms[::2], forms[1::2], strict=True)), span)

    return made(make, *(part for pair in pairs for part in pair))


def zeros(*over: Over) -> Value:
    """0.0 over the axes, `...` among them."""
    found = axes_in(over)
    return POISON if found is None else made(partial(build_special.zeros, found))


# --- indices


def clamp(value: Real, lowest: Real, highest: Real) -> Value:
    """`minimum(maximum(value, lowest), highest)`; of reals, with derivative 1 inside and on the ends."""
    return made(build.clamp, value, lowest, highest)


def reflect(index: Whole, extent: Whole) -> Value:
    """The index mirrored at 0 and at `extent - 1`, neither repeated (PyTorch's `reflect`)."""
    return made(build.reflect, index, extent)


def trust(index: Value, axis: AxisValue) -> Value:
    """A data index that you know to be one of the axis; one outside is taken to the nearer end."""
    found = axes_in((axis,))
    return POISON if found is None else made(partial(build_special.trust, axis=found[0]), index)


def place(
    value: object, indices: Mapping[AxisValue, Whole], keep: tuple[AxisValue, ...] | None = None
) -> Value:
    """The sum of `value` over the entries whose indices are the target's: the transpose of a read."""
    targets = axes_in(indices.keys())
    kept = None if keep is None else axes_in(keep)
    if targets is None or (keep is not None and kept is None):
        return POISON

    def make(form: Form, *found: Form, span: Span | None) -> Form:
        return build.place(form, dict(zip(targets, found, strict=True)), kept, span)

    return made(make, value, *indices.values())


def cat(axis: AxisValue, *parts: tuple[object, AxisValue]) -> Value:
    """The parts one after another along `axis`: `cat(c, (x, c1), (y, c2))`; each part's axis goes.

    The sizes of the parts must add up to that of the axis: AxisSizeMismatch where they cannot, a requirement of
    the program where that depends on sizes of the call.
    """
    for part in parts:
        if not isinstance(part, tuple) or len(part) != 2:  # pyright: ignore[reportUnnecessaryIsInstance]
            report(KindMismatch("`cat` takes pairs of a value and its axis", at=here(), label="here",
                                helps=["write `cat(c, (x, c1), (y, c2))`"]))  # fmt: skip
            return POISON
    found = axes_in((axis, *(own for _, own in parts)))
    if found is None:
        return POISON

    def make(*forms: Form, span: Span | None) -> Form:
        trace = current()
        if trace is not None and forms:
            trace.require(filled(found[0], found[1:], trace.fixed, trace.requires, span))
        return build.cat(found[0], list(zip(forms, found[1:], strict=True)), span)

    return made(make, *(value for value, _ in parts))


def split(axis: AxisValue, *parts: AxisValue) -> dict[AxisValue, Value]:
    """The read that takes `axis` apart, row-major: `x[split(h, Y, p)]` is over Y and p."""
    index = _row_major(parts)
    return {axis: index + _low(axis) if _offset(axis) else index}


def merge(axis: AxisValue, *parts: AxisValue) -> dict[AxisValue, Value]:
    """The read that puts parts together, row-major: `y[merge(h, Y, p)]` is over h again."""
    place = axis - _low(axis) if _offset(axis) else axis
    read: dict[AxisValue, Value] = {}
    for number, part in enumerate(parts):
        below = _product(parts[number + 1 :])
        index = place if below is None else place // below
        index = index % part.size if number else index
        read[part] = index + _low(part) if _offset(part) else index
    return read


def flat(*parts: AxisValue, name: str = "") -> tuple[AxisValue, dict[AxisValue, Value], Value]:
    """A fresh axis for the row-major product of the parts, the read that makes it (`x[read]` is over
    the new axis), and the index in it of the parts' coordinates (`y[{n: index}]` goes back)."""
    index = _row_major(parts)
    extent = _product(parts)
    whole = axis(name or "_".join(part.axis.name for part in parts), 1 if extent is None else extent)
    return whole, merge(whole, *parts), index


def _row_major(parts: tuple[AxisValue, ...]) -> Value:
    index: Value | None = None
    for part in parts:
        own = part - _low(part) if _offset(part) else part
        index = own if index is None else index * part.size + own
    if index is None:
        raise InvalidArgument("a product of axes needs at least one axis", at=here(), label="here")
    return index


def _product(parts: tuple[AxisValue, ...]) -> Whole | None:
    product: Whole | None = None
    for part in parts:
        product = part.size if product is None else product * part.size
    return product


def _offset(part: AxisValue) -> bool:
    return build.low(part.axis) != build.constant(0)


def _low(part: AxisValue) -> Value:
    return Value(build.low(part.axis))


def lerp(
    value: Value, axis: AxisValue, first: Value, fraction: Real,
    border: Callable[[Value, Value, Whole], Value] | float | None = None,
) -> Value:  # fmt: skip
    """Between the entries at `first` and `first + 1` of an axis: `(1 - fraction)` of one and
    `fraction` of the other. Outside the axis: absent, or `border` (a number there, or `clamp`)."""
    end = _low(axis) + axis.size if _offset(axis) else axis.size

    def tap(index: Value) -> Value:
        if callable(border):
            return value[{axis: border(index, _low(axis), end - 1)}]
        read = value[{axis: index}]
        return read if border is None else read.otherwise(border)

    return (1 - fraction) * tap(first) + fraction * tap(first + 1)


# --- sizes


@overload
def cdiv(value: int, by: int) -> int: ...
@overload
def cdiv(value: Value, by: Whole) -> Value: ...
@overload
def cdiv(value: Whole, by: Whole) -> Whole: ...
def cdiv(value: Whole, by: Whole) -> Whole:
    """`value / by` rounded up, for `by` of at least 1."""
    if isinstance(value, Value) or isinstance(by, Value):
        return made(build_special.cdiv, value, by)
    return (value + by - 1) // by


@overload
def smin(first: int, second: int) -> int: ...
@overload
def smin(first: Whole, second: Whole) -> Whole: ...
def smin(first: Whole, second: Whole) -> Whole:
    """The smaller of two sizes, where Python's `min` would need to know them."""
    if isinstance(first, Value) or isinstance(second, Value):
        return applied("minimum", first, second)
    return min(first, second)


@overload
def smax(first: int, second: int) -> int: ...
@overload
def smax(first: Whole, second: Whole) -> Whole: ...
def smax(first: Whole, second: Whole) -> Whole:
    """The larger of two sizes, where Python's `max` would need to know them."""
    if isinstance(first, Value) or isinstance(second, Value):
        return applied("maximum", first, second)
    return max(first, second)

"""Gradient marks, derivatives of values, and named algorithms over whole axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

from ..constructors import build_special
from ..errors import PlaitError
from ..mistakes import InvalidArgument
from ..program import Form, Leaf
from ..source import Span
from .trace import bound_name, here, report
from .value import POISON, AxisValue, Value, axes_in, made

# --- gradient marks


def as_if(value: object, surrogate: object) -> Value:
    """The value of the first, the derivative of the second (straight-through and its kin)."""
    return made(build_special.as_if, value, surrogate)


def stop(value: object) -> Value:
    """The value, as a constant for the derivative."""
    return made(build_special.stop, value)


def on_gradient(value: Value, rule: Callable[[Value], Value]) -> Value:
    """The value; its cotangent g becomes `rule(g)`. `rule` is called once, here."""
    if value.poisoned:
        return POISON
    where = here()
    try:
        variable: Leaf = build_special.cotangent(value.form, bound_name("g"), where)
    except PlaitError as error:
        report(error)
        return POISON
    return made(partial(_on_gradient, variable=variable), value, rule(Value(variable)))


def _on_gradient(value: Form, rule: Form, *, variable: Leaf, span: Span | None) -> Form:
    return build_special.on_gradient(value, variable, rule, span)


# --- derivatives of values


def jvp(value: Value, directions: Mapping[Value, object]) -> Value:
    """The derivative of `value` where each of the earlier values moves along its direction.

    Raises InvalidArgument for a value that `value` is not computed from.
    """
    count = len(directions)

    def make(form: Form, *forms: Form, span: Span | None) -> Form:
        return build_special.jvp(form, forms[:count], forms[count:], span)

    return made(make, value, *directions.keys(), *directions.values())


def vjp(value: Value, at: Value, cotangent: object) -> Value:
    """The pullback of `cotangent`, over the axes of `value`, to the earlier value `at`."""
    return made(build_special.vjp, value, at, cotangent)


# --- libraries


def fft(value: Value, over: Mapping[AxisValue, AxisValue]) -> Value:
    """The discrete Fourier transform: `fft(x, {h: u, w: v})` has u, v in place of h, w. Plain sums."""
    return _fourier("fft", value, over)


def ifft(value: Value, over: Mapping[AxisValue, AxisValue]) -> Value:
    """The inverse of `fft`: divided by the number of entries."""
    return _fourier("ifft", value, over)


def rfft(value: Value, over: Mapping[AxisValue, AxisValue]) -> Value:
    """`fft` of real numbers, whose last axis keeps the first n//2 + 1 entries."""
    return _fourier("rfft", value, over)


def irfft(value: Value, over: Mapping[AxisValue, AxisValue]) -> Value:
    """The inverse of `rfft`, real. The imaginary parts of entry 0 and, for even n, of entry n/2 are
    not read."""
    return _fourier("irfft", value, over)


def _fourier(op: str, value: Value, over: Mapping[AxisValue, AxisValue]) -> Value:
    old, new = axes_in(over.keys()), axes_in(over.values())
    if old is None or new is None:
        return POISON
    if not old:
        report(InvalidArgument(f"`{op}` needs at least one axis", at=here(), label="here"))
        return POISON
    return made(partial(build_special.fourier, op, over=old, new=new), value)


def solve(
    matrix: Value, right: Value, row: AxisValue, column: AxisValue,
    structure: Literal["general", "spd", "lower", "upper"] = "general",
) -> Value:  # fmt: skip
    """x over `column` with `(matrix * x).sum(column) == right` for every index of `row`.

    `structure` says what is known of the matrix; of a triangle the other half is not read.
    """
    found = axes_in((row, column))
    if found is None:
        return POISON
    return made(
        partial(build_special.solve, row=found[0], column=found[1], structure=structure), matrix, right
    )


def sort_indices(value: Value, over: AxisValue, rank: AxisValue) -> Value:
    """Over `rank`, of the same size: the index of `over` that comes at each place in ascending order;
    equal entries keep their order. Read the value there: `x[{n: sort_indices(x, n, r)}]`."""
    return _ranked("sort_indices", value, over, rank)


def topk_indices(value: Value, over: AxisValue, rank: AxisValue) -> Value:
    """Over `rank`: the indices of the largest entries of `over`, largest first."""
    return _ranked("topk_indices", value, over, rank)


def _ranked(op: str, value: Value, over: AxisValue, rank: AxisValue) -> Value:
    found = axes_in((over, rank))
    if found is None:
        return POISON
    return made(partial(build_special.ranked, op, over=found[0], rank=found[1]), value)

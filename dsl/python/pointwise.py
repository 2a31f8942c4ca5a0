"""Scalar functions of values, one for each row of `dsl.ops` that has no operator, and casts."""

from __future__ import annotations

import math
from typing import overload

from ..constructors import build
from ..program import Form
from ..source import Span
from .value import Value, applied, made

Number = Value | int | float | complex
"""A value, or a Python number in its place."""
Real = Value | int | float


def exp(value: Number) -> Value:
    """e to the x."""
    return applied("exp", value)


def log(value: Number) -> Value:
    """The natural logarithm."""
    return applied("log", value)


def log1p(value: Number) -> Value:
    """log(1 + x), accurate near 0."""
    return applied("log1p", value)


def expm1(value: Number) -> Value:
    """exp(x) - 1, accurate near 0."""
    return applied("expm1", value)


def sqrt(value: Number) -> Value:
    """The square root."""
    return applied("sqrt", value)


def sin(value: Number) -> Value:
    """The sine."""
    return applied("sin", value)


def cos(value: Number) -> Value:
    """The cosine."""
    return applied("cos", value)


def tanh(value: Number) -> Value:
    """The hyperbolic tangent."""
    return applied("tanh", value)


def erf(value: Number) -> Value:
    """The error function."""
    return applied("erf", value)


def sigmoid(value: Number) -> Value:
    """1 / (1 + exp(-x))."""
    return applied("sigmoid", value)


def sign(value: Real) -> Value:
    """-1, 0 or 1, of the kind of the value; its derivative is 0."""
    return applied("sign", value)


def minimum(first: Real, second: Real) -> Value:
    """The smaller of the two at each index; at a tie the derivative is half for each."""
    return applied("minimum", first, second)


def maximum(first: Real, second: Real) -> Value:
    """The larger of the two at each index; at a tie the derivative is half for each."""
    return applied("maximum", first, second)


def relu(value: Real) -> Value:
    """`select(x > 0, x, 0.0)`: 0 where x is not above 0, and so is its derivative."""

    def make(form: Form, zero: Form, *, span: Span | None) -> Form:
        return build.select(build.apply("gt", form, zero, span=span), form, zero, span)

    return made(make, value, 0.0)


# --- to whole numbers: of a value an int value, of a Python number an int


@overload
def floor(value: float) -> int: ...
@overload
def floor(value: Value) -> Value: ...
@overload
def floor(value: Real) -> Value | int: ...
def floor(value: Real) -> Value | int:
    """The largest whole number not above x."""
    return applied("floor", value) if isinstance(value, Value) else math.floor(value)


@overload
def ceil(value: float) -> int: ...
@overload
def ceil(value: Value) -> Value: ...
@overload
def ceil(value: Real) -> Value | int: ...
def ceil(value: Real) -> Value | int:
    """The smallest whole number not below x."""
    return applied("ceil", value) if isinstance(value, Value) else math.ceil(value)


@overload
def trunc(value: float) -> int: ...
@overload
def trunc(value: Value) -> Value: ...
@overload
def trunc(value: Real) -> Value | int: ...
def trunc(value: Real) -> Value | int:
    """The whole number next to x towards 0."""
    return applied("trunc", value) if isinstance(value, Value) else math.trunc(value)


@overload
def round_(value: float) -> int: ...
@overload
def round_(value: Value) -> Value: ...
@overload
def round_(value: Real) -> Value | int: ...
def round_(value: Real) -> Value | int:
    """The nearest whole number, halves to the even one."""
    return applied("round", value) if isinstance(value, Value) else round(value)


# --- kinds


def to_int(value: Number) -> Value:
    """The value as whole numbers: a truth value becomes 0 or 1, a real is cut towards 0."""
    return applied("to_int", value)


def to_real(value: Number) -> Value:
    """The value as real numbers."""
    return applied("to_real", value)


def cplx(real: Real, imaginary: Real) -> Value:
    """The complex number of two real ones."""
    return applied("cplx", real, imaginary)


def re(value: Number) -> Value:
    """The real part."""
    return applied("real", value)


def im(value: Number) -> Value:
    """The imaginary part."""
    return applied("imag", value)


def conj(value: Number) -> Value:
    """The complex conjugate."""
    return applied("conj", value)


def precise(value: Number) -> Value:
    """The value, computed in at least float32 whatever the program is compiled to."""
    return applied("precise", value)

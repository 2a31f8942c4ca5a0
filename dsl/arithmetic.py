# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownLambdaType=false
"""What each scalar operation is on Python's own numbers: sizes are computed with these."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable

from .program import Scalar

MOST_BITS = 4096
"""A size with more bits is no size; hostile towers of powers end here."""

UNDEFINED = (ArithmeticError, ValueError, TypeError)
"""What Python raises where an operation has no value: division by zero, a root of -1."""


def _times(a: Scalar, b: Scalar) -> Scalar:
    value = a * b
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        raise OverflowError("the number is too large")
    return value


def _power(a: Scalar, b: Scalar) -> Scalar:
    if isinstance(a, int) and isinstance(b, int) and a.bit_length() * b > MOST_BITS:
        raise OverflowError("the number is too large")
    return a**b


def _negative(a: Scalar) -> Scalar:
    return -a


def _absolute(a: Scalar) -> Scalar:
    return abs(a)


def _sign(x: float) -> float:
    return (x > 0) - (x < 0)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _same(x: Scalar) -> Scalar:
    return x


SCALAR_OPS: dict[str, Callable[..., Scalar]] = {
    "or": operator.or_, "and": operator.and_, "not": operator.not_,
    "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge,
    "eq": operator.eq, "ne": operator.ne,
    "add": operator.add, "sub": operator.sub, "mul": _times, "div": operator.truediv,
    "floordiv": operator.floordiv, "mod": operator.mod, "neg": _negative, "pow": _power,
    "minimum": min, "maximum": max, "abs": _absolute, "sign": _sign,
    "exp": math.exp, "log": math.log, "log1p": math.log1p, "expm1": math.expm1, "sqrt": math.sqrt,
    "sin": math.sin, "cos": math.cos, "tanh": math.tanh, "erf": math.erf, "sigmoid": _sigmoid,
    "floor": math.floor, "ceil": math.ceil, "round": round, "trunc": int,
    "real": lambda x: x.real, "imag": lambda x: x.imag, "conj": lambda x: x.conjugate(), "cplx": complex,
    "to_int": int, "to_real": float, "precise": _same,
}  # fmt: skip
"""Exact on integers; `round` goes half to even."""

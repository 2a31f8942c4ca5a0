"""Static numbers that remember how they were written.

`radius: int = 8` reaches the function as a `StaticInt`: an `int` like any other, except that it and
what is computed from it print as written (`radius * radius`). The value alone has meaning.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import Any

from ..arithmetic import MOST_BITS, SCALAR_OPS
from ..errors import CompilerFault
from ..mistakes import InvalidArgument
from ..position import user_span
from ..program import Const, Scalar
from ..source import Span
from .build import apply

_OPERATORS: dict[str, str] = {
    "add": "add", "sub": "sub", "mul": "mul", "truediv": "div", "floordiv": "floordiv", "mod": "mod",
    "pow": "pow",
}  # fmt: skip
"""Python's name of an operator, and that of the scalar operation."""


class StaticInt(int):
    """An `int` with its spelling."""

    written: str = ""


class StaticFloat(float):
    """A `float` with its spelling."""

    written: str = ""


def static(value: Scalar, written: str | None) -> Scalar:
    """The number with its spelling; truth values, complex numbers and unwritten ones as they are."""
    if not written or isinstance(value, bool | complex):
        return value
    made = StaticInt(value) if isinstance(value, int) else StaticFloat(value)
    made.written = written
    return made


def constant(number: object, span: Span | None = None) -> Const | None:
    """The constant of a Python number (NumPy's scalars too), or None for anything else."""
    written = number.written if isinstance(number, StaticInt | StaticFloat) else None
    match number:
        case bool():
            return Const(number, span=span)
        case numbers.Integral():
            return Const(int(number), span=span, written=written)
        case numbers.Real():
            return Const(float(number), span=span, written=written)
        case numbers.Complex():
            return Const(complex(number), span=span)
        case _:
            return None


def number_of(form: Const) -> Scalar:
    """The Python number of a constant, with its spelling."""
    return static(form.value, form.written)


def int_of(form: Const) -> int:
    """The whole number of a constant that is a size, with its spelling."""
    number = number_of(form)
    if not isinstance(number, int):
        raise CompilerFault("trace", f"a size is {number!r}")
    return number


def _binary(name: str, reflected: bool) -> Callable[[Any, Any], Any]:
    def method(self: StaticInt | StaticFloat, other: object) -> object:
        if not isinstance(other, int | float):
            return NotImplemented
        first, second = (other, self) if reflected else (self, other)
        value = _computed(name, _bare(first), _bare(second))
        left, right = constant(first), constant(second)
        if left is None or right is None or "bool" in (left.kind, right.kind) or isinstance(value, complex):
            return value
        folded = apply(_OPERATORS[name], left, right)
        return static(value, folded.written if isinstance(folded, Const) else None)

    return method


def _computed(name: str, first: float, second: float) -> Any:
    """What Python's operator gives. Raises InvalidArgument for a whole number that is no size of anything:
    a tower of powers would take Python for ever."""
    try:
        return SCALAR_OPS[_OPERATORS[name]](first, second)
    except OverflowError:
        if isinstance(first, float) or isinstance(second, float):
            raise
        raise InvalidArgument(
            f"this constant would have more than {MOST_BITS} bits", at=user_span(), label="too large"
        ) from None


def _negative(self: StaticInt | StaticFloat) -> Scalar:
    number = constant(self)
    folded = apply("neg", number) if number else None
    return static(-_bare(self), folded.written if isinstance(folded, Const) else None)


def _bare(number: float) -> int | float:
    return int(number) if isinstance(number, int) else float(number)


for _class in (StaticInt, StaticFloat):
    for _name in _OPERATORS:
        setattr(_class, f"__{_name}__", _binary(_name, reflected=False))
        setattr(_class, f"__r{_name}__", _binary(_name, reflected=True))
    setattr(_class, "__neg__", _negative)  # noqa: B010 (a class attribute of two classes at once)

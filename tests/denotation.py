"""The denotation once more, by the book: one scalar at a time, in plain Python.

`Meaning(leaves, sizes)` answers `[form](index)`: a number, a truth value, or None where the form is
absent. It shares nothing with `compiler/meaning/interpret.py` but the equations (language.md section
4), and is what that interpreter is tested against. It is for boxes of a few hundred entries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from torch import Tensor

from plait.compiler.meaning.partial import NO_INTEGER, Partial, Sizes
from plait.dsl.ops import Kind, join
from plait.dsl.program import (
    AsIf,
    At,
    Axis,
    Const,
    Coordinate,
    Form,
    Leaf,
    Map,
    OnGradient,
    Otherwise,
    Place,
    Reduce,
    Size,
    When,
)
from plait.dsl.shapes.size_forms import axis_range

Scalar = Any
"""A number or a truth value, of Python or of numpy."""
Index = Mapping[Axis, int]


class Meaning:
    """What forms mean for these leaves (over their own axes; None is absent everywhere) and sizes."""

    def __init__(self, leaves: Mapping[Form, Tensor | None], sizes: Sizes) -> None:
        self.leaves = leaves
        self.sizes = sizes
        self.known: dict[tuple[Form, tuple[int, ...]], Scalar | None] = {}

    def range(self, axis: Axis) -> range:
        return axis_range(axis, self.sizes)

    def box(self, axes: Sequence[Axis]) -> Iterator[dict[Axis, int]]:
        """Every index of a box, in row-major order."""
        for values in product(*(self.range(axis) for axis in axes)):
            yield dict(zip(axes, values, strict=True))

    def at(self, form: Form, index: Index) -> Scalar | None:
        """`[form](index)`; axes that the form lacks do not matter."""
        key = (form, tuple(index[axis] for axis in form.axes))
        if key not in self.known:
            self.known[key] = self._at(form, {axis: index[axis] for axis in form.axes})
        return self.known[key]

    def _at(self, form: Form, index: Index) -> Scalar | None:
        match form:
            case Const(value=value):
                return value
            case Size(axis=axis):
                return len(self.range(axis))
            case Coordinate(axis=axis):
                return index[axis]
            case Leaf():
                return self._leaf(form, index)
            case AsIf(value=value) | OnGradient(value=value):
                return self.at(value, index)
            case Map():
                return self._map(form, index)
            case When(predicate=predicate, value=value):
                return self.at(value, index) if self.at(predicate, index) is True else None
            case Otherwise(value=value, fallback=fallback):
                found = self.at(value, index)
                return cast(self.at(fallback, index) if found is None else found, form.kind)
            case At(value=value, indices=indices):
                found = self._indices(indices, index)
                return None if found is None else self.at(value, {**index, **found})
            case Place():
                return self._place(form, index)
            case Reduce():
                return self._reduce(form, index)
            case _:
                raise AssertionError(f"no meaning for {type(form).__name__}")

    def _leaf(self, form: Leaf, index: Index) -> Scalar | None:
        data = self.leaves[form]
        place = tuple(index[axis] - self.range(axis).start for axis in form.over)
        return None if data is None else cast(data[place].item(), form.declared)

    def _map(self, form: Map, index: Index) -> Scalar | None:
        args = [self.at(arg, index) for arg in form.args]
        if any(arg is None for arg in args):
            return None
        kinds: list[Kind] = [form.kind, *(arg.kind for arg in form.args)]
        with np.errstate(all="ignore"):
            return cast(SCALARS[form.op](*(cast(arg, join(*kinds)) for arg in args)), form.kind)

    def _indices(self, indices: Sequence[tuple[Axis, Form]], index: Index) -> dict[Axis, Any] | None:
        found = {axis: self.at(expression, index) for axis, expression in indices}
        if any(value not in self.range(axis) for axis, value in found.items()):
            return None
        return found

    def _place(self, form: Place, index: Index) -> Scalar | None:
        replaced = [axis for axis, _ in form.indices]
        below = [axis for _, expression in form.indices for axis in expression.axes]
        kept = {axis: index[axis] for axis in form.keep if axis not in replaced}
        summed = [axis for axis in dict.fromkeys((*form.value.axes, *below)) if axis not in kept]
        total = None
        for entry in self.box(summed):
            source = {**kept, **entry}
            value, target = self.at(form.value, source), self._indices(form.indices, source)
            if value is not None and target == {axis: index[axis] for axis in replaced}:
                total = value if total is None else total + value
        return total

    def _reduce(self, form: Reduce, index: Index) -> Scalar | None:
        kinds: list[Kind] = [piece.value.kind for piece in form.pieces]
        entries = [
            (number, entry, cast(value, join(*kinds)))
            for number, piece in enumerate(form.pieces)
            for entry in self.box(piece.axes)
            if (value := self.at(piece.value, {**index, **entry})) is not None
        ]
        values = [value for _, _, value in entries]
        match form.op:
            case "count":
                return len(values)
            case "any":
                return any(values)
            case "all":
                return all(values)
            case _ if not values:
                return None
            case "argmax":
                number, entry, _ = entries[first_highest(values)]
                listed = [(at, axis) for at, piece in enumerate(form.pieces) for axis in piece.axes]
                owner, axis = listed[form.component]
                return entry[axis] if owner == number else None
            case _:
                with np.errstate(all="ignore"):
                    return cast(REDUCTIONS[form.op](values), form.kind)


def differences(values: Mapping[Form, Partial], meaning: Meaning) -> list[str]:
    """Where values of the interpreter are not what their forms mean, one line each."""
    found: list[str] = []
    for form, value in values.items():
        mask = value.mask
        for entry in meaning.box(form.axes):
            place = tuple(entry[axis] - meaning.range(axis).start for axis in form.axes)
            expected = meaning.at(form, entry)
            got = value.data[place].item() if bool(mask[place]) else None
            if not alike(got, expected):
                shown = ", ".join(f"{axis.name}={at}" for axis, at in entry.items())
                found.append(f"{form} at {shown or 'its one index'}: {got}, and it means {expected}")
    return found


def alike(got: Scalar | None, expected: Scalar | None) -> bool:
    """Equal: exactly for integers and truth values, to 1e-9 for reals, NaN to NaN."""
    if got is None or expected is None:
        return got is expected
    if isinstance(got, bool | int):
        return type(got) is type(expected) and got == expected
    parts = [(complex(got).real, complex(expected).real), (complex(got).imag, complex(expected).imag)]
    return all(
        a == b or (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9)
        for a, b in parts
    )


def cast(value: Scalar | None, kind: Kind) -> Scalar | None:
    """A scalar of the kind, as numpy's 64 bits where IEEE decides."""
    if value is None:
        return None
    match kind:
        case "bool":
            return bool(value)
        case "int":
            return int(value)
        case "real":
            return np.float64(value)
        case _:
            return np.complex128(value)


def first_highest(values: Sequence[Scalar]) -> int:
    """The first place of the largest; NaN is larger than any number."""
    for place, value in enumerate(values):
        if value != value:
            return place
    return values.index(max(values))


def whole(rounded: Callable[[float], int]) -> Callable[[float], int]:
    return lambda x: rounded(x) if math.isfinite(x) and abs(x) < 2.0**63 else NO_INTEGER


def log_sum_exp(values: Sequence[float]) -> float:
    highest = max(values)
    if any(math.isnan(value) for value in values):
        return math.nan
    if math.isinf(highest):
        return highest
    return highest + math.log(math.fsum(math.exp(value - highest) for value in values))


def sigmoid(x: float) -> float:
    return 1 / (1 + np.exp(-x))


def sign(x: float) -> float:
    return (x > 0) - (x < 0) if isinstance(x, int) else np.float64(x > 0) - np.float64(x < 0)


def lowest(a: float, b: float) -> float:
    return np.minimum(a, b) if isinstance(a, float) else min(a, b)


def highest(a: float, b: float) -> float:
    return np.maximum(a, b) if isinstance(a, float) else max(a, b)


def extreme(choose: Callable[[Sequence[float]], float]) -> Callable[[Sequence[float]], float]:
    return lambda values: math.nan if any(v != v for v in values) else choose(values)


SCALARS: dict[str, Callable[..., Scalar]] = {
    "or": lambda a, b: a or b,
    "and": lambda a, b: a and b,
    "not": lambda a: not a,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "floordiv": lambda a, b: a // b if b else NO_INTEGER,
    "mod": lambda a, b: a % b if b else NO_INTEGER,
    "neg": lambda a: -a,
    "pow": lambda a, b: a**b,
    "minimum": lowest,
    "maximum": highest,
    "abs": abs,
    "sign": sign,
    "exp": np.exp,
    "log": np.log,
    "log1p": np.log1p,
    "expm1": np.expm1,
    "sqrt": np.sqrt,
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
    "erf": math.erf,
    "sigmoid": sigmoid,
    "floor": whole(math.floor),
    "ceil": whole(math.ceil),
    "round": whole(round),
    "trunc": whole(math.trunc),
    "real": lambda z: z.real,
    "imag": lambda z: z.imag,
    "conj": lambda z: z.conjugate(),
    "cplx": lambda a, b: complex(a.real, b.real),
    "to_int": whole(math.trunc),
    "to_real": lambda a: a,
    "precise": lambda a: a,
}

REDUCTIONS: dict[str, Callable[[Sequence], Scalar]] = {
    "sum": sum,
    "prod": math.prod,
    "max": extreme(max),
    "min": extreme(min),
    "lse": log_sum_exp,
}

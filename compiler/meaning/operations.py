"""What the scalar operations compute: the interpreter's column of `dsl.ops.OPS`.

Arguments come in one kind, the smallest that holds them and the result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from .partial import NO_INTEGER

Unary = Callable[[Tensor], Tensor]
Binary = Callable[[Tensor, Tensor], Tensor]


def _integer(value: Tensor) -> Tensor:
    """A whole real as an integer; NO_INTEGER for NaN and for what int64 cannot hold."""
    if not value.is_floating_point():
        return value
    exists = value.abs() < 2.0**63
    return torch.where(exists, torch.where(exists, value, 0).to(torch.int64), NO_INTEGER)


def _divided(function: Binary) -> Binary:
    """Integer division that does not trap: NO_INTEGER where the divisor is 0."""

    def divide(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(b == 0, NO_INTEGER, function(a, torch.where(b == 0, 1, b)))

    return divide


def _imaginary(value: Tensor) -> Tensor:
    return value.imag if value.is_complex() else torch.zeros_like(value)


UNARY: Mapping[str, Unary] = {
    "not": torch.logical_not,
    "neg": torch.neg,
    "abs": torch.abs,
    "sign": torch.sign,  # 0 at 0 and at NaN
    "exp": torch.exp,
    "log": torch.log,
    "log1p": torch.log1p,
    "expm1": torch.expm1,
    "sqrt": torch.sqrt,
    "sin": torch.sin,
    "cos": torch.cos,
    "tanh": torch.tanh,
    "erf": torch.erf,
    "sigmoid": torch.sigmoid,
    "floor": lambda x: _integer(x.floor()),
    "ceil": lambda x: _integer(x.ceil()),
    "round": lambda x: _integer(x.round()),  # half to even
    "trunc": lambda x: _integer(x.trunc()),
    "real": lambda z: z.real,
    "imag": _imaginary,
    "conj": lambda z: z.conj().resolve_conj(),
    "to_int": lambda x: _integer(x.trunc()),
    "to_real": lambda x: x,
    "precise": lambda x: x,
}

BINARY: Mapping[str, Binary] = {
    "or": torch.logical_or,
    "and": torch.logical_and,
    "lt": torch.lt,
    "le": torch.le,
    "gt": torch.gt,
    "ge": torch.ge,
    "eq": torch.eq,
    "ne": torch.ne,
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "floordiv": _divided(torch.floor_divide),
    "mod": _divided(torch.remainder),  # the sign of the divisor, as in Python
    "pow": torch.pow,
    "minimum": torch.minimum,  # NaN wins
    "maximum": torch.maximum,
    "cplx": lambda a, b: torch.complex(a.real, b.real),
}

OPERATIONS: Mapping[str, Callable[..., Tensor]] = {**UNARY, **BINARY}

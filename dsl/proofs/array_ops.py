# pyright: reportUnknownLambdaType=false
"""What operations and reductions are on numpy's arrays; `np` is numpy, which nothing here imports."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any


def reductions(np: Any) -> dict[str, Callable[[Any, Any], Any]]:
    """Reductions of the last dimension, absent entries left out."""

    def over(operation: Any, neutral: Any) -> Callable[[Any, Any], Any]:
        return lambda data, present: operation(np.where(present, data, neutral(data)), axis=-1)

    def lowest(data: Any) -> Any:
        return np.iinfo(data.dtype).min if data.dtype.kind == "i" else -np.inf

    def highest(data: Any) -> Any:
        return np.iinfo(data.dtype).max if data.dtype.kind == "i" else np.inf

    def lse(data: Any, present: Any) -> Any:
        return np.log(np.where(present, np.exp(data.astype(float)), 0.0).sum(-1))

    return {
        "sum": over(np.sum, lambda data: 0), "prod": over(np.prod, lambda data: 1),
        "max": over(np.max, lowest), "min": over(np.min, highest), "lse": lse,
        "count": lambda data, present: present.sum(-1), "any": over(np.any, lambda data: False),
        "all": over(np.all, lambda data: True), "argmax": over(np.argmax, lowest),
    }  # fmt: skip


def operations(np: Any) -> dict[str, Callable[..., Any]]:
    """What each scalar operation is on arrays."""

    def power(a: Any, b: Any) -> Any:
        whole = a.dtype.kind == b.dtype.kind == "i" and (b >= 0).all()
        return np.power(a, b) if whole else np.power(a.astype(np.result_type(a, float)), b)

    return {
        "or": np.logical_or, "and": np.logical_and, "not": np.logical_not,
        "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
        "eq": np.equal, "ne": np.not_equal,
        "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.true_divide,
        "floordiv": np.floor_divide, "mod": np.mod, "neg": np.negative, "pow": power,
        "minimum": np.minimum, "maximum": np.maximum, "abs": np.abs, "sign": np.sign,
        "exp": np.exp, "log": np.log, "log1p": np.log1p, "expm1": np.expm1, "sqrt": np.sqrt,
        "sin": np.sin, "cos": np.cos, "tanh": np.tanh, "erf": np.vectorize(math.erf, otypes=[float]),
        "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
        "floor": np.floor, "ceil": np.ceil, "round": np.rint, "trunc": np.trunc,
        "real": np.real, "imag": np.imag, "conj": np.conj, "cplx": lambda a, b: a + 1j * b,
        "to_int": np.trunc, "to_real": np.asarray, "precise": np.asarray,
    }  # fmt: skip

"""The scalar operations: one row each, with its kind rule and its spelling in text.

What an operation computes, its derivative, and its C++ and Triton spelling are columns that live
with the code that needs torch (`compiler/meaning/interpret.py`, `compiler/gradient/derive_rules.py`) or a target
(`backends/*/ops.py`); a test holds that no row lacks a cell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

Kind = Literal["bool", "int", "real", "complex"]
ORDER: tuple[Kind, ...] = ("bool", "int", "real", "complex")

SMOOTH: tuple[Kind, ...] = ("real", "complex")
"""The kinds that carry derivatives."""

KindRule = Callable[[tuple[Kind, ...]], "Kind | str"]
"""The kind of the result, or the sentence that says why there is none (it holds a space)."""


def join(*kinds: Kind) -> Kind:
    """The smallest kind that holds all of them."""
    return max(kinds, key=ORDER.index) if kinds else "int"


def _number(kinds: tuple[Kind, ...]) -> Kind | str:
    return "takes numbers, not truth values" if "bool" in kinds else join(*kinds)


def _real(kinds: tuple[Kind, ...]) -> Kind | str:
    return "takes numbers, not truth values" if "bool" in kinds else join(*kinds, "real")


def _ordered(kinds: tuple[Kind, ...]) -> Kind | str:
    if "bool" in kinds:
        return "takes numbers, not truth values"
    return "takes real numbers" if "complex" in kinds else join(*kinds)


def _only_real(kinds: tuple[Kind, ...]) -> Kind | str:
    kind = _ordered(kinds)
    return "real" if kind in ("int", "real") else kind


def _only_int(kinds: tuple[Kind, ...]) -> Kind | str:
    return "int" if set(kinds) == {"int"} else "takes integers"


def _compared(kinds: tuple[Kind, ...]) -> Kind | str:
    kind = _ordered(kinds)
    return "bool" if kind in ("int", "real") else kind


def _equated(kinds: tuple[Kind, ...]) -> Kind | str:
    if ("bool" in kinds) != (set(kinds) == {"bool"}):
        return "compares a truth value with a number"
    return "bool"


def _logical(kinds: tuple[Kind, ...]) -> Kind | str:
    return "bool" if set(kinds) == {"bool"} else "takes truth values"


def _rounded(kinds: tuple[Kind, ...]) -> Kind | str:
    return "int" if kinds[0] in ("int", "real") else "takes real numbers"


def _part(kinds: tuple[Kind, ...]) -> Kind | str:
    return "takes numbers, not truth values" if "bool" in kinds else "real"


def _of_parts(kinds: tuple[Kind, ...]) -> Kind | str:
    kind = _ordered(kinds)
    return "complex" if kind in ("int", "real") else kind


def _to(kind: Kind) -> KindRule:
    return lambda kinds: "takes real numbers" if "complex" in kinds else kind


@dataclass(frozen=True, slots=True)
class Op:
    """One scalar operation. `symbol` and `level` are its infix spelling (higher binds tighter)."""

    name: str
    arity: int
    rule: KindRule
    symbol: str = ""
    level: int = 0


LEVEL_OR, LEVEL_AND, LEVEL_NOT, LEVEL_COMPARE, LEVEL_SUM, LEVEL_PRODUCT, LEVEL_SIGN, LEVEL_POWER = range(1, 9)

_ROWS = (
    Op("or", 2, _logical, "|", LEVEL_OR),
    Op("and", 2, _logical, "&", LEVEL_AND),
    Op("not", 1, _logical, "~", LEVEL_NOT),
    Op("lt", 2, _compared, "<", LEVEL_COMPARE),
    Op("le", 2, _compared, "<=", LEVEL_COMPARE),
    Op("gt", 2, _compared, ">", LEVEL_COMPARE),
    Op("ge", 2, _compared, ">=", LEVEL_COMPARE),
    Op("eq", 2, _equated, "==", LEVEL_COMPARE),
    Op("ne", 2, _equated, "!=", LEVEL_COMPARE),
    Op("add", 2, _number, "+", LEVEL_SUM),
    Op("sub", 2, _number, "-", LEVEL_SUM),
    Op("mul", 2, _number, "*", LEVEL_PRODUCT),
    Op("div", 2, _real, "/", LEVEL_PRODUCT),
    Op("floordiv", 2, _only_int, "//", LEVEL_PRODUCT),
    Op("mod", 2, _only_int, "%", LEVEL_PRODUCT),
    Op("neg", 1, _number, "-", LEVEL_SIGN),
    Op("pow", 2, _real, "**", LEVEL_POWER),
    Op("minimum", 2, _ordered),
    Op("maximum", 2, _ordered),
    Op("abs", 1, _ordered),
    Op("sign", 1, _ordered),
    Op("exp", 1, _real),
    Op("log", 1, _real),
    Op("log1p", 1, _only_real),
    Op("expm1", 1, _only_real),
    Op("sqrt", 1, _real),
    Op("sin", 1, _real),
    Op("cos", 1, _real),
    Op("tanh", 1, _only_real),
    Op("erf", 1, _only_real),
    Op("sigmoid", 1, _only_real),
    Op("floor", 1, _rounded),
    Op("ceil", 1, _rounded),
    Op("round", 1, _rounded),
    Op("trunc", 1, _rounded),
    Op("real", 1, _part),
    Op("imag", 1, _part),
    Op("conj", 1, _number),
    Op("cplx", 2, _of_parts),
    Op("to_int", 1, _to("int")),
    Op("to_real", 1, _to("real")),
    Op("precise", 1, _number),
)

OPS: dict[str, Op] = {op.name: op for op in _ROWS}

REDUCTIONS = ("sum", "prod", "max", "min", "lse", "count", "any", "all", "argmax")
TOTAL_REDUCTIONS = ("count", "any", "all")
"""The reductions that exist over nothing: 0, false, true."""


@cache
def kind_of(op: str, kinds: tuple[Kind, ...]) -> Kind | str:
    """The kind of an operation on values of `kinds`, or why there is none."""
    return OPS[op].rule(kinds)


def reduce_kind(op: str, kind: Kind) -> Kind | str:
    """The kind of `op` reduced over values of `kind`, or why there is none."""
    if op in ("count", "argmax"):
        return "takes real numbers" if op == "argmax" and kind in ("bool", "complex") else "int"
    if op in ("any", "all"):
        return "bool" if kind == "bool" else "takes truth values"
    if kind == "bool":
        return "takes numbers, not truth values"
    if op in ("max", "min"):
        return "takes real numbers" if kind == "complex" else kind
    if op == "lse":
        return "takes real numbers" if kind == "complex" else "real"
    return kind

"""The Triton spelling of every scalar operation and every fold: one row each.

A template stands over {0}, {1}, which come in the kind that `takes` names (none: the common kind
of the arguments); {type} is the Triton type of the result. What Triton lacks is
a function of `library.py`, which the printer copies into the source when a template names it.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...dsl.ops import Kind


@dataclass(frozen=True, slots=True)
class Spelling:
    """`reals` computes the operation; `integers` where it is another on integers."""

    reals: str
    takes: Kind | None = None
    integers: str | None = None


def _infix(symbol: str, takes: Kind | None = None) -> Spelling:
    return Spelling(f"{{0}} {symbol} {{1}}", takes)


def _real(function: str) -> Spelling:
    return Spelling(f"{function}({{0}})", "real")


def _rounded(function: str) -> Spelling:
    """Reals become integers; integers are whole already."""
    return Spelling(f"to_integer({function}({{0}}))", None, "{0}")


SPELLINGS: dict[str, Spelling] = {
    "or": _infix("|", "bool"),
    "and": _infix("&", "bool"),
    "not": Spelling("~{0}", "bool"),
    "lt": _infix("<"),
    "le": _infix("<="),
    "gt": _infix(">"),
    "ge": _infix(">="),
    "eq": _infix("=="),
    "ne": _infix("!="),
    "add": _infix("+"),
    "sub": _infix("-"),
    "mul": _infix("*"),
    "div": _infix("/", "real"),
    "floordiv": Spelling("floor_divide({0}, {1})", "int"),
    "mod": Spelling("floor_remainder({0}, {1})", "int"),
    "neg": Spelling("-{0}"),
    "pow": Spelling("power({0}, {1})", None, "integer_power({0}, {1})"),
    "minimum": Spelling("smaller({0}, {1})", None, "tl.minimum({0}, {1})"),
    "maximum": Spelling("larger({0}, {1})", None, "tl.maximum({0}, {1})"),
    "abs": Spelling("tl.abs({0})"),
    "sign": Spelling("({0} > 0).to({type}) - ({0} < 0).to({type})"),
    "exp": _real("exponential"),
    "log": _real("tl.log"),
    "log1p": _real("log_one_plus"),
    "expm1": _real("exp_minus_one"),
    "sqrt": _real("square_root"),
    "sin": _real("tl.sin"),
    "cos": _real("tl.cos"),
    "tanh": _real("hyperbolic_tangent"),
    "erf": _real("tl.erf"),
    "sigmoid": Spelling("1.0 / (1.0 + tl.exp(-{0}))", "real"),
    "floor": _rounded("tl.floor"),
    "ceil": _rounded("tl.ceil"),
    "round": _rounded("round_even"),
    "trunc": _rounded("truncate"),
    "to_int": _rounded("truncate"),
    "to_real": Spelling("{0}", "real"),
    "precise": Spelling("{0}"),
    "real": Spelling("{0}", "real"),
    "conj": Spelling("{0}"),
}

WITHOUT_KERNEL = ("imag", "cplx")
"""Operations of complex numbers have no row: kernels hold no complex values."""

LOWEST, HIGHEST = -(2**63), 2**63 - 1

IDENTITY: dict[str, dict[Kind, bool | int | float]] = {
    "sum": {"real": 0.0, "int": 0},
    "prod": {"real": 1.0, "int": 1},
    "max": {"real": float("-inf"), "int": LOWEST},
    "min": {"real": float("inf"), "int": HIGHEST},
    "any": {"bool": False},
    "all": {"bool": True},
}
"""What a fold over nothing is."""

FOLDS: dict[str, Spelling] = {
    "sum": Spelling("tl.sum({0}, {1})"),
    "prod": Spelling("fold_prod({0}, {1})"),
    "max": Spelling("fold_max({0}, {1})", integers="tl.max({0}, {1})"),
    "min": Spelling("fold_min({0}, {1})", integers="tl.min({0}, {1})"),
    "any": Spelling("fold_any({0}, {1})", "bool"),
    "all": Spelling("fold_all({0}, {1})", "bool"),
}
"""A fold of the block {0} along its dimension {1}."""

"""The C++ spelling of every scalar operation: one row each, as scalar and over a vector of lanes.

A row is a pair of templates over {0}, {1}; the arguments already have the kind named in the third
place ("join": the common kind of the arguments; else that kind). `{L}` is `` or `i` by kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...dsl.ops import Kind

ArgumentKind = Literal["join", "real", "int", "bool", "same"]


@dataclass(frozen=True, slots=True)
class Spelling:
    """`scalar` and `lanes` compute the operation; `takes` is the kind that arguments come in."""

    scalar: str
    lanes: str
    takes: ArgumentKind = "join"
    integers: str | None = None
    """The scalar and lane spelling on integers, where it is another."""


def _infix(symbol: str, takes: ArgumentKind = "join") -> Spelling:
    return Spelling(f"({{0}} {symbol} {{1}})", f"({{0}} {symbol} {{1}})", takes)


def _call(scalar: str, lanes: str) -> Spelling:
    return Spelling(f"libm::{scalar}({{0}})", f"{lanes}({{0}})", "real")


SPELLINGS: dict[str, Spelling] = {
    "or": _infix("|", "bool"),
    "and": _infix("&", "bool"),
    "not": Spelling("(!{0})", "(~{0})", "bool"),
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
    "floordiv": Spelling("floordiv({0}, {1})", "floordiv({0}, {1})", "int"),
    "mod": Spelling("floormod({0}, {1})", "floormod({0}, {1})", "int"),
    "neg": Spelling("(-{0})", "(-{0})"),
    "pow": Spelling("libm::pow({0}, {1})", "vpow({0}, {1})", "real"),
    "minimum": Spelling("smin({0}, {1})", "vmin({0}, {1})", "join", "vmini({0}, {1})"),
    "maximum": Spelling("smax({0}, {1})", "vmax({0}, {1})", "join", "vmaxi({0}, {1})"),
    "abs": Spelling("sabs({0})", "vabs({0})", "join", "({0} < 0 ? -{0} : {0})"),
    "sign": Spelling(
        "ssign({0})", "vsign({0})", "join", "({0} > 0 ? alli(1) : ({0} < 0 ? alli(-1) : ivec{{}}))"
    ),
    "exp": _call("exp", "vexp"),
    "log": _call("log", "vlog"),
    "log1p": _call("log1p", "vlog1p"),
    "expm1": _call("expm1", "vexpm1"),
    "sqrt": _call("sqrt", "vsqrt"),
    "sin": _call("sin", "vsin"),
    "cos": _call("cos", "vcos"),
    "tanh": _call("tanh", "vtanh"),
    "erf": _call("erf", "verf"),
    "sigmoid": Spelling("ssigmoid({0})", "vsigmoid({0})", "real"),
    "floor": Spelling("::whole(libm::floor({0}))", "vwhole(vfloor({0}))", "real"),
    "ceil": Spelling("::whole(libm::ceil({0}))", "vwhole(vceil({0}))", "real"),
    "round": Spelling("::whole(libm::nearbyint({0}))", "vwhole(vround({0}))", "real"),
    "trunc": Spelling("::whole(libm::trunc({0}))", "vwhole(vtrunc({0}))", "real"),
    "to_int": Spelling("(long)({0})", "__builtin_convertvector({0}, ivec)", "same"),
    "to_real": Spelling("(real)({0})", "to_real({0})", "same"),
    "precise": Spelling("{0}", "{0}"),
    "real": Spelling("{0}", "{0}", "real"),
    "conj": Spelling("{0}", "{0}"),
}
"""Operations of complex numbers (imag, cplx) have no row: kernels hold no complex values yet."""

WITHOUT_KERNEL = ("imag", "cplx")

IDENTITY: dict[str, dict[Kind, str]] = {
    "sum": {"real": "0", "int": "0"},
    "prod": {"real": "1", "int": "1"},
    "max": {"real": "-INFINITY", "int": "LONG_MIN"},
    "min": {"real": "INFINITY", "int": "LONG_MAX"},
    "any": {"bool": "false"},
    "all": {"bool": "true"},
}
"""What a fold over nothing is."""

LANE_IDENTITY: dict[str, dict[Kind, str]] = dict(IDENTITY)
LANE_IDENTITY["max"] = {"real": "-INFINITY", "int": "LOWEST"}
LANE_IDENTITY["min"] = {"real": "INFINITY", "int": "HIGHEST"}
"""The same in lanes, whose integers may be narrower."""

FOLDS: dict[str, str] = {
    "sum": "add",
    "prod": "mul",
    "max": "maximum",
    "min": "minimum",
    "any": "or",
    "all": "and",
}
"""The operation that a fold repeats."""

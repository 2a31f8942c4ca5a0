"""A stream's `visible` predicate printed a second time, over intervals: is it true on none, some or
all of a tile? Whatever is not integer arithmetic on coordinates and sizes counts as SOME."""

from __future__ import annotations

from collections.abc import Mapping

from ...compiler.kernels.kernel import Let, Operand

_ARITHMETIC = {
    "add": "iadd", "sub": "isub", "mul": "imul", "floordiv": "idiv", "mod": "imod",
    "minimum": "imin", "maximum": "imax", "neg": "ineg", "abs": "iabs",
}  # fmt: skip


def classify(predicate: Operand, lets: Mapping[str, Let], ranges: Mapping[str, str]) -> str:
    """The C++ expression of type `part`. `ranges` gives each coordinate and scalar as a `span`."""
    match predicate:
        case bool():
            return "ALL" if predicate else "NONE"
        case str() if predicate.endswith(".valid"):
            return "ALL"  # a class speaks of the coordinates that exist
        case str() if predicate in lets:
            return _classify_let(lets[predicate], lets, ranges)
        case _:
            return "SOME"


def _classify_let(let: Let, lets: Mapping[str, Let], ranges: Mapping[str, str]) -> str:
    match let.op:
        case "and" | "or":
            parts = [classify(arg, lets, ranges) for arg in let.args]
            return f"{'both' if let.op == 'and' else 'either'}({parts[0]}, {parts[1]})"
        case "not":
            return f"opposite({classify(let.args[0], lets, ranges)})"
        case "lt" | "le" | "gt" | "ge" | "eq" | "ne":
            spans = [_interval(arg, lets, ranges) for arg in let.args]
            if None in spans:
                return "SOME"
            a, b = spans
            if let.op in ("gt", "ge"):
                a, b = b, a
            name = {"gt": "lt", "ge": "le", "ne": "eq"}.get(let.op, let.op)
            text = f"{name}({a}, {b})"
            return f"opposite({text})" if let.op == "ne" else text
        case _:
            return "SOME"


def _interval(operand: Operand, lets: Mapping[str, Let], ranges: Mapping[str, str]) -> str | None:
    match operand:
        case bool() | float():
            return None
        case int():
            return f"point({operand})"
        case str() if operand in ranges:
            return ranges[operand]
        case str() if operand in lets and lets[operand].kind == "int":
            return _interval_let(lets[operand], lets, ranges)
        case _:
            return None


def _interval_let(let: Let, lets: Mapping[str, Let], ranges: Mapping[str, str]) -> str | None:
    args = [_interval(arg, lets, ranges) for arg in let.args]
    if let.op == "pow" and args[0] is not None:
        power = let.args[1]
        if power == 2:
            return f"isquare({args[0]})"
        return args[0] if power == 1 else None
    if None in args or let.op not in _ARITHMETIC:
        return None
    if let.op == "mul" and let.args[0] == let.args[1]:
        return f"isquare({args[0]})"
    return f"{_ARITHMETIC[let.op]}({', '.join(arg for arg in args if arg is not None)})"

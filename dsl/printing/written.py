"""How an author wrote a constant, `radius * radius`, read back and held against its value.

The spelling is Python's and the text's at once; it is parsed, never executed, and used only where
computing it gives the very constant.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from ..constructors.build import apply
from ..errors import PlaitError
from ..ops import Kind
from ..program import Const, Form, Map, map_kind

LONGEST = 100
"""A longer spelling is not looked at."""

_OPERATORS: Mapping[type[ast.AST], str] = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div", ast.FloorDiv: "floordiv",
    ast.Mod: "mod", ast.Pow: "pow", ast.USub: "neg", ast.Invert: "not", ast.BitAnd: "and", ast.BitOr: "or",
    ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge", ast.Eq: "eq", ast.NotEq: "ne",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Known:
    """A word of a spelling: its form as it prints, and its value."""

    form: Form
    value: Const


def reading(const: Const, words: Mapping[str, Known]) -> Form | None:
    """The operations that the author wrote, unfolded; None where they do not make the constant.

    `words` are the static arguments by name and the known sizes as `size(c)`.
    """
    text = const.written
    if text is None or len(text) > LONGEST:
        return None
    try:
        found = _read(ast.parse(text, mode="eval").body, words)
    except (SyntaxError, ValueError, RecursionError, MemoryError, PlaitError):
        return None
    return found.form if found is not None and found.value == const else None


def difference(const: Const) -> str | None:
    """What `lowest` was taken from in `stop - lowest`: the spelling of `stop`."""
    if const.written is None or len(const.written) > LONGEST:
        return None
    try:
        match ast.parse(const.written, mode="eval").body:
            case ast.BinOp(left=left, op=ast.Sub()):
                return ast.unparse(left)
            case _:
                return None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def opposite(const: Const) -> str | None:
    """What stands behind the sign in `-radius`."""
    if const.written is None or len(const.written) > LONGEST:
        return None
    try:
        match ast.parse(const.written, mode="eval").body:
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return ast.unparse(operand)
            case _:
                return None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _read(node: ast.AST, words: Mapping[str, Known]) -> Known | None:
    match node:
        case ast.Constant(value=bool() | int() | float() | complex() as value):
            const = Const(value)
            return Known(const, const)
        case ast.Name(id=name):
            return words.get(name)
        case ast.Call(func=ast.Name(id="size"), args=[ast.Name(id=name)]):
            return words.get(f"size({name})")
        case ast.UnaryOp(op=op, operand=operand):
            return _applied(op, (operand,), words)
        case ast.BinOp(left=left, op=op, right=right):
            return _applied(op, (left, right), words)
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return _applied(op, (left, right), words)
        case _:
            return None


def _applied(op: ast.AST, operands: tuple[ast.AST, ...], words: Mapping[str, Known]) -> Known | None:
    name = _OPERATORS.get(type(op))
    parts = [_read(operand, words) for operand in operands]
    known = [part for part in parts if part is not None]
    if name is None or len(known) < len(parts):
        return None
    value = apply(name, *(part.value for part in known))
    if not isinstance(value, Const):
        return None
    if name == "neg" and isinstance(known[0].form, Const) and known[0].form.written is None:
        plain = Const(value.value)
        return Known(plain, plain)
    forms = tuple(part.form for part in known)
    if map_kind(name, forms) not in get_args(
        Kind
    ):  # a power that is not folded is real: no divisor of integers
        return None
    return Known(Map(name, forms), Const(value.value))

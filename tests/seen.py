"""What a program is made of, as words: each form, each operation and reduction by the kind that it takes, each role of
a tensor, each way of an axis, each word of its text, and each part that is not as it is by default.

`everything()` are the words that there are. They come from the tables of the language alone, so that what is new
there is missed by who does not draw it (`test_drawn.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from typing import Any, get_args

from plait.dsl.ops import OPS, ORDER, REDUCTIONS, Kind, join, kind_of, reduce_kind
from plait.dsl.printing.show import show
from plait.dsl.program import (
    BATCH,
    At,
    Declaration,
    Form,
    How,
    Leaf,
    Map,
    Otherwise,
    Place,
    Program,
    Reduce,
    Role,
    When,
)
from plait.dsl.words import CALLS, RESERVED

SHAPES = ("one axis", "several axes", "a union", "...")
"""What a reduction may run over."""

PARTIAL = (When, Otherwise, At, Place)
"""Forms that take values of every kind, but for sums of truth values."""

COSMETIC = ("span", "doc")
"""Parts of a program, and of the declaration of a tensor, that mean nothing."""


def everything() -> set[str]:
    """Every word of the language."""
    words = {each.__name__ for each in Form.__subclasses__()}
    maps = [(op, kind) for op in OPS for kind in ORDER if " " not in kind_of(op, (kind,) * OPS[op].arity)]
    folds = [(op, kind) for op in REDUCTIONS for kind in ORDER if " " not in reduce_kind(op, kind)]
    words |= {f"{op} of {kind}" for op, kind in maps}
    words |= {f"{op} of {kind} over {shape}" for op, kind in folds for shape in SHAPES}
    words |= {f"axis by {how}" for how in get_args(How)}
    words |= {f"{kind} {role}" for role in get_args(Role) for kind in ORDER}
    words |= {f"{kind} {each.__name__}" for each in PARTIAL for kind in ORDER} - {"bool Place"}
    words |= {"index input", *(f"`{word}`" for word in CALLS | RESERVED)}
    words |= {f"{each.name} of a tensor" for each in parts(Declaration)}
    return words | {f"{each.name} of a program" for each in parts(Program)}


def parts(kind: type) -> Iterator[Field[Any]]:
    """The fields that have a default and mean something."""
    for each in fields(kind):
        if each.name not in COSMETIC and (each.default is not MISSING or each.default_factory is not MISSING):
            yield each


def seen(program: Program) -> set[str]:
    """The words that a program holds."""
    words: set[str] = set()
    for form in program.forms:
        words |= {type(form).__name__, *(f"axis by {axis.how}" for axis in form.axes)}
        match form:
            case Map(op=op, args=args):
                kinds: list[Kind] = [arg.kind for arg in args]
                words.add(f"{op} of {join(*kinds)}")
            case Reduce(op=op, pieces=pieces):
                kinds = [piece.value.kind for piece in pieces]
                words |= {f"{op} of {join(*kinds)} over {shape}" for shape in shapes(form)}
            case Leaf(role=role, declared=kind, ranges_over=axis):
                words.add(f"{kind} {role}" if axis is None else "index input")
            case When() | Otherwise() | At() | Place():
                words.add(f"{form.kind} {type(form).__name__}")
            case _:
                pass
    known = CALLS | RESERVED
    words |= {f"`{word}`" for word in re.findall(r"[a-z_][a-z_0-9]*", show(program)) if word in known}
    owned = [("tensor", each) for each in program.declarations]
    for owner, what in (("program", program), *owned):
        for each in parts(type(what)):
            if getattr(what, each.name) != each.default:
                words.add(f"{each.name} of a {owner}")
    return words


def shapes(form: Reduce) -> Iterator[str]:
    """What a reduction runs over."""
    (first, *more) = form.pieces
    if more:
        yield "a union"
    if any(BATCH in piece.axes for piece in form.pieces):
        yield "..."
    if len(first.axes) == 1 and not more:
        yield "one axis"
    if any(len(piece.axes) > 1 for piece in form.pieces):
        yield "several axes"

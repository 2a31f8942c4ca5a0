"""Sums over queries and keys together, taken apart: the keys stream, the sums of all queries are stored.

    sum[t, s](w) -> sum[t](sum[s](w))         w with contractions in every entry, as in `sum_family`

So the gradient of a temperature, which is one number a head, needs no scores in memory: what is stored has
one number a query. Over which axes keys pass is read off the other streaming sums of the program.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..dsl.program import Axis, Form, Piece, Program, Reduce
from .attention_family import Attention, match_attention
from .conditions import Conditions, optional_leaves
from .rewrite import spread
from .simplify import Rewriter, rewrite_program
from .sum_family import StreamedSum, match_sum


def split_sums(program: Program) -> Program:
    """The program with sums taken apart where the inner one then streams."""
    domains = tuple(dict.fromkeys(_domains(program)))
    if not domains:
        return program

    def rule(form: Form, _conditions: Conditions) -> Form | None:
        """sum[t, s](w) -> sum[t](sum[s](w))"""
        return _split(form, domains)

    return rewrite_program(program, Rewriter({Reduce: (rule,)}, Conditions(optional_leaves(program))))


def _domains(program: Program) -> Iterator[tuple[Axis, ...]]:
    """The axes that keys pass over."""
    for form in program.forms:
        streams = isinstance(match_sum(form), StreamedSum) or isinstance(match_attention(form), Attention)
        if isinstance(form, Reduce) and len(form.pieces) == 1 and streams:
            yield form.pieces[0].axes


def _split(form: Form, domains: tuple[tuple[Axis, ...], ...]) -> Form | None:
    if not isinstance(form, Reduce) or form.op != "sum" or len(form.pieces) != 1:
        return None
    piece = form.pieces[0]
    if isinstance(match_sum(form), StreamedSum):
        return None
    for keys in domains:
        rest = tuple(axis for axis in piece.axes if axis not in keys)
        if not rest or len(rest) + len(keys) != len(piece.axes):
            continue
        inner = Reduce("sum", (Piece(spread(piece.value, keys), keys),), span=form.span)
        if isinstance(match_sum(inner), StreamedSum):
            return Reduce("sum", (Piece(spread(inner, rest), rest),), span=form.span)
    return None

"""Reductions inside the entries of a stream that are no contraction of a query with a key.

    sum[d](a[d] * tanh(q[t, d] + k[s, d]))      sum[d]((q[t, d] - k[s, d])**2)
    sum[d](q[t, d] * (k[s, d] + table[clamp(t - s, 0, 31), d]))

Each has one entry a pair, made of values that have one entry a query, one a key, or one a distance. So it is
taken where the entry is, over its axes one by one, and nothing over pairs is stored. It is summed as it is written:
(q - k)**2 as q*q - 2*q*k + k*k would lose what two near values differ by.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ...dsl.program import AsIf, At, Axis, Form, Leaf, Map, OnGradient, Otherwise, Reduce, When, walk
from .contraction import factors_of, is_of_parameters

FOLDED = ("sum", "max", "min", "prod", "lse")


def below(form: Form) -> tuple[Form, ...]:
    """The operands of what is pointwise in them."""
    match form:
        case Map(args=args):
            return args
        case When(predicate=p, value=x):
            return (p, x)
        case Otherwise(value=x, fallback=y):
            return (x, y)
        case AsIf(value=x) | OnGradient(value=x):
            return (x,)
        case _:
            return ()


def is_fold(form: Form, over: Collection[Axis]) -> bool:
    """Whether a value is a reduction with one entry a pair, of values none of which has so many: one is of the
    queries alone, and something in it is made of queries and keys together. A sum of products of the one with the
    other is no fold: it is a contraction, or the sum of what has few entries."""
    if not isinstance(form, Reduce) or form.op not in FOLDED or form.kind != "real":
        return False
    own, keys = set(form.axes), set(over)
    read = [each for piece in form.pieces for each in reads(piece.value)]
    if not keys < own or any(isinstance(each, Reduce) and keys & set(each.axes) for each in read):
        return False
    tensors = [each for each in read if not is_of_parameters(each)]
    if any(own <= set(each.axes) and not is_mixed(each, keys) for each in tensors):
        return False
    if not any(set(each.axes) & own and not keys & set(each.axes) for each in tensors):
        return False
    return any(_together(each, keys) for piece in form.pieces for each in _parts(form, piece.value))


def _parts(form: Reduce, value: Form) -> tuple[Form, ...]:
    """What a reduction takes together: the factors of a sum of products, or all of it."""
    while isinstance(value, When):
        value = value.value
    return factors_of(value) if form.op == "sum" else (value,)


def _together(form: Form, keys: set[Axis]) -> bool:
    """Whether a value is made of queries and keys, or read where both move an index."""
    found = list(reads(form))
    tensors = [bool(keys & set(each.axes)) for each in found if not is_of_parameters(each)]
    return any(is_mixed(each, keys) for each in found) or (any(tensors) and not all(tensors))


def reads(form: Form) -> Iterator[Form]:
    """What a pointwise value is made of: reads, leaves and reductions."""
    return (each for each in walk((form,), below) if isinstance(each, At | Leaf | Reduce))


def of_keys(forms: Collection[Form], over: Collection[Axis]) -> Iterator[Form]:
    """The reads of folds and entries that move with the keys."""
    pieces = [[p.value for p in each.pieces] if isinstance(each, Reduce) else [each] for each in forms]
    return (each for values in pieces for value in values for each in reads(value) if {*each.axes} & {*over})


def is_mixed(form: Form, keys: set[Axis]) -> bool:
    """Whether a read has an index that keys and queries move together."""
    return isinstance(form, At) and any(
        keys & set(index.axes) and set(index.axes) - keys for _, index in form.indices
    )


def of_pairs(value: Form, over: set[Axis]) -> bool:
    """Whether a value differs from query to query at the same key: it is no tensor to be read in place."""
    found = list(reads(value))
    queries = any(not over & set(each.axes) and not is_of_parameters(each) for each in found)
    return any(is_mixed(each, over) for each in found) or queries

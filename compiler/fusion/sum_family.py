"""Recognise reductions that stream past their queries with contractions of their own in every entry.

    sum[J](w * v + ...)    sum[J](w)    lse[J](w)

    w       any pointwise value of sums[d](q * k), predicates and statistics
    q       read at the queries (axes of the result that lie in the lanes)
    k, v    tensors read at the keys J, solved as in `attention_family`; v has the result's last axis
    statistics   values with one entry a query, or one a key: stored, and read where they are; what has one
                 entry a pair (a mask or a bias as data) is read entry by entry

The gradients of attention in queries, keys and values are such sums: the keys of one are the queries of the
other. Nothing over queries and keys together is ever in memory. A contraction with weights only (a linear
map) is no reason to stream: its result is not larger than a layer's, and storing it costs less than
computing it in every reader. Nor is one that streams itself (the state of an iterated attention, the
gradient that goes back into one): it is stored, and what is made of it reads it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from ...dsl.program import (
    AsIf,
    At,
    Axis,
    Coordinate,
    Form,
    Leaf,
    Map,
    OnGradient,
    Reduce,
    When,
    walk,
)
from ..rewrites.residues import Classes
from .contraction import factors_of, is_of_parameters, product
from .folds import below, is_fold, is_mixed, of_keys, of_pairs, reads
from .key_classes import placed_by, settled
from .keys import Key, Side, Unfit, depends, indices_of, key_and_query, peel, read_of, side_of, solve


@dataclass(frozen=True, slots=True)
class Inner:
    """A contraction inside an entry: the sum over `channels` of a read of the keys times the query."""

    form: Reduce
    query: Form
    key: Side
    channels: tuple[Axis, ...]


@dataclass(frozen=True, slots=True)
class StreamedSum:
    """A match: the entries of `root` are the sum of `weights`, each times its value if there are `values`,
    under `predicates`. `folds` are reductions that are no contraction of a query with a key, and `met` what these
    read of the keys. `statistics` are the reads of the keys in the weights. The axes of the result are
    shared with the keys (batch), of queries (lanes), and of values only (outputs). Those of `classes` are taken
    class by class."""

    root: Reduce
    keys: tuple[Key, ...]
    predicates: tuple[Form, ...]
    weights: tuple[Form, ...]
    inner: tuple[Inner, ...]
    folds: tuple[Reduce, ...]
    met: tuple[Side, ...]
    statistics: tuple[tuple[Form, Side], ...]
    values: tuple[Side, ...]
    batch: tuple[Axis, ...]
    lanes: tuple[Axis, ...]
    outputs: tuple[Axis, ...]
    classes: Mapping[Axis, Classes] = field(default_factory=dict[Axis, Classes])

    @property
    def wide(self) -> bool:
        """Whether an entry differs along the outputs by more than a value of its key."""
        return bool(self.outputs) and not self.values

    @property
    def channels(self) -> tuple[Axis, ...]:
        return tuple(dict.fromkeys(axis for each in self.inner for axis in each.channels))


def runs_along_the_result(match: StreamedSum) -> bool:
    """Whether nothing but products is made of contractions over an axis of the result, read elsewhere there, as in
    sum[d](q[t, d] * sum[s](k[t: s] * v[t: s])): what they give is what all t share, and is better stored than kept for
    all t in a tile."""
    own, channels = set(match.root.axes), set(match.channels)
    plain = not any(part for weight in match.weights for part in _not_linear(weight))
    return plain and any(
        axis in own and channels & set(index.axes) and index != Coordinate(axis)
        for each in match.inner
        for axis, index in each.key.indices.items()
    )


def match_sum(form: Form) -> StreamedSum | str:
    """The match of a reduction, or the reason that there is none ("" where no entry has a contraction)."""
    try:
        return _match(form)
    except Unfit as reason:
        return str(reason)


def _match(form: Form) -> StreamedSum:
    if not isinstance(form, Reduce) or form.op not in ("sum", "lse") or form.kind != "real":
        raise Unfit("")
    if len(form.pieces) != 1:
        raise Unfit("")
    over = frozenset(form.pieces[0].axes)
    masks, body = peel(form.pieces[0].value)
    found = [_apart(each, form.axes, over) for each in _terms(body)] if form.op == "sum" else []
    values = tuple(value for value, _ in found if value is not None)
    if len(values) < len(found) or not found:
        return _matched(form, masks, (body,), ())
    try:
        return _matched(form, masks, tuple(weight for _, weight in found), values)
    except Unfit:
        if not any(of_pairs(value, set(over)) for value in values):
            raise
        return _matched(form, masks, (body,), ())


def _matched(
    form: Reduce, masks: tuple[Form, ...], weights: tuple[Form, ...], values: tuple[Form, ...]
) -> StreamedSum:
    """The match with these weights, each times its value, or with whole entries if there are none."""
    piece = form.pieces[0]
    over = frozenset(piece.axes)
    atoms = tuple(_atoms((*weights, *masks), over))
    pairs = _consistent(piece.axes, tuple(_pairs((*weights, *masks), over)), values)
    folds = _folds(atoms, [dot for dot, _, _ in pairs], over)
    if not pairs and not folds:
        raise Unfit("")
    keys = solve(piece.axes, [*(key for _, _, key in pairs), *values], whole=not folds)
    inner = tuple(
        Inner(dot, query, side_of(key, keys, set(over)), dot.pieces[0].axes) for dot, query, key in pairs
    )
    computed = {*(each.form for each in inner), *folds}
    read = ((each, read_of(each, keys, over)) for each in atoms if each not in computed)
    met = tuple(side for each in of_keys(folds, over) if (side := read_of(each, keys, over)) is not None)
    sides = tuple(side_of(value, keys, set(over)) for value in values)
    lanes = set(form.axes).difference(*(depends(each, keys) for each in (*(i.key for i in inner), *sides)))
    statistics = _statistics(read, keys, lanes)
    predicates = tuple(dict.fromkeys((*masks, *(p for weight in weights for p in _predicates(weight)))))
    made = StreamedSum(form, keys, predicates, weights, inner, folds, met, statistics, sides, (), (), ())
    made = _roles(made)
    if folds and not inner and not made.outputs and not set(made.lanes) & _plainly(folds, over):
        raise Unfit("")  # distances lie in the lanes, and no query does
    return made


def _plainly(folds: tuple[Reduce, ...], over: frozenset[Axis]) -> set[Axis]:
    """The axes that folds read something at, other than at an index that keys and queries move together."""
    found = (each for fold in folds for piece in fold.pieces for each in reads(piece.value))
    return {axis for each in found if not is_mixed(each, set(over)) for axis in each.axes}


def _terms(form: Form) -> tuple[Form, ...]:
    """The terms of a sum, left to right; what is subtracted is negative."""
    match form:
        case Map(op="add", args=(a, b)):
            return (*_terms(a), *_terms(b))
        case Map(op="sub", args=(a, b)):
            return (*_terms(a), *(Map("neg", (each,)) for each in _terms(b)))
        case _:
            return (form,)


def _apart(term: Form, axes: tuple[Axis, ...], over: frozenset[Axis]) -> tuple[Form | None, Form]:
    """The factor that has an axis of the result for itself and moves with the keys, and all others."""
    if isinstance(term, Map) and term.op == "neg":
        value, weight = _apart(term.args[0], axes, over)
        return value, Map("neg", (weight,))
    parts = factors_of(term)
    for place, each in enumerate(parts):
        others = [*parts[:place], *parts[place + 1 :]]
        own = set(each.axes) & set(axes) - {axis for other in others for axis in other.axes}
        if own and set(each.axes) & over and others and not _scored(each, over):
            return each, product(others)
    return None, term


def _scored(form: Form, over: frozenset[Axis]) -> bool:
    """Whether a value holds contractions or folds with one entry a pair."""
    return any(_pairs((form,), over)) or any(is_fold(each, over) for each in _atoms((form,), over))


def _atoms(roots: tuple[Form, ...], over: Collection[Axis]) -> Iterator[Form]:
    """What a pointwise value is made of that moves with the keys: reductions and reads."""
    for each in walk(roots, below):
        if isinstance(each, Reduce | At | Leaf) and set(each.axes) & set(over):
            yield each


def _pairs(roots: tuple[Form, ...], over: frozenset[Axis]) -> Iterator[tuple[Reduce, Form, Form]]:
    """The contractions of a pointwise value, each with its query and its key."""
    found = (_inner(each, over) for each in _atoms(roots, over) if isinstance(each, Reduce))
    return (each for each in found if each is not None)


def _inner(form: Reduce, over: frozenset[Axis]) -> tuple[Reduce, Form, Form] | None:
    """The contraction with its query and its key, if that is what it is. A sum that has no axis of the
    queries is one number a key; one that pairs nothing is stored, and so is one that streams. What has one entry a
    pair is no key."""
    if form.op != "sum" or len(form.pieces) != 1 or _streams_anyway(form):
        return None
    try:
        query, key, channels = key_and_query(form, set(over))
    except Unfit:
        return None
    if key not in reads(key) and of_pairs(key, set(over)):
        return None
    shared = {a for index in indices_of(key).values() if not over & set(index.axes) for a in index.axes}
    own = set(query.axes) - shared - set(channels)
    return (form, query, key) if own and not is_of_parameters(query) and not is_of_parameters(key) else None


def _consistent(
    axes: tuple[Axis, ...], pairs: tuple[tuple[Reduce, Form, Form], ...], values: tuple[Form, ...]
) -> tuple[tuple[Reduce, Form, Form], ...]:
    """The contractions whose keys are read where those of the first ones and the values are."""
    kept: list[tuple[Reduce, Form, Form]] = []
    for pair in pairs:
        try:
            solve(axes, [*(key for _, _, key in kept), pair[2], *values], whole=False)
        except Unfit:
            if not is_fold(pair[0], axes):
                raise
            continue
        if any(is_mixed(each, set(axes)) for each in reads(pair[2]) if each != pair[2]):
            continue
        kept.append(pair)
    return tuple(kept)


def _folds(atoms: tuple[Form, ...], pairs: list[Reduce], over: frozenset[Axis]) -> tuple[Reduce, ...]:
    """The reductions with one entry a pair, all of whose axes they have, that are no contraction of `pairs`."""
    found = [each for each in atoms if isinstance(each, Reduce) and each not in pairs and is_fold(each, over)]
    whole = {axis for each in (*found, *pairs) for axis in each.axes}
    return tuple(each for each in found if whole <= set(each.axes) and not _streams_anyway(each))


@lru_cache(maxsize=4096)
def _streams_anyway(form: Reduce) -> bool:
    """Whether something that is not linear is made of the contractions in the entries of a sum: no order of
    summation spares computing all of them."""
    return any(
        any(_pairs((part,), frozenset(piece.axes)))
        for piece in form.pieces
        for part in _not_linear(peel(piece.value)[1])
    )


def _not_linear(form: Form) -> Iterator[Form]:
    """The parts of an entry that are no sums and products of reductions, reads and leaves."""
    stack = [form]
    while stack:
        match stack.pop():
            case Map(op="add" | "sub" | "mul" | "neg", args=args):
                stack += args
            case Reduce() | At() | Leaf():
                pass
            case part:
                yield part


def _statistics(
    read: Iterable[tuple[Form, Side | None]], keys: tuple[Key, ...], lanes: set[Axis]
) -> tuple[tuple[Form, Side], ...]:
    """The reads that have one entry a key, for some of the queries perhaps, if something is left in the lanes
    without these; what is none is loaded entry by entry."""
    sides = [(each, side) for each, side in read if side is not None]
    found = tuple((each, side) for each, side in sides if not lanes <= depends(side, keys))
    if lanes.difference(*(depends(side, keys) for _, side in found)):
        return found
    return tuple((each, side) for each, side in found if not lanes & depends(side, keys))


def _predicates(weight: Form) -> Iterator[Form]:
    """The predicates without which an entry is absent: those under nothing but strict operations."""

    def strict(form: Form) -> tuple[Form, ...]:
        match form:
            case Map(args=args):
                return args
            case When(value=x) | AsIf(value=x) | OnGradient(value=x):
                return (x,)
            case _:
                return ()

    return (each.predicate for each in walk((weight,), strict) if isinstance(each, When))


def _roles(match: StreamedSum) -> StreamedSum:
    root, keys = match.root, match.keys
    sides = [*(each.key for each in match.inner), *match.met, *(each for _, each in match.statistics)]
    of_values = {axis for each in match.values for axis in depends(each, keys)}
    scored = {axis for each in (*match.weights, *match.predicates) for axis in each.axes}
    outputs = tuple(axis for axis in root.axes if axis in of_values and axis not in scored)
    if not match.values:
        outputs = _of_entries(match)
        scored -= set(outputs)
    channels = set(match.channels)
    shared = {axis for each in sides for axis in depends(each, keys)} - channels
    shared |= of_values - set(outputs)
    batch = tuple(axis for axis in root.axes if axis in shared and axis not in outputs)
    lanes = tuple(axis for axis in root.axes if axis not in batch and axis not in outputs)
    if not lanes:
        raise Unfit("every axis of the queries is also one of the keys: nothing lies in the lanes")
    if channels & {*lanes, *batch} or channels & scored:
        raise Unfit("an axis is a channel of one contraction, and not of another")
    if any(not set(outputs) & depends(each, keys) for each in match.values):
        raise Unfit("the values have no axis of their own")
    ((keys, predicates),), classes = settled([(keys, match.predicates)], lanes)
    placed_by(root, classes, keys)
    return replace(
        match, keys=keys, predicates=predicates, batch=batch, lanes=lanes, outputs=outputs, classes=classes
    )


def _of_entries(match: StreamedSum) -> tuple[Axis, ...]:
    """The one axis of the result that no score has, if there is one: entries differ along it by what meets them."""
    scored = {axis for each in (*match.inner, *match.folds) for axis in _form(each).axes}
    apart = tuple(axis for axis in match.root.axes if axis not in scored)
    masked = {axis for each in match.predicates for axis in each.axes}
    return apart if len(apart) == 1 and not masked & set(apart) else ()


def _form(each: Inner | Reduce) -> Reduce:
    return each.form if isinstance(each, Inner) else each


def sums_store(match: StreamedSum) -> tuple[Form, ...]:
    """The values that the stream reads in place, so they must be tensors."""
    sides = [*(each.key for each in match.inner), *(each for _, each in match.statistics)]
    sides += match.values
    return tuple(dict.fromkeys(each.form for each in sides if not isinstance(each.form, Leaf)))

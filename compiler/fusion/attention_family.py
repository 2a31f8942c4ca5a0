"""Recognise a reduction that streams: softmax over one domain or a union of several, times values.

    sum[J](exp(s - lse[J](s)) * v)                     s = when(predicate, f(sum[d](q * k)))
    sum[J; K](exp(s - m) * v, exp(t - m) * u)          m = lse[J; K; L](s, t, r)

The domains J, K, L pass by one after another. One without a term in the sum (L) counts in the normaliser
only; one without axes is a single entry. The sum may also be written as sums added up, with or without
`otherwise 0`. Each streaming axis comes in one of two guises, which are one after solving the read's index:
keys over axes of their own (`k[{t: s}]`, s in J) or in a window (`k[h + dh]`, dh in J): with
y = h + dh running over the range of h, dh is y - h, the read is k[y], and what R(dh) says is a
predicate over y - h. What the family does not cover gets a reason, which `explain` prints.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ...dsl.program import At, Axis, Const, Form, Leaf, Map, Otherwise, Piece, Reduce, When, walk
from ..rewrites.residues import Classes
from .contraction import factors_of, product
from .folds import is_fold, of_keys, of_pairs, reads
from .key_classes import placed_by, settled
from .keys import Key, Side, Unfit, depends, indices_of, itself, key_and_query, peel, read_of, side_of, solve


@dataclass(frozen=True, slots=True)
class Domain:
    """One domain of a softmax: its keys, and what masks and weighs them.

    `score` is the unmasked score, in which `dot` (if any) is the contraction of `query` with `key_side`
    over `channels`, of `query` alone where there are no keys; `predicates` mask it. Its weights meet
    `value_side`, read once a key, or `value`, the same at every key, times `scales`, which no key
    changes, or `entry`, one a pair; `shown` masks the values. `folds` are the reductions in the score that
    are no such contraction, and `met` what these and entries read of the keys. `term` is the number of the
    sum that adds them, None where only the normaliser counts them."""

    keys: tuple[Key, ...]
    predicates: tuple[Form, ...]
    score: Form
    dot: Reduce | None
    query: Form | None
    key_side: Side | None
    channels: tuple[Axis, ...]
    value_side: Side | None
    value: Form | None
    entry: Form | None
    scales: tuple[Form, ...]
    shown: tuple[Form, ...]
    folds: tuple[Reduce, ...]
    met: tuple[Side, ...]
    term: int | None


@dataclass(frozen=True, slots=True)
class Attention:
    """A match. `normaliser` is the log-sum-exp of all scores. `factors` scale the result; `lenient` says of
    each term whether it counts as 0 where it is absent. The axes of the result by role: shared with keys, of
    queries only (they lie in the lanes), of values only. Those of `classes` are taken class by class."""

    root: Form
    normaliser: Reduce
    domains: tuple[Domain, ...]
    factors: tuple[Form, ...]
    lenient: tuple[bool, ...]
    batch: tuple[Axis, ...]
    lanes: tuple[Axis, ...]
    outputs: tuple[Axis, ...]
    classes: Mapping[Axis, Classes] = field(default_factory=dict[Axis, Classes])

    @property
    def channels(self) -> tuple[Axis, ...]:
        """The axes that some score is contracted over."""
        return tuple(dict.fromkeys(axis for each in self.domains for axis in each.channels))


def match_attention(form: Form) -> Attention | str:
    """The match of a reduction or of a sum of reductions, or the reason that there is none ("" where it
    is no softmax sum)."""
    try:
        return _match(form)
    except Unfit as reason:
        return str(reason)


@dataclass(frozen=True, slots=True)
class Weighed:
    """A piece of a sum: its weight is exp(score - normaliser), the other factors beside it."""

    axes: tuple[Axis, ...]
    score: Form
    normaliser: Reduce
    rest: tuple[Form, ...]
    shown: tuple[Form, ...]
    term: int


def _match(form: Form) -> Attention:
    if isinstance(form, Reduce) and form.op == "lse":
        return _normalised(form)
    sums = _sums(form)
    weighed = [_weighed(piece, i) for i, (pieces, _) in enumerate(sums) for piece in pieces]
    normaliser = weighed[0].normaliser
    if any(each.normaliser != normaliser for each in weighed):
        raise Unfit("" if len(sums) > 1 else "the weights of one sum have different normalisers")
    paired = _paired(normaliser, weighed)
    common = _common([each for each in paired if each is not None])
    if not any(each is not None and each.axes for each in paired):
        raise Unfit("")
    domains = tuple(
        _domain(piece, each, common) for piece, each in zip(normaliser.pieces, paired, strict=True)
    )
    return _roles(form, normaliser, domains, common, tuple(lenient for _, lenient in sums))


def _normalised(form: Reduce) -> Attention:
    """The log-sum-exp of a union by itself; that of one domain is a streaming sum (`sum_family.py`)."""
    if len(form.pieces) < 2:
        raise Unfit("")
    pieces = [(each, Weighed(each.axes, each.value, form, (), (), 0)) for each in form.pieces]
    domains = tuple(_domain(piece, weighed, ()) for piece, weighed in pieces)
    if not any(each.keys and each.dot is not None for each in domains):
        raise Unfit("")
    return _roles(form, form, domains, (), (False,))


Sum = tuple[tuple[Piece, ...], bool]
"""The pieces of a sum, and whether it counts as 0 where it is absent."""


def _sums(form: Form) -> list[Sum]:
    """The sums that are added up. The sum of a single entry is its product, as `simplify` leaves it."""
    match form:
        case Reduce(op="sum", pieces=pieces):
            return [(pieces, False)]
        case Map(op="add", args=(left, right)):
            if set(left.axes) != set(right.axes):
                raise Unfit("")
            return [*_sums(left), *_sums(right)]
        case Map(op="mul" | "exp"):
            return [((Piece(form, ()),), False)]
        case Otherwise(value=inner, fallback=Const(value=number)) if number == 0 and not _adds(inner):
            return [(pieces, True) for pieces, _ in _sums(inner)]
        case _:
            raise Unfit("")


def _adds(form: Form) -> bool:
    return isinstance(form, Map) and form.op == "add"


def _weighed(piece: Piece, term: int) -> Weighed:
    shown, body = peel(piece.value)
    factors = factors_of(body)
    for i, each in enumerate(factors):
        match each:
            case Map(op="exp", args=(Map(op="sub", args=(score, Reduce(op="lse") as normaliser)),)):
                rest = (*factors[:i], *factors[i + 1 :])
                return Weighed(piece.axes, score, normaliser, rest, shown, term)
            case _:
                continue
    raise Unfit("")


def _paired(normaliser: Reduce, weighed: Sequence[Weighed]) -> list[Weighed | None]:
    """For each domain of the normaliser the piece that its weights are summed in."""
    left = list(weighed)
    paired: list[Weighed | None] = []
    for piece in normaliser.pieces:
        fits = [each for each in left if each.score == piece.value and set(each.axes) == set(piece.axes)]
        paired.append(fits[0] if fits else None)
        left = [each for each in left if not fits or each is not fits[0]]
    if left:
        raise Unfit("softmax weights are summed over other axes than they are normalised over, or twice")
    return paired


def _common(weighed: Sequence[Weighed]) -> tuple[Form, ...]:
    """The factors that all pieces have and no key changes: they scale the whole."""
    first = weighed[0]
    return tuple(
        each
        for each in first.rest
        if all(other.rest.count(each) == first.rest.count(each) for other in weighed)
        and not any(set(each.axes) & set(other.axes) for other in weighed)
        and (len(weighed) > 1 or bool(first.axes))
    )


def _domain(piece: Piece, weighed: Weighed | None, common: tuple[Form, ...]) -> Domain:
    over = set(piece.axes)
    predicates, score = peel(piece.value)
    dot, folds = _scored(score, over)
    query, key_form, channels = _sides(dot, over) if dot is not None else (None, None, ())
    key_masks, key_form = _fixed_masks(key_form, over, None, channels)
    query_masks, query = _fixed_masks(query, over, None, channels)
    rest = [each for each in weighed.rest if each not in common] if weighed is not None else []
    moving = [each for each in rest if set(each.axes) & over]
    if len(moving) > 1:
        raise Unfit(f"the softmax weights of a domain meet {len(moving)} factors that its keys move, not one")
    value_masks, value_form = _fixed_masks(moving[0], over, over | set(score.axes)) if moving else ((), None)
    entry = value_form if value_form is not None and _differs(value_form, piece.axes) else None
    value_form = value_form if entry is None else None
    keys = _solved(piece.axes, [each for each in (key_form, value_form) if each is not None])
    met = of_keys([*folds, *((entry,) if entry is not None else ())], over)
    return Domain(
        keys, (*predicates, *key_masks, *query_masks), score, dot, query,
        side_of(key_form, keys, over) if key_form is not None else None, channels,
        side_of(value_form, keys, over) if value_form is not None else None,
        product(rest) if rest and not moving else None, entry,
        tuple(each for each in rest if moving and each is not moving[0]),
        (*weighed.shown, *value_masks) if weighed is not None else (),
        folds, tuple(side for each in met if (side := read_of(each, keys, over)) is not None),
        weighed.term if weighed is not None else None,
    )  # fmt: skip


def _fixed_masks(
    form: Form | None, over: set[Axis], known: set[Axis] | None, channels: tuple[Axis, ...] = ()
) -> tuple[tuple[Form, ...], Form | None]:
    """The `when`s around a factor that say the same of all its channels, and the factor without them: the
    whole product is absent where one of them is false. `known`: all axes that they may have."""
    masks: list[Form] = []
    while form is not None:
        match form:
            case When(predicate=p, value=x):
                mask, inner = p, x
            case At(value=When(predicate=p, value=x), indices=indices) if x.axes == form.value.axes:
                own = tuple((axis, index) for axis, index in indices if axis in p.axes)
                mask, inner = At(p, own) if own else p, At(x, indices)
            case _:
                break
        axes = set(mask.axes)
        if set(inner.axes) & over != set(form.axes) & over or axes & set(channels):
            break
        if known is not None and not axes <= known:
            break
        masks.append(mask)
        form = inner
    return tuple(masks), form


def _contraction(score: Form, over: set[Axis]) -> Reduce | None:
    """The one sum inside the score that depends on the reduced axes, or on all of them; where there are none, its
    one sum."""
    found = [
        each
        for each in walk((score,), _operands)
        if isinstance(each, Reduce) and (set(each.axes) & over or not over)
    ]
    plain = [each for each in found if each.op == "sum" and len(each.pieces) == 1]
    if not over:
        return plain[0] if len(found) == len(plain) == 1 else None
    whole = [each for each in found if over <= set(each.axes)]
    if len(whole) == 1:
        found = whole  # the others have fewer entries than there are pairs: they are stored, and read entry by entry
    if len(found) > 1:
        raise Unfit("the score holds more than one contraction over the keys")
    if found and not plain:
        raise Unfit(f"the score holds a {found[0].op} over the keys, not a plain sum of products")
    return found[0] if found else None


def _scored(score: Form, over: set[Axis]) -> tuple[Reduce | None, tuple[Reduce, ...]]:
    """The contraction of the score with a query, and its reductions with one entry a pair that are none."""
    found = [each for each in reads(score) if isinstance(each, Reduce) and over and over <= set(each.axes)]
    plain = [each for each in found if _is_plain(each, over)]
    folds = tuple(each for each in found if each not in plain and is_fold(each, over))
    if not folds:
        return _contraction(score, over), ()
    if len(plain) > 1 or len(plain) + len(folds) < len(found):
        raise Unfit("the score holds more than one contraction over the keys")
    return (plain[0] if plain else None), folds


def _is_plain(form: Reduce, over: set[Axis]) -> bool:
    """Whether a reduction pairs queries with a value that is read in place."""
    if form.op != "sum" or len(form.pieces) != 1:
        return False
    try:
        _, key, _ = key_and_query(form, over)
    except Unfit:
        return False
    return not _differs(key, over)


def _differs(value: Form, over: Collection[Axis]) -> bool:
    """Whether a value of the keys is none that is read in place, once a key."""
    try:
        _solved(tuple(over), [value])
    except Unfit:
        return of_pairs(value, set(over))
    return value not in reads(value) and of_pairs(value, set(over))


def _operands(form: Form) -> tuple[Form, ...]:
    match form:
        case Map(args=args):
            return args
        case When(predicate=p, value=x):
            return (p, x)
        case _:
            return ()


def _sides(dot: Reduce, over: set[Axis]) -> tuple[Form, Form | None, tuple[Axis, ...]]:
    """The query side and the key side of the contraction, and its channels; of one entry, no key."""
    return key_and_query(dot, over) if over else (dot.pieces[0].value, None, dot.pieces[0].axes)


def _solved(axes: Sequence[Axis], reads: Sequence[Form]) -> tuple[Key, ...]:
    """The keys of a domain: an axis that moves no read is its own key."""
    moved = {axis for read in reads for index in indices_of(read).values() for axis in index.axes}
    keys = {key.over: key for key in solve([axis for axis in axes if axis in moved], reads)}
    return tuple(keys.get(axis) or itself(axis) for axis in axes)


def _roles(
    root: Form,
    normaliser: Reduce,
    domains: tuple[Domain, ...],
    factors: tuple[Form, ...],
    lenient: tuple[bool, ...],
) -> Attention:
    """Sort the outer axes: shared with the keys (batch), of queries only (lanes), of values only."""
    scored = {
        axis
        for each in domains
        for form in (each.score, *each.predicates, *each.shown, *each.scales)
        for axis in form.axes
    }
    of_values = {axis for each in domains for axis in _value_axes(each)}
    outputs = tuple(axis for axis in root.axes if axis in of_values and axis not in scored)
    shared: set[Axis] = set()
    for each in domains:
        shared |= depends(each.key_side, each.keys) - set(each.channels)
        shared |= depends(each.value_side, each.keys) - set(outputs)
        shared |= {axis for side in each.met for axis in depends(side, each.keys)} - set(outputs)
    batch = tuple(axis for axis in root.axes if axis in shared and axis not in outputs)
    lanes = tuple(axis for axis in root.axes if axis not in batch and axis not in outputs)
    if not lanes:
        raise Unfit("every axis of the queries is also one of the keys: nothing lies in the lanes")
    met, classes = settled([(each.keys, each.predicates) for each in domains], lanes)
    domains = tuple(
        replace(each, keys=keys, predicates=masks) for each, (keys, masks) in zip(domains, met, strict=True)
    )
    placed_by(root, classes, [key for each in domains for key in each.keys])
    for each in domains:
        if (each.value_side or each.entry) is not None and not set(outputs) <= set(_value_axes(each)):
            raise Unfit("the values of one domain lack an axis of another's")
    return Attention(root, normaliser, domains, factors, lenient, batch, lanes, outputs, classes)


def _value_axes(domain: Domain) -> set[Axis]:
    """The axes other than the keys' of what the weights of a domain meet."""
    if domain.value is not None:
        return set(domain.value.axes)
    if domain.entry is not None:
        return set(domain.entry.axes) - {key.over for key in domain.keys}
    return depends(domain.value_side, domain.keys)


def must_store(match: Attention) -> tuple[Form, ...]:
    """The values that the stream reads in place, so they must be tensors: what the keys and values
    are read from, where that is not a leaf already."""
    sides = [each for domain in match.domains for each in (domain.key_side, domain.value_side)]
    forms = dict.fromkeys(each.form for each in sides if each is not None)
    return tuple(form for form in forms if not isinstance(form, Leaf))


def asked(match: Attention) -> tuple[Form, ...]:
    """The values that are computed where the stream stands."""
    found: list[Form] = []
    for each in match.domains:
        single = (each.score, each.query, each.value, each.entry)
        found += [*(form for form in single if form is not None), *each.predicates, *each.shown, *each.scales]
        found += [piece.value for fold in each.folds for piece in fold.pieces]
    return (*found, *match.factors)

"""Linear maps of what has one entry a pair, before and after a softmax: nothing over pairs is stored for them.

    sum[m](w * sum[d](q * k))        -> sum[m, d](w * q * k)         where a stream then has it as its score
    sum[s](sum[h](w * x) * v)        -> sum[h](w * sum[s](x * v))    where the sum over s then streams
    sum[s, h](w * x * v)             -> sum[h](w * sum[s](x * v))    the same

w without s. So heads that are mixed by a matrix (talking heads, arXiv 2003.02436) are one contraction over heads
and channels, and the gradient of such scores streams before the matrix is applied. Both hold for absent entries
too (language.md section 4: reorder reductions, pull a factor). What it costs is the contraction anew for each of the
heads that come out; what it spares is scores in memory. The axes that are mixed have a size that is the same
at every call, so what is stored in place of pairs has as many entries as the values, times that size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ...dsl.memo import Memo
from ...dsl.program import Axis, Form, Piece, Program, Reduce, walk
from ..fusion.attention_family import Attention, match_attention
from ..fusion.contraction import epilogue, factors_of, is_fixed, is_of_parameters, parameter_axes, product
from ..fusion.keys import peel
from ..fusion.sum_family import StreamedSum, match_sum
from ..rewrites.conditions import Conditions, optional_leaves
from ..rewrites.rewrite import guarded, substitute
from ..rewrites.simplify import Rewriter, rewrite_program


def stream_linear_maps(program: Program) -> Program:
    """The program with scores that are linear maps of contractions as one contraction each, and with the maps of
    what streams after it; the same object where there are none. Its gradient, what is kept for that, and its plan ask
    for it one after another."""
    return _mapped(program) or program


def _maps_streamed(program: Program) -> Program | None:
    """The same, or None where there are no such maps: what is remembered of a program does not hold it."""
    given, fixed = program, parameter_axes(program) | {axis for axis, _ in program.fixed}
    nests = dict(_nests(program, fixed))
    if nests:
        known = {form: made for form, made in nests.items() if form in _met(program, nests, fixed)}
        program = rewrite_program(program, lambda form: substitute(form, known))

    def rule(form: Form, _conditions: Conditions) -> Form | None:
        """sum[s](sum[h](w * x) * v) -> sum[h](w * sum[s](x * v))"""
        return mapped_after(form, fixed)

    made = rewrite_program(program, Rewriter({Reduce: (rule,)}, Conditions(optional_leaves(program))))
    return None if made is given else made


_mapped = Memo(_maps_streamed)


def _nests(program: Program, fixed: frozenset[Axis]) -> Iterator[tuple[Form, Form]]:
    """The linear maps of contractions that no result is made of entry by entry, each as one contraction."""
    stored = {each for root in program.roots for each in epilogue(root)}
    for form in program.forms:
        made = one_contraction(form, fixed) if form not in stored else None
        if made is not None:
            yield form, made


def one_contraction(form: Form, fixed: frozenset[Axis]) -> Form | None:
    """sum[m](w * sum[d](q * k)) -> sum[m, d](w * q * k), the axes of w `fixed`"""
    sums = _plain(form)
    if sums is None:
        return None
    factors = factors_of(sums.value)
    inner = [(i, found) for i, each in enumerate(factors) if (found := _plain(each)) is not None]
    if len(inner) != 1 or len(factors) < 2:
        return None
    ((place, nested),) = inner
    others = (*factors[:place], *factors[place + 1 :])
    mixed = {axis for each in others for axis in each.axes} - set(factors[place].axes) | set(sums.axes)
    if set(nested.axes) & {*form.axes, *(axis for each in others for axis in each.axes)}:
        return None
    met = [each for each in factors_of(nested.value) if not is_of_parameters(each)]
    if not all(is_fixed(axis, fixed) for axis in mixed) or len(met) < 2:
        return None  # a linear layer is stored: it has an entry a token, not one a pair
    value = product((*others, *factors_of(nested.value)))
    return Reduce("sum", (Piece(value, (*sums.axes, *nested.axes)),), span=form.span)


def _plain(form: Form) -> Piece | None:
    """The piece of a plain sum of reals."""
    match form:
        case Reduce(op="sum", pieces=(piece,)) if form.kind == "real":
            return piece
        case _:
            return None


def _met(program: Program, nests: Mapping[Form, Form], fixed: frozenset[Axis]) -> frozenset[Form]:
    """The linear maps that some stream computes in its entries, if they are one contraction each."""
    back = {made: form for form, made in nests.items()}
    found: set[Form] = set()
    for form in program.forms:
        if not isinstance(form, Reduce) or form.op not in ("sum", "lse") or form in nests:
            continue
        made = substitute(form, nests)
        if made == form:
            continue
        after = mapped_after(made, fixed)
        starts = (
            (made,) if after is None else tuple(each for each in walk((after,)) if isinstance(each, Reduce))
        )
        found |= {back[each] for start in starts for each in _scores(start) if each in back}
    return frozenset(found)


def _scores(form: Form) -> Iterator[Form]:
    """The contractions that a stream computes in its entries."""
    attention, sums = match_attention(form), match_sum(form)
    if isinstance(attention, Attention):
        yield from (each.dot for each in attention.domains if each.dot is not None)
    elif isinstance(sums, StreamedSum):
        yield from (each.form for each in sums.inner)


def _streams(form: Form) -> bool:
    return isinstance(match_sum(form), StreamedSum) or isinstance(match_attention(form), Attention)


def mapped_after(form: Form, fixed: frozenset[Axis]) -> Form | None:
    """sum[s](sum[h](w * x) * v) or sum[s, h](w * x * v) -> sum[h](w * sum[s](x * v)), where that streams and the
    sum as it is written does not; h `fixed`"""
    piece = _plain(form)
    if piece is None:
        return None
    masks, body = peel(piece.value)
    factors, over = _flat(factors_of(body), piece.axes)
    for map_of in factors:
        mixed = tuple(axis for axis in over if axis in map_of.axes)
        keys = tuple(axis for axis in over if axis not in mixed)
        apart = tuple(each for each in factors if not set(each.axes) & set(keys))
        moving = tuple(each for each in factors if each not in apart)
        if not mixed or not keys or not moving or not all(is_fixed(axis, fixed) for axis in mixed):
            continue
        inner = Reduce("sum", (Piece(guarded(product(moving), masks), keys),), span=form.span)
        made = Reduce("sum", (Piece(product((*apart, inner)), mixed),), span=form.span)
        if set(mixed) <= set(inner.axes) and set(made.axes) == set(form.axes) and _streams(inner):
            return None if _streams(form) else made
    return None


def _flat(factors: tuple[Form, ...], over: tuple[Axis, ...]) -> tuple[tuple[Form, ...], tuple[Axis, ...]]:
    """The factors of sum[I](a * sum[J](b * x)) as those of sum[I, J](a * b * x), if one of them is a sum that does
    not stream itself."""
    for place, each in enumerate(factors):
        nested, others = _plain(each), (*factors[:place], *factors[place + 1 :])
        if nested is None or len(factors_of(nested.value)) < 2:
            continue
        taken = {axis for other in others for axis in other.axes}
        if not taken & set(nested.axes) and not _streams(each):
            return (*others, *factors_of(nested.value)), (*over, *nested.axes)
    return factors, over

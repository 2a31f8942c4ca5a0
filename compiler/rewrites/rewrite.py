"""Forms with other operands, other leaves, other axes; and reads pushed towards the leaves.

An axis is bound where a `Reduce` or a `Place` sums it away and where an `At` replaces it; the free axes
of a form are its `axes`. Every function here keeps what a bound axis means: one that would catch an
incoming axis of the same name is replaced by a copy. All are iterative, and share equal work by digest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ...dsl.constructors.build import apply, like_axis, low
from ...dsl.errors import CompilerFault
from ...dsl.ops import TOTAL_REDUCTIONS
from ...dsl.program import (
    AsIf,
    At,
    Axis,
    Carry,
    Const,
    Coordinate,
    Form,
    Indices,
    Jvp,
    Leaf,
    Library,
    Map,
    OnGradient,
    Otherwise,
    Piece,
    Place,
    Reduce,
    Scan,
    Size,
    Vjp,
    When,
    children,
    walk,
)
from ...dsl.proofs.presence import conjunction, inside
from .affine import known, normal

# --- forms with other operands


def rebuild(form: Form, operands: Sequence[Form]) -> Form:
    """The form with other operands, in the order of `children`; the same object where they are equal.

    Axes that an operand has gained pass through (a `Place` keeps them). Along axes that one has lost
    it is constant: a reduction over them still counts every index, a read of them still asks whether
    the index is in range.
    """
    if tuple(operands) == children(form):
        return form
    match form:
        case Map() | Library():
            return replace(form, args=tuple(operands))
        case When():
            return When(operands[0], operands[1], span=form.span)
        case Otherwise():
            return Otherwise(operands[0], operands[1], span=form.span)
        case AsIf():
            return AsIf(operands[0], operands[1], span=form.span)
        case At(indices=indices):
            return _read(operands[0], _paired(indices, operands[1:]), form)
        case Place(value=value, indices=indices):
            return _placed(form, operands[0], _paired(indices, operands[1:]), (value, *children(form)[1:]))
        case Reduce(pieces=pieces):
            kept = (
                Piece(spread(x, piece.axes), piece.axes) for piece, x in zip(pieces, operands, strict=True)
            )
            return replace(form, pieces=tuple(kept))
        case Jvp():
            middle = 1 + len(form.at)
            return Jvp(operands[0], tuple(operands[1:middle]), tuple(operands[middle:]), span=form.span)
        case Vjp():
            return Vjp(operands[0], operands[1], operands[2], span=form.span)
        case _:
            return _rebound(form, operands)


def _rebound(form: Form, operands: Sequence[Form]) -> Form:
    """The forms with bound leaves."""
    match form:
        case OnGradient():
            return OnGradient(operands[0], _leaf(operands[1]), operands[2], span=form.span)
        case Scan(carries=carries, until=until):
            triples = (operands[3 * i : 3 * i + 3] for i in range(len(carries)))
            made = tuple(Carry(_leaf(p), init, step) for p, init, step in triples)
            return replace(form, carries=made, until=None if until is None else operands[-1])
        case _:
            raise CompilerFault("rewrite", f"{type(form).__name__} has no operands")


def _leaf(form: Form) -> Leaf:
    if not isinstance(form, Leaf):
        raise CompilerFault("rewrite", f"a bound leaf became {type(form).__name__}")
    return form


def _paired(indices: Indices, operands: Sequence[Form]) -> Indices:
    return tuple((axis, index) for (axis, _), index in zip(indices, operands, strict=True))


def _read(value: Form, indices: Indices, form: Form) -> Form:
    there = tuple((axis, index) for axis, index in indices if axis in value.axes)
    gone = (guard for axis, index in indices if axis not in value.axes for guard in border(index, axis))
    return guarded(At(value, there, span=form.span) if there else value, gone)


def _placed(form: Place, value: Form, indices: Indices, before: Iterable[Form]) -> Form:
    old = {axis for each in before for axis in each.axes}
    new = dict.fromkeys((*value.axes, *(axis for _, index in indices for axis in index.axes)))
    kept = [axis for axis in form.keep if axis in new]
    gained = [axis for axis in new if axis not in old]
    lost = [axis for axis in old if axis not in new and axis not in form.keep]
    if any(axis in gained for axis, _ in indices):
        raise CompilerFault("rewrite", "an axis that a place makes came in through its operand")
    return Place(spread(value, lost), indices, (*kept, *gained), span=form.span)


def spread(form: Form, axes: Iterable[Axis]) -> Form:
    """The value also over those of `axes` that it lacks, the same at all their indices."""
    result = form
    for axis in axes:
        if axis not in result.axes:
            donor = When(Const(False), Coordinate(axis))
            if form.kind == "bool":
                donor = When(Const(False), apply("eq", Coordinate(axis), Coordinate(axis)))
            result = Otherwise(donor, result, span=form.span)
    return result


def guarded(form: Form, predicates: Iterable[Form]) -> Form:
    """The value where all the predicates hold."""
    predicate = conjunction(predicates)
    return form if predicate == Const(True) else When(predicate, form, span=form.span)


def in_range(index: Form, axis: Axis) -> tuple[Form, ...]:
    """Predicates that hold together where an index, if it is present, is in the range of an axis; those
    that are proved are left out."""
    tests = (rebuild(test, [normal(side) for side in children(test)]) for test in inside(axis, index))
    return tuple(test for test in tests if not known(test))


def border(index: Form, axis: Axis) -> tuple[Form, ...]:
    """Predicates that hold together where an index is present and in range."""
    tests = in_range(index, axis)
    return tests if tests or surely_present(index) else (apply("ge", index, low(axis)),)


def surely_present(form: Form) -> bool:
    """Whether a form is made of nothing that can be absent: constants, sizes, coordinates and maps."""
    return all(isinstance(each, Const | Size | Coordinate | Map) for each in walk((form,)))


# --- free and bound axes


def free_axes(form: Form) -> frozenset[Axis]:
    """The axes that a form has; all others in it are bound."""
    return frozenset(form.axes)


def binds(form: Form) -> frozenset[Axis]:
    """The axes that a form binds in its operands."""
    match form:
        case Reduce(pieces=pieces):
            return frozenset(axis for piece in pieces for axis in piece.axes)
        case At(indices=indices):
            return frozenset(axis for axis, _ in indices)
        case Place(keep=keep):
            return frozenset(axis for each in children(form) for axis in each.axes).difference(keep)
        case Scan(axis=axis):
            return frozenset((axis,))
        case Library(over=over):
            return frozenset(over)
        case _:
            return frozenset()


def substitute(form: Form, mapping: Mapping[Form, Form]) -> Form:
    """The form with every occurrence of a key replaced by its value.

    The axes that the two share stay what they are where the key occurs, bound ones too. Axes that only
    the new value has come from outside and are caught by no binder; along those that only the key has,
    the new value is the same everywhere.
    """
    bound = {axis for each in walk((form,)) for axis in binds(each)}
    outside: dict[Axis, Axis] = {}
    done: dict[Form, Form] = {}
    for key, value in mapping.items():
        incoming = {a: like_axis(a) for a in value.axes if a in bound and a not in key.axes}
        incoming = {axis: outside.setdefault(axis, copy) for axis, copy in incoming.items()}
        done[key] = spread(rename(value, incoming), key.axes)
    for each in walk((form,), lambda each: () if each in done else children(each)):
        if each not in done:
            done[each] = rebuild(each, [done[child] for child in children(each)])
    return rename(done[form], {copy: axis for axis, copy in outside.items()})


# --- other axes, other indices

Through = Callable[[Form, Indices], bool]
"""Whether a read at these indices goes through a form, or stays in front of it."""


def everywhere(form: Form, indices: Indices) -> bool:
    return True


def rename(form: Form, axes: Mapping[Axis, Axis]) -> Form:
    """The same value with its axes called otherwise, all at once: `rename(x, {h: s})` is x at h where
    its own s says so. The ranges must be tied (`like_axis`), so no border is tested.

    Only free axes change. What is stored over h stays so: a leaf becomes a read of it.
    """
    indices = _indices(form, {old: Coordinate(new) for old, new in axes.items()})
    return _whole(form, indices, _Reader(everywhere, tied=frozenset(indices)).read(form, indices))


def push_read(form: Form, indices: Mapping[Axis, Form], through: Through = everywhere) -> Form:
    """`form[indices]` with the read pushed towards the leaves.

    language.md section 4: it goes through map, when and reduce without a guard, through at, otherwise
    and coordinates with `when(e in R(a), .)`, dropped where it is proved, and through nothing else.
    `count`, `any` and `all` need the guard too: they are present over nothing. So do unions of which
    a piece lacks a replaced axis.
    """
    return _whole(form, _indices(form, indices), pushed(form, indices, through))


def _whole(form: Form, indices: Indices, read: Read) -> Form:
    """The value read, over all axes of the read."""
    return spread(guarded(read.form, read.guards), At(form, indices).axes if indices else form.axes)


def compose(inner: At, outer: Indices) -> tuple[Form, Indices, tuple[Form, ...]]:
    """`inner[outer]` as one read: its value, its indices, and the guards that it needs."""
    return _composition(inner, outer, [pushed(index, outer) for _, index in inner.indices])


def _composition(form: At, indices: Indices, reads: Sequence[Read]) -> tuple[Form, Indices, tuple[Form, ...]]:
    """x[{b: f}][{a: e}] -> x[{b: f[{a: e}], a: e}] for the axes a of x that stay."""
    inner = {axis: normal(read.form) for (axis, _), read in zip(form.indices, reads, strict=True)}
    outer = {axis: index for axis, index in indices if axis not in inner}
    guards = tuple(dict.fromkeys(guard for each in reads for guard in each.guards))
    return form.value, _indices(form.value, {**outer, **inner}), guards


@dataclass(frozen=True, slots=True)
class Read:
    """`when(guards, form)` is the value read, where it does not lack axes along which it is constant."""

    form: Form
    guards: tuple[Form, ...] = ()


def pushed(form: Form, indices: Mapping[Axis, Form] | Indices, through: Through = everywhere) -> Read:
    """What `push_read` makes, with the guards apart."""
    return _Reader(through).read(form, _indices(form, indices))


_Task = tuple[Form, Indices]


@dataclass(frozen=True, slots=True)
class _Plan:
    """The reads that one needs, and what it makes of them: its result, or a plan for the rest."""

    needs: tuple[_Task, ...]
    finish: Callable[[list[Read]], Read | _Plan]


def _indices(form: Form, indices: Mapping[Axis, Form] | Indices) -> Indices:
    """Those that replace an axis of the form by something else, in one order."""
    pairs = dict(indices).items()
    changed = ((a, e) for a, e in pairs if a in form.axes and not (isinstance(e, Coordinate) and e.axis == a))
    return tuple(sorted(changed, key=lambda pair: pair[0].key))


class _Reader:
    """One pushing of reads. `tied` are an axis and an index each that is surely in its range."""

    def __init__(self, through: Through, tied: frozenset[tuple[Axis, Form]] = frozenset()) -> None:
        self.through = through
        self.tied = tied
        self.done: dict[_Task, Read] = {}

    def read(self, form: Form, indices: Indices) -> Read:
        first = (form, indices)
        plans: dict[_Task, _Plan] = {}
        stack = [first]
        while stack:
            task = stack[-1]
            plan = plans.setdefault(task, self.plan(*task)) if task not in plans else plans[task]
            missing = [need for need in plan.needs if need not in self.done]
            if missing:
                stack.extend(missing)
                continue
            made = plan.finish([self.done[need] for need in plan.needs])
            if isinstance(made, _Plan):
                plans[task] = made
            else:
                self.done[task] = made
                stack.pop()
        return self.done[first]

    def plan(self, form: Form, indices: Indices) -> _Plan:
        if not indices:
            return _Plan((), lambda _: Read(form))
        if isinstance(form, Coordinate):
            return _Plan((), lambda _: Read(indices[0][1], self.borders(indices)))
        stays = _Plan((), lambda _: Read(At(form, indices, span=form.span)))
        if not self.through(form, indices):
            return stays
        match form:
            case Map() | When() | Otherwise() | AsIf():
                needs = tuple((each, _indices(each, indices)) for each in children(form))
                return _Plan(needs, lambda reads: self.pointwise(form, indices, reads))
            case At():
                needs = tuple((index, _indices(index, indices)) for _, index in form.indices)
                return _Plan(needs, lambda reads: self.composed(form, indices, reads))
            case Reduce():
                return self.reduced(form, indices)
            case _:
                return stays

    def borders(self, indices: Indices, within: Iterable[Axis] | None = None) -> tuple[Form, ...]:
        """The guards of the indices for those axes (all where none are named)."""
        tested = (pair for pair in indices if (within is None or pair[0] in within) and pair not in self.tied)
        return tuple(guard for axis, index in tested for guard in border(index, axis))

    def pointwise(self, form: Form, indices: Indices, reads: list[Read]) -> Read:
        values = [each.form for each in reads]
        guards = tuple(dict.fromkeys(guard for each in reads for guard in each.guards))
        match form:
            case Map(op=op):
                compared = form.kind == "bool"
                return Read(apply(op, *(map(normal, values) if compared else values), span=form.span), guards)
            case When():
                same = values[0] == Const(True)
                return Read(values[1] if same else When(values[0], values[1], span=form.span), guards)
            case AsIf():
                surrogate = guarded(values[1], reads[1].guards)
                return Read(AsIf(values[0], surrogate, span=form.span), reads[0].guards)
            case _:
                first, second = (guarded(each.form, each.guards) for each in reads)
                return Read(Otherwise(first, second, span=form.span), self.borders(indices))

    def composed(self, form: At, indices: Indices, reads: list[Read]) -> _Plan:
        value, merged, guards = _composition(form, indices, reads)
        return _Plan(((value, merged),), lambda made: Read(made[0].form, (*guards, *made[0].guards)))

    def reduced(self, form: Reduce, indices: Indices) -> _Plan:
        """sum_k x[k, a] at {a: e} -> sum_k x[k, e], k renamed where e has an axis k."""
        incoming = {axis for _, index in indices for axis in index.axes}
        copies = {axis: like_axis(axis) for axis in binds(form) if axis in incoming}
        needs: list[_Task] = []
        for piece in form.pieces:
            own = {axis: Coordinate(copies[axis]) for axis in piece.axes if axis in copies}
            outer = {axis: index for axis, index in indices if axis not in piece.axes}
            needs.append((piece.value, _indices(piece.value, {**outer, **own})))
        return _Plan(tuple(needs), lambda reads: self.rejoined(form, indices, copies, reads))

    def rejoined(
        self, form: Reduce, indices: Indices, copies: Mapping[Axis, Axis], reads: list[Read]
    ) -> Read:
        """Guards without a reduced axis leave the reduction; all stay inside where it is total, or a
        union, and the borders that it does not test itself are tested outside."""
        alone = len(reads) == 1 and form.op not in TOTAL_REDUCTIONS
        pieces: list[Piece] = []
        outside: list[Form] = []
        for piece, read in zip(form.pieces, reads, strict=True):
            axes = tuple(copies.get(axis, axis) for axis in piece.axes)
            leaving = [g for g in read.guards if alone and not set(g.axes) & set(axes)]
            staying = [g for g in read.guards if g not in leaving]
            pieces.append(Piece(spread(guarded(read.form, staying), axes), axes))
            outside += leaving
        tested = {axis for axis, _ in indices}
        if form.op not in TOTAL_REDUCTIONS:
            untested = {
                a for piece in form.pieces for a in tested if a in piece.axes or a not in piece.value.axes
            }
        else:
            untested = tested
        outside += self.borders(indices, untested)
        return Read(replace(form, pieces=tuple(pieces)), tuple(dict.fromkeys(outside)))

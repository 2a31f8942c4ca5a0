"""Where a value is present, as a predicate: total, exact, and built from the same forms.

`presence(x)` is true at an index exactly where x is present there. It holds the range tests of reads,
the predicates of `when`, and `any` over reduced axes; what depends on data (`when(x > 0, y)`, an index
that is a tensor) stays in it as it is, so a presence that reads no tensor is known before a call.
Indices with a range type (coordinates, `argmax`, `ids: index v`) need no test (language.md, decision 9).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from ..constructors.build import apply, at, low, present, size
from ..program import (
    AsIf,
    At,
    Axis,
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
    Size,
    When,
    children,
    fresh_axis,
    walk,
)
from ..shapes.size_forms import is_batch
from ..source import Span

TRUE, FALSE = Const(True), Const(False)
EMPTY_IS_TOTAL = ("count", "any", "all")

Cause = Literal["read", "when", "reduction", "optional"]


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a part of a presence is there: the form that may be absent, and for a read, the axis and the
    index that may leave its range."""

    cause: Cause
    form: Form
    axis: Axis | None = None
    index: Form | None = None


def presence(form: Form) -> Form:
    """The predicate over the axes of `form`, or fewer, that is true where `form` is present."""
    return Presence().of(form)


# --- predicates, with the constants folded


def conjunction(parts: Iterable[Form]) -> Form:
    """All of them; balanced, so that a long one is not deep."""
    return _joined("and", parts, TRUE, FALSE)


def disjunction(parts: Iterable[Form]) -> Form:
    """At least one of them."""
    return _joined("or", parts, FALSE, TRUE)


def negation(form: Form) -> Form:
    match form:
        case Const(value=value):
            return FALSE if value else TRUE
        case Map(op="not", args=(inner,)):
            return inner
        case _:
            return Map("not", (form,), span=form.span)


def terms(op: str, form: Form) -> list[Form]:
    """The parts of a nest of `and` or of `or`, in order."""
    found: list[Form] = []
    waiting = [form]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Map) and part.op == op:
            waiting += reversed(part.args)
        else:
            found.append(part)
    return found


def _joined(op: str, parts: Iterable[Form], neutral: Const, absorbing: Const) -> Form:
    whole = dict.fromkeys(parts)
    flat = dict.fromkeys(term for part in whole for term in terms(op, part) if term != neutral)
    # p | ~p, also where p is itself an `or` and so comes apart.
    if absorbing in flat or any(negation(part) in each for each in (whole, flat) for part in each):
        return absorbing
    level: list[Form] = list(flat) or [neutral]
    while len(level) > 1:
        odd = level[-1:] if len(level) % 2 else []
        level = [Map(op, pair) for pair in zip(level[::2], level[1::2], strict=False)] + odd
    return level[0]


def exists(axes: Iterable[Axis], body: Form, span: Span | None = None) -> Form:
    """Whether `body` holds at some index of `axes`. Only `...` may have none; that is tested."""
    if body == FALSE:
        return FALSE
    bound = tuple(axis for axis in axes if axis in body.axes)
    empty = [
        Map("gt", (Size(axis), Const(0)), span=span) for axis in axes if is_batch(axis) and axis not in bound
    ]
    found = Reduce("any", (Piece(body, bound),), span=span) if bound else body
    return conjunction([*empty, found])


def read_at(predicate: Form, indices: Indices) -> Form:
    """A total predicate at other indices, false where one of them is out of range."""
    own = tuple((axis, index) for axis, index in indices if axis in predicate.axes)
    return Otherwise(At(predicate, own), FALSE, span=predicate.span) if own else predicate


def reads_data(form: Form) -> bool:
    """Whether the form depends on tensors, and not on indices and sizes alone."""
    return any(isinstance(part, Leaf) for part in walk((form,)))


# --- ranges


def index_axis(form: Form) -> Axis | None:
    """The axis in whose range an integer value surely lies, if its form says so."""
    while True:
        match form:
            case Coordinate(axis=axis):
                return axis
            case Leaf(ranges_over=axis):
                return axis
            case Reduce(op="argmax", pieces=pieces, component=component):
                return [axis for piece in pieces for axis in piece.axes][component]
            case Library(op="sort_indices" | "topk_indices", over=over):
                return over[0]
            case At(value=value) | When(value=value) | AsIf(value=value) | OnGradient(value=value):
                form = value
            case _:
                return None


def answers_for_one_piece(form: Form) -> bool:
    """Whether a form is an argmax over a union: absent where the largest entry belongs to another piece than the
    axis that it answers for, which only data can say."""
    return isinstance(form, Reduce) and form.op == "argmax" and len(form.pieces) > 1


def same_range(one: Axis, other: Axis) -> bool:
    return one == other or (low(one) == low(other) and size(one) == size(other))


def inside(axis: Axis, index: Form) -> list[Form]:
    """The tests that the index is in the axis's range; none where its form says that it is."""
    known = index_axis(index)
    if known is not None and same_range(known, axis):
        return []
    end = apply("add", low(axis), size(axis))
    return [apply("ge", index, low(axis), span=index.span), apply("lt", index, end, span=index.span)]


# --- the predicates of every form


@dataclass(slots=True)
class Presence:
    """Presences, computed once a form. `partial` are the leaves that may be absent (optional inputs).
    `settle(form, predicate)` may answer a simpler predicate that is equal to it; `reasons` says for each
    part where it comes from."""

    partial: frozenset[Form] = frozenset()
    settle: Callable[[Form, Form], Form] = lambda form, predicate: predicate
    reasons: dict[Form, Reason] = field(default_factory=dict[Form, Reason])
    _present: dict[Form, Form] = field(default_factory=dict[Form, Form])
    _true: dict[Form, Form] = field(default_factory=dict[Form, Form])

    def of(self, form: Form) -> Form:
        """Where `form` is present."""
        for part in walk((form,), self._unknown):
            if part not in self._present:
                self._present[part] = self._presence(part)
                if part.kind == "bool":
                    self._true[part] = self._truth(part)
        return self._present[form]

    def holds(self, form: Form) -> Form:
        """Where the predicate `form` is present and true."""
        self.of(form)
        return self._true[form]

    def _unknown(self, form: Form) -> tuple[Form, ...]:
        return () if form in self._present else children(form)

    def _all_present(self, forms: Iterable[Form]) -> Form:
        return conjunction(self._present[form] for form in forms)

    def _because(self, reason: Reason, predicate: Form) -> Form:
        for part in terms("and", predicate):
            if not isinstance(part, Const):
                self.reasons.setdefault(part, reason)
        return predicate

    def _presence(self, form: Form) -> Form:
        match form:
            case Map(args=args):
                return self._all_present(args)
            case When(predicate=predicate, value=value):
                test = self._because(Reason("when", form, None, predicate), self._true[predicate])
                return conjunction([test, self._present[value]])
            case Otherwise(value=value, fallback=fallback):
                return self.settle(form, disjunction([self._present[value], self._present[fallback]]))
            case At(value=value, indices=indices):
                return self.settle(form, self._at(form, self._present[value], indices))
            case Place():
                return self.settle(form, self._place(form))
            case Reduce(op=op, pieces=pieces):
                if op in EMPTY_IS_TOTAL:
                    return TRUE
                found = disjunction(exists(p.axes, self._present[p.value], form.span) for p in pieces)
                if answers_for_one_piece(form):
                    found = present(form, form.span)
                return self.settle(form, self._because(Reason("reduction", form), found))
            case Library(args=args, over=over):
                gaps = (exists(over, negation(self._present[arg]), form.span) for arg in args)
                return self.settle(form, conjunction(map(negation, gaps)))
            case AsIf(value=value) | OnGradient(value=value) | Jvp(value=value):
                return self._present[value]
            case Leaf() if form in self.partial:
                return self._because(Reason("optional", form), present(form, form.span))
            case _:
                return TRUE

    def _at(self, form: Form, predicate: Form, indices: Indices) -> Form:
        tests = [self._present[index] for _, index in indices]
        for axis, index in indices:
            test = self._total(conjunction(inside(axis, index)), self._present[index])
            tests.append(self._because(Reason("read", form, axis, index), test))
        return conjunction([*tests, read_at(predicate, indices)])

    def _place(self, form: Place) -> Form:
        """Some entry of the placed value is present and lands here."""
        value, indices = form.value, form.indices
        own = dict.fromkeys([*value.axes, *(axis for _, index in indices for axis in index.axes)])
        targets = [axis for axis, _ in indices]
        copies = {
            axis: fresh_axis(axis.name, low(axis), size(axis), "like") for axis in targets if axis in own
        }
        renamed = tuple((axis, Coordinate(copy)) for axis, copy in copies.items())
        tests = [read_at(self._present[part], renamed) for part in (value, *(index for _, index in indices))]
        for axis, index in indices:
            moved = at(index, {a: c for a, c in renamed if a in index.axes}) if renamed else index
            lands = apply("eq", moved, Coordinate(axis), span=index.span)
            tests.append(self._total(lands, self._present[index]))
        bound = [copies.get(axis, axis) for axis in own if axis in copies or axis not in form.keep]
        return self._because(Reason("reduction", form), exists(bound, conjunction(tests), form.span))

    def _total(self, test: Form, here: Form) -> Form:
        """A test of an index that may be absent, false where it is."""
        return test if here == TRUE or isinstance(test, Const) else Otherwise(test, FALSE, span=test.span)

    def _truth(self, form: Form) -> Form:
        here = self._present[form]
        match form:
            case Const():
                return form
            case Map(op="and", args=args):
                return conjunction(self._true[arg] for arg in args)
            case Map(op="or", args=args):
                return conjunction([here, disjunction(self._true[arg] for arg in args)])
            case Map(op="not", args=(arg,)):
                return conjunction([here, negation(self._true[arg])])
            case Map(op="gt", args=(Reduce(op="count", pieces=(piece,)), Const(value=0))):
                return exists(piece.axes, self._present[piece.value], form.span)
            case When(predicate=predicate, value=value):
                return conjunction([self._true[predicate], self._true[value]])
            case Otherwise(value=value, fallback=fallback):
                instead = conjunction([negation(self._present[value]), self._true[fallback]])
                return disjunction([self._true[value], instead])
            case At(value=value, indices=indices):
                return self._at(form, self._true[value], indices)
            case Reduce(op="any", pieces=pieces):
                return disjunction(exists(p.axes, self._true[p.value], form.span) for p in pieces)
            case Reduce(op="all", pieces=pieces):
                return conjunction(self._everywhere(piece) for piece in pieces)
            case _:
                return conjunction([here, self._total(form, here)])

    def _everywhere(self, piece: Piece) -> Form:
        """No entry of the piece is present and false."""
        fails = conjunction([self._present[piece.value], negation(self._true[piece.value])])
        return negation(exists(piece.axes, fails, piece.value.span))


def parts_of(form: Form) -> tuple[Form, ...]:
    """The parts of a predicate that decide it, one level down."""
    match form:
        case Map(op="and" | "or" | "not", args=args):
            return args
        case Otherwise(value=value, fallback=Const()):
            return (value,)
        case At(value=value):
            return (value,)
        case Reduce(op="any", pieces=(piece,)):
            return (piece.value,)
        case _:
            return ()

"""Where a value is present, as conditions that rewriting can compare.

`dsl.proofs.presence` gives the checker one exact predicate with the reasons of its parts. Here the same fact is
a tuple of total predicates, with reads pushed into them and what is proved left out, so that one mask is
seen to follow from another: `Conditions().of(x)` hold together exactly at P(x), and () says that x is
total. Where that would grow too long, the answer is `present(x)` itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from ...dsl.constructors.build import apply, low, present, size
from ...dsl.ops import TOTAL_REDUCTIONS
from ...dsl.program import (
    BATCH,
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
    Program,
    Reduce,
    Size,
    When,
    children,
    walk,
)
from ...dsl.proofs.presence import answers_for_one_piece, conjunction
from ...dsl.shapes.size_forms import is_batch
from .affine import known
from .rewrite import guarded, in_range, pushed, surely_present

Condition = tuple[Form, ...]
"""Total predicates that hold together; () is always."""

MOST_PREDICATES = 24
"""A longer conjunction is replaced by `present(x)`."""


def optional_leaves(program: Program) -> frozenset[Form]:
    """The leaves that may be absent as a whole: optional inputs."""
    return frozenset(each.leaf for each in program.declarations if each.optional)


class Conditions:
    """Conditions of forms, each computed once. `partial` are the leaves that may be absent."""

    def __init__(self, partial: frozenset[Form] = frozenset()) -> None:
        self.partial = partial
        self._known: dict[Form, Condition] = {}
        self._implied: dict[Form, frozenset[Form]] = {}
        self._holds: dict[Form, Condition] = {}
        self._reads: dict[tuple[Form, Indices], Form] = {}

    def of(self, form: Form) -> Condition:
        """Where the form is present."""
        found = self._known.get(form)
        if found is not None:
            return found
        for each in walk((form,), lambda each: () if each in self._known else _operands(each)):
            if each not in self._known:
                condition = self._condition(each)
                short = len(condition) <= MOST_PREDICATES
                self._known[each] = condition if short else (present(each),)
        return self._known[form]

    def total(self, form: Form) -> bool:
        """Whether the form is proved to be present everywhere."""
        return not self.of(form)

    def implies(self, given: Condition, wanted: Condition) -> bool:
        """Whether all of `wanted` are among `given`, or follow from them."""
        return not self.missing(given, wanted)

    def missing(self, given: Condition, wanted: Condition) -> Condition:
        """Those of `wanted` that do not follow from `given`."""
        have = frozenset(given)
        return tuple(
            each for each in wanted if each not in have and not self._implied.get(each, _NEVER) <= have
        )

    def masked(self, value: Form, condition: Condition) -> Form:
        """`value` where the condition holds; what its own absence already says is not said again."""
        return guarded(value, self.missing(self.of(value), condition))

    def holds(self, predicate: Form) -> Condition:
        """Where a predicate is present and true."""
        if predicate not in self._holds:
            self._holds[predicate] = self._both(self.of(predicate), self._true(predicate))
        return self._holds[predicate]

    # --- one form, those below it known

    def _condition(self, form: Form) -> Condition:
        match form:
            case Leaf():
                return (present(form),) if form in self.partial else ()
            case Map(args=args):
                return self._both(*(self._known[arg] for arg in args))
            case When(predicate=p, value=x):
                return self._both(self._known[x], self._known[p], self._true(p))
            case Otherwise():
                return self._either_side(form)
            case At():
                return self._read(form)
            case Reduce():
                return self._reduced(form)
            case AsIf(value=x) | OnGradient(value=x) | Jvp(value=x):
                return self._known[x]
            case Place():
                return (present(form),)
            case Library(args=args):
                return () if all(not self._known[arg] for arg in args) else (present(form),)
            case _:
                return ()

    def _both(self, *conditions: Condition) -> Condition:
        every = tuple(dict.fromkeys(each for condition in conditions for each in condition))
        have = frozenset(every)
        return tuple(each for each in every if not self._implied.get(each, _NEVER) <= have - {each})

    def _either(self, one: Condition, other: Condition) -> Condition:
        if self.implies(other, one):
            return one
        if self.implies(one, other):
            return other
        common = tuple(each for each in one if each in other)
        rests = [conjunction(each for each in side if each not in common) for side in (one, other)]
        return (*common, apply("or", *rests))

    def _either_side(self, form: Otherwise) -> Condition:
        x, y = form.value, form.fallback
        if isinstance(x, When) and isinstance(y, When) and _opposite(x.predicate, y.predicate):
            p = self._known[x.predicate]
            yes, no = self._known[x.value], self._known[y.value]
            if self.implies(yes, no) and self.implies(no, yes):
                return self._both(p, yes)
        return self._either(self._known[x], self._known[y])

    def _true(self, predicate: Form) -> Condition:
        """Where a predicate is true, among the places where it is present."""
        result: list[Form] = []
        parts = [predicate]
        while parts:
            part = parts.pop()
            match part:
                case Map(op="and", args=(p, q)):
                    parts += [q, p]
                case Const(value=True):
                    pass
                case Map(
                    op="gt", args=(Reduce(op="count", pieces=(Piece(value=x, axes=()),)), Const(value=0))
                ):
                    result += self.of(x)
                case _ if known(part):
                    pass
                case _:
                    result.append(part if not self.of(part) else Otherwise(part, Const(False)))
        return tuple(dict.fromkeys(result))

    def _read(self, form: At) -> Condition:
        indices = dict(form.indices)
        borders = [each for a, e in form.indices for each in (*self._known[e], *in_range(e, a))]
        inside = [self._read_one(each, indices) for each in self._known[form.value]]
        certain = [each if not self.of(each) else Otherwise(each, Const(False)) for each in borders]
        return self._both(tuple(certain), tuple(each for each in inside if each != Const(True)))

    def _read_one(self, predicate: Form, indices: Mapping[Axis, Form]) -> Form:
        own = tuple((axis, indices[axis]) for axis in predicate.axes if axis in indices)
        if not own:
            return predicate
        key = (predicate, own)
        if key not in self._reads:
            static = _is_static(predicate) and all(surely_present(index) for _, index in own)
            read = pushed(predicate, dict(own)).form if static else At(predicate, own)
            self._reads[key] = read if static else Otherwise(read, Const(False))
            if known(self._reads[key]):
                self._reads[key] = Const(True)
        return self._reads[key]

    def _reduced(self, form: Reduce) -> Condition:
        if form.op in TOTAL_REDUCTIONS:
            return ()
        if answers_for_one_piece(form):
            return (present(form),)
        result = self._some(self._known[form.pieces[0].value], form.pieces[0].axes)
        for piece in form.pieces[1:]:
            result = self._either(result, self._some(self._known[piece.value], piece.axes))
        return result

    def _some(self, condition: Condition, axes: Sequence[Axis]) -> Condition:
        """Where the condition holds at one index of the axes at least."""
        inner = tuple(each for each in condition if set(each.axes) & set(axes))
        outer = [each for each in condition if each not in inner]
        outer += (apply("gt", size(axis), Const(0)) for axis in axes if is_batch(axis))
        if not inner or any(self._everywhere(inner, indices) for indices in _witnesses(axes)):
            return tuple(outer)
        body = conjunction(inner)
        exists = Reduce("any", (Piece(body, tuple(axis for axis in axes if axis in body.axes)),))
        self._implied[exists] = frozenset(inner)
        return (*outer, exists)

    def _everywhere(self, condition: Condition, indices: Mapping[Axis, Form]) -> bool:
        return all(_is_static(each) and known(pushed(each, indices).form) for each in condition)


_NEVER = frozenset((Const(False),))


def _operands(form: Form) -> tuple[Form, ...]:
    """The values that the presence of a form can depend on."""
    return (form.value,) if isinstance(form, AsIf | OnGradient | Jvp) else children(form)


def _opposite(p: Form, q: Form) -> bool:
    return Map("not", (p,)) == q or Map("not", (q,)) == p


@lru_cache(maxsize=4096)
def _is_static(form: Form) -> bool:
    """Whether a predicate depends on indices and sizes only."""
    return all(isinstance(each, Const | Size | Coordinate | Map | Reduce) for each in walk((form,)))


def _witnesses(axes: Iterable[Axis]) -> list[dict[Axis, Form]]:
    """Each axis at its lowest index, at 0 where it has that, at its highest (language.md 9a)."""
    named = [axis for axis in axes if axis != BATCH]
    starts: dict[Axis, Form] = {axis: low(axis) for axis in named}
    ends: dict[Axis, Form] = {a: apply("sub", apply("add", low(a), size(a)), Const(1)) for a in named}
    zeros = {a: Const(0) if not in_range(Const(0), a) else starts[a] for a in named}
    return [zeros, starts, ends]

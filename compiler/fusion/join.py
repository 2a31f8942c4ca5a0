"""Groups that one kernel computes together: what streams past the same queries streams once.

    a softmax sum and the log-sum-exp of its scores      the running maximum and sum are there anyway; so is
                                                         whether a query saw any key
    sums past the same keys with a contraction in common      dk and dv of attention, which both need p
    values over the same axes that reduce the same resident    the mean and the variance of a token
    axes of one larger tensor
    what is made of a value entry by entry                     two results of one sum

A group is joined only where nothing between the two waits for one and is waited for by the other, and a sum
only where it waits for no other sum of the kernel: sum[s](p * dp) is known when its stream ends, so that dq, which
reads it, streams after it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, replace

from ...dsl.constructors.build import present
from ...dsl.program import (
    AsIf,
    At,
    Axis,
    Const,
    Coordinate,
    Form,
    Leaf,
    Map,
    OnGradient,
    Otherwise,
    Piece,
    Place,
    Reduce,
    When,
    children,
    walk,
)
from ..rewrites.rewrite import binds, rebuild
from .attention_family import Attention
from .contraction import inside, is_fixed, parameter_axes, reduced_axes
from .graphs import condense, topological_order
from .plan import Group, Plan, trivial
from .sum_family import StreamedSum, match_sum

Matches = MutableMapping[Form, Attention | StreamedSum]


def join(plan: Plan, matches: Matches, tiled: bool = True) -> Plan:
    """The plan with groups joined, until no two fit; `matches` gets those of sums that are written by the axes of
    another. `tiled`: the machine has tiles."""
    joiner = Joiner(plan, matches, tiled)
    for one in plan.groups:
        for other in plan.groups:
            if one is not other and joiner.fit(one, other):
                joiner.put_together(one, other)
    return joiner.joined()


@dataclass(slots=True)
class Joiner:
    """`leader` names for each group the one whose kernel computes it."""

    plan: Plan
    matches: Matches
    tiled: bool
    roots: frozenset[Form]
    fixed: frozenset[Axis]
    leader: dict[str, str]
    edges: list[tuple[str, str]]

    def __init__(self, plan: Plan, matches: Matches, tiled: bool) -> None:
        self.plan, self.matches, self.tiled = plan, matches, tiled
        self.roots = frozenset(plan.program.roots)
        parameters = parameter_axes(plan.program)
        bound = (each.axes for form in plan.program.forms if isinstance(form, Reduce) for each in form.pieces)
        self.fixed = frozenset(axis for axes in bound for axis in axes if is_fixed(axis, parameters))
        self.leader = {group.result.name: group.result.name for group in plan.groups}
        names = {each.form: group.result.name for group in plan.groups for each in group.results}
        self.edges = [(a, group.result.name) for group in plan.groups for a in _reads(group, names)]

    def fit(self, one: Group, other: Group) -> bool:
        """Whether the kernel of `one` can compute `other` on its way."""
        names = (one.result.name, other.result.name)
        if any(self.leader[name] != name or name in self._led() for name in names[1:]):
            return False
        if self.leader[names[0]] != names[0]:
            return False
        mine, others = self.matches.get(one.result.form), self.matches.get(other.result.form)
        match mine, others:
            case Attention(), _:
                own = set(mine.normaliser.axes) == {*mine.batch, *mine.lanes}
                return own and _of_normaliser(other.result.form, mine.normaliser)
            case StreamedSum(), StreamedSum() if not other.result.presence:
                alike = _alike(mine, others)
                if not _same_stream(mine, alike) or self._waits(*names):
                    return False
                self.matches[other.result.form] = alike
                return True
            case None, None if self.tiled and one.family == other.family == "tiles" and not other.grid:
                apart = [
                    form for form in self.plan.stored if form not in (one.result.form, other.result.form)
                ]
                if is_made_of(other, one, self.plan.stored):
                    return self._has_lanes(one)
                return one.result.axes == other.result.axes and same_tiles(one, other, apart, self.fixed)
            case _:
                return False

    def _has_lanes(self, group: Group) -> bool:
        """Whether the result has an axis that is not resident: one whose axes are all reduced on the way, and of
        sizes that are compiled in, has no tiles, and is computed entry by entry."""
        forms = inside(group.result.form, self.plan.stored)
        reduced = {axis for form in forms if isinstance(form, Reduce) for axis in reduced_axes(form)}
        return not set(group.result.axes) <= reduced & self.fixed

    def _led(self) -> set[str]:
        return {leader for name, leader in self.leader.items() if leader != name}

    def _waits(self, one: str, other: str) -> bool:
        """Whether `other` reads what the kernel of `one` makes, or is read there."""
        made = {name for name, leader in self.leader.items() if leader == one}
        return any((a == other and b in made) or (b == other and a in made) for a, b in self.edges)

    def put_together(self, one: Group, other: Group) -> None:
        """Let `one` lead `other`, unless something would wait for itself."""
        before = dict(self.leader)
        self.leader[other.result.name] = one.result.name
        if self._order() is None:
            self.leader = before

    def _order(self) -> list[str] | None:
        leaders = [name for name, leader in self.leader.items() if name == leader]
        return topological_order(leaders, condense(list(self.leader), self.edges, self.leader))

    def joined(self) -> Plan:
        groups = {group.result.name: group for group in self.plan.groups}
        made: list[Group] = []
        for name in self._order() or ():
            led = [other for other, leader in self.leader.items() if leader == name != other]
            results = tuple(groups[other].result for other in led if self._asked(other))
            made.append(replace(groups[name], also=(*groups[name].also, *results)))
        return replace(self.plan, groups=tuple(made))

    def _asked(self, name: str) -> bool:
        """Whether a value that another kernel computes on its way is a result, or is read elsewhere."""
        roots = {each.name for form, each in self.plan.stored.items() if form in self.roots}
        readers = (b for a, b in self.edges if a == name)
        return name in roots or any(self.leader[each] != self.leader[name] for each in readers)


def _of_normaliser(form: Form, normaliser: Form) -> bool:
    """Whether a value is the normaliser, with a number where that is absent, or whether it is present."""
    match form:
        case Otherwise(value=value, fallback=Const()):
            return value == normaliser
        case _:
            return form in (normaliser, present(normaliser))


def _alike(one: StreamedSum, other: StreamedSum) -> StreamedSum:
    """The other sum with the reduced axes of the one, where its own have the same ranges: what is summed does not
    hang on their names. Itself where that is nothing else, or no stream."""
    (mine,), (theirs,) = one.root.pieces, other.root.pieces
    names = dict(zip(theirs.axes, mine.axes, strict=False))
    apart = {axis: name for axis, name in names.items() if axis != name}
    ranges = (((a.lo, a.size), (b.lo, b.size)) for a, b in apart.items())
    if not apart or len(theirs.axes) != len(mine.axes) or any(a != b for a, b in ranges):
        return other
    if {*mine.axes} & {*theirs.value.axes} or any(axis.size is None for axis in apart):
        return other
    value = _with_coordinates(theirs.value, apart)
    found = "" if value is None else match_sum(replace(other.root, pieces=(Piece(value, mine.axes),)))
    return replace(found, root=other.root) if isinstance(found, StreamedSum) else other


def _with_coordinates(form: Form, names: Mapping[Axis, Axis]) -> Form | None:
    """The form at other coordinates, its reads left where they stand; None where that is not all there is to it."""
    made: dict[Form, Form] = {}
    for each in walk((form,)):
        if binds(each) & {*names, *names.values()}:
            return None
        match each:
            case Coordinate(axis=axis) if axis in names:
                made[each] = Coordinate(names[axis])
            case _:
                made[each] = rebuild(each, [made[child] for child in children(each)])
    return None if set(made[form].axes) & set(names) else made[form]


def _same_stream(one: StreamedSum, other: StreamedSum) -> bool:
    """Whether two sums have the same queries and keys, see the same pairs, and share a contraction."""
    return (
        one.root.op == other.root.op == "sum"
        and one.keys == other.keys
        and set(one.predicates) == set(other.predicates)
        and one.lanes == other.lanes
        and one.batch == other.batch
        and bool({each.form for each in one.inner} & {each.form for each in other.inner})
    )


def same_tiles(one: Group, other: Group, stored: Collection[Form], fixed: frozenset[Axis]) -> bool:
    """Whether two groups over the same axes reduce the same resident (`fixed`) axes of one tensor that is larger
    than they are, each entry at its place: a tile that has loaded it for the one has it for the other. What
    streams is read once for each sum, and gains nothing."""
    axes = one.result.axes
    reduced = _reduced(one.result.form, stored)
    if not axes or not reduced or _reduced(other.result.form, stored) != reduced:
        return False
    first, second = (
        {form for form in _operands(each.result.form, stored) if set(form.axes) >= {*axes, *reduced}}
        for each in (one, other)
    )
    return bool(first & second) and reduced <= fixed


def is_made_of(other: Group, one: Group, stored: Collection[Form]) -> bool:
    """Whether a group computes entry by entry, at the place of its own, from what another one makes."""
    if not one.result.axes or set(other.result.axes) != set(one.result.axes):
        return False
    forms = inside(other.result.form, stored)
    plain = all(
        isinstance(form, Map | When | Otherwise | AsIf | OnGradient | Leaf) or trivial(form) for form in forms
    )
    return plain and one.result.form in {child for form in forms for child in children(form)}


def _reduced(root: Form, stored: Collection[Form]) -> frozenset[Axis] | None:
    """The axes that a group reduces; None where it reads at other places than its own, where weights have axes
    of its result (a product has tiles of its own), or where an axis of the result is reduced too."""
    forms = inside(root, stored)
    reduced = {axis for form in forms if isinstance(form, Reduce) for axis in reduced_axes(form)}
    weights = (form for form in forms if isinstance(form, Leaf) and form.role == "parameter")
    if any(isinstance(form, At | Place) for form in forms) or reduced & set(root.axes):
        return None
    if any(set(form.axes) & set(root.axes) and set(form.axes) & reduced for form in weights):
        return None
    if any(isinstance(form, Reduce) and form.op == "argmax" for form in forms):
        return None
    return frozenset(reduced)


def _operands(root: Form, stored: Collection[Form]) -> tuple[Form, ...]:
    """The tensors that a group reads."""
    leaves = [form for form in inside(root, stored) if isinstance(form, Leaf)]
    below = (child for form in inside(root, stored) for child in children(form) if child in stored)
    return tuple(dict.fromkeys((*leaves, *below)))


def _reads(group: Group, names: Mapping[Form, str]) -> Iterator[str]:
    """The names of the stored values that a group reads."""
    own = {each.form for each in group.results}

    def operands(form: Form) -> tuple[Form, ...]:
        return () if form in names and form not in own else children(form)

    found = walk([each.form for each in group.results], operands)
    return (names[form] for form in found if form in names and form not in own)

"""Groups that one kernel computes together: what streams past the same queries streams once.

    a softmax sum and the log-sum-exp of its scores      the running maximum and sum are there anyway; so is
                                                         whether a query saw any key
    sums past the same keys with a contraction in common      dk and dv of attention, which both need p

A group is joined only where nothing between the two waits for one and is waited for by the other, and a sum
only where it waits for no other sum of the kernel: sum[s](p * dp) is known when its stream ends, so that dq, which
reads it, streams after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from ..dsl.build import present
from ..dsl.program import Const, Form, Otherwise, children, walk
from .attention_family import Attention
from .graphs import condense, topological_order
from .plan import Group, Plan
from .sum_family import StreamedSum

Matches = Mapping[Form, Attention | StreamedSum]


def join(plan: Plan, matches: Matches) -> Plan:
    """The plan with groups joined, until no two fit."""
    joiner = Joiner(plan, matches)
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
    roots: frozenset[Form]
    leader: dict[str, str]
    edges: list[tuple[str, str]]

    def __init__(self, plan: Plan, matches: Matches) -> None:
        self.plan, self.matches, self.roots = plan, matches, frozenset(plan.program.roots)
        self.leader = {group.result.name: group.result.name for group in plan.groups}
        names = {form: stored.name for form, stored in plan.stored.items()}
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
                return _same_stream(mine, others) and not self._waits(*names)
            case _:
                return False

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
            made.append(replace(groups[name], also=results))
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


def _reads(group: Group, names: Mapping[Form, str]) -> Iterator[str]:
    """The names of the stored values that a group reads."""
    own = {each.form for each in group.results}

    def operands(form: Form) -> tuple[Form, ...]:
        return () if form in names and form not in own else children(form)

    found = walk([each.form for each in group.results], operands)
    return (names[form] for form in found if form in names and form not in own)

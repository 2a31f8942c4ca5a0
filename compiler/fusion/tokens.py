"""Groups over the same tokens that one kernel computes, and what it then stores for all others.

A *token group* has a grid, the axes of its result whose sizes belong to the call, and computes at each place of
it from what lies there alone: all that it reduces is of fixed size, and stays in its tile. Where one such group
reads what another one makes, at the same token, both are one kernel: what they hand on stays in the tile. So the
gradient of an MLP makes its hidden units, their gradient and that of its input in one pass over the tokens.

Such a cluster stores what other kernels read of it, and of that the last value that is its own: the gradient of a
hidden unit, where each was a kernel of two products that was made anew in every sum that reads it (`Cuts`).

Groups are put together only where what is stored and read becomes less, counted in reals a token, and where the
tile has room for all that they hold.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from math import prod

from ...dsl.constructors.build import size
from ...dsl.program import (
    AsIf,
    At,
    Axis,
    Const,
    Form,
    Leaf,
    Map,
    OnGradient,
    Otherwise,
    Reduce,
    Size,
    When,
    children,
    walk,
)
from ...dsl.shapes.size_forms import evaluate_size
from ..rewrites.total import Totality
from .contraction import bases, contraction, epilogue, inside, is_fixed, parameter_axes, reduced_axes
from .graphs import condense, topological_order
from .plan import Edge, Group, Plan, Stored, trivial

ROOM = 8192
"""The most reals a token that the results of a cluster may have, those between its groups among them."""

Pointwise = Map | When | Otherwise | AsIf | OnGradient


def join_tokens(plan: Plan, total: Totality) -> Plan:
    """The plan with its token groups put together, where that pays."""
    finder = Tokens(plan, total)
    for cluster in finder.clusters():
        joined = finder.joined(plan, cluster)
        if joined is not None:
            plan = joined
    return plan


@dataclass(slots=True)
class Tokens:
    """Finds clusters. `grids` has the token groups, by the name of their result."""

    plan: Plan
    total: Totality
    sizes: Mapping[Axis, int] = field(init=False)
    parameters: frozenset[Axis] = field(init=False)
    grids: dict[str, frozenset[Axis]] = field(init=False)

    def __post_init__(self) -> None:
        program = self.plan.program
        self.sizes, self.parameters = dict(program.fixed), parameter_axes(program)
        stored = self.plan.stored
        grids = ((group, self.grid(group, stored)) for group in self.plan.groups)
        self.grids = {group.result.name: grid for group, grid in grids if grid}

    # --- token groups

    def grid(self, group: Group, stored: Collection[Form]) -> frozenset[Axis]:
        """The grid of a token group; nothing where a group is none."""
        result = group.result
        grid = frozenset(axis for axis in result.axes if not is_fixed(axis, self.parameters))
        if group.family != "tiles" or group.also or result.presence or result.form.kind != "real":
            return frozenset()
        fits = all(self.at_token(form, grid, stored) for form in inside(result.form, stored))
        return grid if fits and self.reals(result.form, grid) is not None else frozenset()

    def at_token(self, form: Form, grid: frozenset[Axis], stored: Collection[Form]) -> bool:
        """Whether a form is computed at one token, from what is there or from tensors."""
        match form:
            case Reduce():
                whole = grid <= set(form.axes) or not grid & set(form.axes)
                fixed = all(is_fixed(axis, self.parameters) for axis in reduced_axes(form))
                return form.op != "argmax" and whole and fixed
            case At(value=value):
                return isinstance(value, Leaf) or value in stored
            case _:
                return isinstance(form, Pointwise | Leaf) or trivial(form)

    def reals(self, form: Form, grid: Collection[Axis]) -> int | None:
        """The entries of a value at one token; None where they are not known before the call."""
        own = [axis for axis in form.axes if axis not in grid]
        if any(base not in self.sizes for axis in own for base in bases(axis)):
            return None
        return prod(evaluate_size(size(axis), self.sizes) for axis in own)

    # --- clusters

    def clusters(self) -> list[tuple[Group, ...]]:
        """Token groups of one grid that read each other where they are, put together while nothing between two
        of them waits for one and is waited for by the other."""
        groups = {group.result.name: group for group in self.plan.groups}
        leader = {name: name for name in groups}
        edges = [
            (each.name, group.result.name)
            for group in self.plan.groups
            for each in self.plan.read_by(group).values()
        ]
        for first, second in edges:
            grid = self.grids.get(first)
            if grid is None or self.grids.get(second) != grid or leader[first] == leader[second]:
                continue
            merged = {name: leader[first] if at == leader[second] else at for name, at in leader.items()}
            members = [groups[name] for name, at in merged.items() if at == leader[first]]
            waits = condense(list(groups), edges, merged)
            ordered = topological_order([n for n, at in merged.items() if n == at], waits)
            if ordered is not None and self._fits(members, grid):
                leader = merged
        found = [tuple(groups[name] for name, at in leader.items() if at == each) for each in groups]
        return [cluster for cluster in found if len(cluster) > 1]

    def _fits(self, members: list[Group], grid: frozenset[Axis]) -> bool:
        """Whether a tile has room for what its groups make, and no group reads another one elsewhere."""
        made = {group.result.form for group in members}
        stored = self.plan.stored
        reads = chain.from_iterable(inside(group.result.form, stored) for group in members)
        elsewhere = any(isinstance(form, At) and form.value in made for form in reads)
        return not elsewhere and sum(self.reals(form, grid) or 0 for form in made) <= ROOM

    # --- a cluster as one group

    def joined(self, plan: Plan, cluster: tuple[Group, ...]) -> Plan | None:
        """The plan with the cluster as one group; None where that stores and reads as much."""
        grid = self.grids[cluster[0].result.name]
        own = {group.result.form for group in cluster}
        others = tuple(group for group in plan.groups if group not in cluster)
        cuts = Cuts(self, plan, grid, own)
        stored = plan.stored
        kept = [form for form in plan.program.roots if form in own]
        for group in others:
            if own & set(plan.read_by(group)):
                kept += cuts.of(group)
        kept = cuts.needed(kept)
        names = {**{form: each.name for form, each in stored.items()}, **cuts.names()}
        if not kept or any(form not in names or not self.total.of(form) for form in kept):
            return None
        axes = tuple(axis for axis in cluster[0].result.axes if axis in grid)
        results = tuple(
            stored[form] if form in plan.program.roots else self._laid(form, names[form], axes, others, own)
            for form in plan.program.forms
            if form in kept
        )
        reason = cluster[0].reason
        made = Group(results[0], "tiles", reason, results[1:], axes)
        joined = _planned(plan, (made, *others), reason_of(axes))
        return joined if joined is not None and self._moved(joined) < self._moved(plan) else None

    def _laid(
        self, form: Form, name: str, grid: tuple[Axis, ...], readers: tuple[Group, ...], own: Collection[Form]
    ) -> Stored:
        """A value as it is stored: a tile lies along the grid, unless a product that is summed past the tokens has
        the last axis of the value in its lanes, and would turn every chunk of it."""
        mine = tuple(axis for axis in form.axes if axis not in grid)
        found = (
            contraction(each, {*own, form}) for reader in readers for each in epilogue(reader.result.form)
        )
        products = [each for each in found if each is not None and set(each.over) & set(grid)]
        laned = any(
            any(form in walk((factor.form,)) for factor in each.factors)
            and len(each.form.axes) > 1
            and each.form.axes[-1:] == mine[-1:]
            for each in products
        )
        return Stored(name, form, (*grid, *mine) if laned else (*mine, *grid), False)

    def _moved(self, plan: Plan) -> int:
        """Reals a token that the groups of a plan read and write, of values that have a grid of tokens."""
        stored, total = plan.stored, 0
        for group in plan.groups:
            forms = {form for each in group.results for form in inside(each.form, _apart(stored, group))}
            below = (child for form in forms for child in children(form))
            read = {form for form in (*forms, *below) if isinstance(form, Leaf) or form in stored}
            for form in {*read, *(each.form for each in group.results)}:
                grid = [axis for axis in form.axes if not is_fixed(axis, self.parameters)]
                total += (self.reals(form, grid) or 0) if grid else 0
        return total


def reason_of(axes: tuple[Axis, ...]) -> str:
    """Why a cluster stores a value."""
    return f"the kernel of all at one {', '.join(axis.name for axis in axes)} has it, and others read it"


def _apart(stored: Collection[Form], group: Group) -> set[Form]:
    return set(stored) - {each.form for each in group.results}


@dataclass(slots=True)
class Cuts:
    """What a cluster stores for its readers: the last values on the way to each reader that are computed at one
    token from what the cluster has and from tensors."""

    tokens: Tokens
    plan: Plan
    grid: frozenset[Axis]
    own: Collection[Form]
    whole: frozenset[Form] = field(init=False)
    """What is stored as it is: results, and what streams read in place."""

    def __post_init__(self) -> None:
        streams = (group for group in self.plan.groups if group.family != "tiles")
        read = {form for group in streams for form in self.plan.read_by(group)}
        self.whole = frozenset((*self.plan.program.roots, *(read & set(self.own))))

    def of(self, group: Group) -> list[Form]:
        """What a reader needs of the cluster; all that it reads of it where it is no tile kernel."""
        reads = self.plan.read_by(group)
        if group.family != "tiles":
            return [form for form in reads if form in self.own]
        stored = self.plan.stored
        found, seen = dict[Form, None](), set[Form]()
        stack = [each.form for each in group.results]
        while stack:
            form = stack.pop()
            if form in seen:
                continue
            seen.add(form)
            top = any(form == each.form for each in group.results)
            if form in self.own or (not top and self._made(form) and not self._grows(form)):
                found[form] = None
            elif top or form not in stored:
                stack += children(form)
        return list(found)

    def _grows(self, form: Form) -> bool:
        """Whether a value is a product that is larger than the factors of it that the cluster makes."""
        if not isinstance(form, Map) or form.op != "mul":
            return False
        parts = [self.tokens.reals(each, self.grid) or 0 for each in form.args if self._made(each)]
        return (self.tokens.reals(form, self.grid) or 0) > max(parts, default=0)

    def _made(self, form: Form) -> bool:
        """Whether a value is made in the cluster, of what is the cluster's own."""
        if form in self.own:
            return True
        if not self.grid <= set(form.axes) or self.tokens.reals(form, self.grid) is None:
            return False
        below = [form]
        stored, mine = self.plan.stored, False
        for each in walk(below, lambda each: () if each in stored else children(each)):
            mine = mine or each in self.own
            if each in stored:
                if each not in self.own:
                    return False
            elif not self.tokens.at_token(each, self.grid, stored) or (
                isinstance(each, At) and each.value in stored
            ):
                return False
        return mine

    def needed(self, forms: list[Form]) -> list[Form]:
        """What is to be stored for all: a product is, unless its factors take less beside what others read."""
        found = list(dict.fromkeys(forms))
        for form in found:
            if isinstance(form, Map) and form.op == "mul" and form not in self.own:
                apart = [
                    *(each for each in found if each != form),
                    *(each for each in form.args if each not in found),
                ]
                if all(map(self._made, form.args)) and self._reals(apart) < self._reals(found):
                    found = apart
        return self._least(found)

    def _reals(self, forms: list[Form]) -> int:
        return sum(self.tokens.reals(each, self.grid) or 0 for each in self._least(forms))

    def _least(self, forms: list[Form]) -> list[Form]:
        """Those that are stored as they are, or not made of another one and of weights, entry by entry."""
        return [each for each in forms if each in self.whole or not self._of_another(each, forms)]

    def _of_another(self, form: Form, stored: Collection[Form]) -> bool:
        others = {each for each in stored if each != form and set(each.axes) == set(form.axes)}
        forms = list(walk((form,), lambda each: () if each in others else children(each)))
        plain = all(
            isinstance(each, Map | Const | Size) or each in others or _is_weight(each) for each in forms
        )
        return plain and any(each in others for each in forms)

    def names(self) -> dict[Form, str]:
        """The names of values in the graph that are not stored yet."""
        taken = {each.name for each in self.plan.stored.values()}
        taken |= {declaration.leaf.name for declaration in self.plan.program.declarations}
        found: dict[Form, str] = {}
        for edge in self.plan.edges:
            if edge.value not in found and edge.value not in self.plan.stored and not trivial(edge.value):
                name = edge.producer
                while name in taken:
                    name += "_"
                taken.add(name)
                found[edge.value] = name
        return found


def _is_weight(form: Form) -> bool:
    return isinstance(form, Leaf) and form.role == "parameter"


def _planned(plan: Plan, groups: tuple[Group, ...], reason: str) -> Plan | None:
    """The plan of other groups of the same program, in order; None where they wait for each other."""
    made = replace(plan, groups=groups)
    by_name = {group.result.name: group for group in groups}
    leader = {each.name: group.result.name for group in groups for each in group.results}
    waits = [
        (leader[each.name], group.result.name) for group in groups for each in made.read_by(group).values()
    ]
    order = topological_order(by_name, waits)
    if order is None:
        return None
    stored = made.stored
    edges = tuple(_edge(edge, stored, reason) for edge in plan.edges)
    return replace(made, groups=tuple(by_name[name] for name in order), edges=edges)


def _edge(edge: Edge, stored: Mapping[Form, Stored], reason: str) -> Edge:
    if edge.value not in stored:
        return replace(edge, fused=True, reason="computed where it is read")
    own = edge.reason if not edge.fused else reason
    return replace(edge, producer=stored[edge.value].name, fused=False, reason=own)

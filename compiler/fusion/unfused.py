"""What is not fused, as against what is stored because that pays.

    a reference operation            no kernel can be written of the value
    a value over pairs               it lies in memory, and grows faster than all that a call is given and gives: the
                                     scores of an attention that no stream takes

Every other stored value is a choice: it has no more entries than inputs and results have, but for a number that is
the same at every call, and computing it again where it is read would cost more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations
from math import prod

from ...dsl.constructors.build import size
from ...dsl.program import Axis, Form
from ...dsl.shapes.size_forms import closed, evaluate_size
from .contraction import bases, is_fixed, parameter_axes
from .plan import Plan, Stored

SMALL, ENDLESS, FASTER = 16, 10**18, 10**9
"""Sizes that stay, sizes that grow, and what a ratio of two counts is only where one has a power of a growing size
more than the other: no product of fixed sizes is."""


def pairs_in_memory(plan: Plan, parts: frozenset[Form] = frozenset()) -> dict[str, str]:
    """The values over pairs by name, each with the reason why it is stored. `parts` are the reductions of parts:
    they are few."""
    growth = Growth(plan)
    reasons = {edge.value: edge.reason for edge in plan.edges if not edge.fused}
    own = set(plan.program.roots) | parts
    found: dict[str, str] = {}
    for form, stored in plan.stored.items():
        if form not in own and growth.outgrows(stored):
            found[stored.name] = reasons.get(form, "another kernel reads it") + _unstreamed(plan, form)
    return found


def _unstreamed(plan: Plan, form: Form) -> str:
    """Why the first of its readers that could have streamed does not."""
    for group in plan.groups:
        if group.family == "tiles" and group.reason and form in plan.read_by(group):
            return f"; `{group.result.name}`, which reads it, does not stream: {group.reason}"
    return ""


class Growth:
    """How the numbers of entries of values grow beside those of inputs, parameters and results."""

    def __init__(self, plan: Plan) -> None:
        program = plan.program
        self.fixed = parameter_axes(program) | {axis for axis, _ in program.fixed}
        self.numbers = dict(program.fixed)
        shapes = [each.leaf.over for each in program.declarations]
        shapes += [root.axes for root in program.roots]
        self.given = tuple(dict.fromkeys(frozenset(shape) for shape in shapes))
        self.known = {base for shape in self.given for axis in shape for base in (axis, *bases(axis))}
        self.counts: dict[tuple[Axis, ...], int] = {}

    def outgrows(self, stored: Stored) -> bool:
        """Whether there are sizes at which a value has more entries than all that is given and all results, by
        any factor: some of its axes very long, up to three at once."""
        free = [axis for axis in stored.axes if not is_fixed(axis, self.fixed)]
        if any(shape.issuperset(free) for shape in self.given):
            return False
        own = tuple(dict.fromkeys(base for axis in free for base in bases(axis) if base not in self.fixed))
        start = {axis: self.numbers.get(axis, SMALL) for axis in (*self.known, *own, *closed(stored.axes))}
        for chosen in (each for count in (1, 2, 3) for each in combinations(own, count)):
            sizes = start | dict.fromkeys(chosen, ENDLESS)
            if chosen not in self.counts:
                self.counts[chosen] = sum(_entries(shape, sizes) for shape in self.given)
            if _entries(stored.axes, sizes) > FASTER * self.counts[chosen]:
                return True
        return False


def _entries(axes: Iterable[Axis], sizes: Mapping[Axis, int]) -> int:
    return prod(max(evaluate_size(size(axis), sizes), 0) for axis in axes)

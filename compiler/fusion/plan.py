"""What the compiler decides before it writes kernels: which values are stored, and by which group.

A *group* is one kernel (or one reference operation): it computes one stored value from leaves and
other stored values; everything between them is recomputed inside it. Every edge of the fx graph that
is not fused has a reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
    Place,
    Program,
    Reduce,
    Size,
    When,
    children,
    walk,
)


@dataclass(frozen=True, slots=True)
class Stored:
    """A value in memory: dimensions in the order of `axes`. `presence` says that a bool tensor of
    the same shape goes with it; without it the value is present everywhere."""

    name: str
    form: Form
    axes: tuple[Axis, ...]
    presence: bool


@dataclass(frozen=True, slots=True)
class Group:
    """`family` names the schedule: a stream of keys past lanes of queries (softmax, or a sum with contractions
    in every entry), tiles, or the reference operation where no kernel can be written. `reason` says why it is
    no better one, or over what a stream goes. `also` are results that the same kernel computes on its way
    (`join.py`). Those of a cluster of tokens have axes of their own beside those of its `grid` (`tokens.py`)."""

    result: Stored
    family: Literal["stream", "sum", "tiles", "reference"]
    reason: str = ""
    also: tuple[Stored, ...] = ()
    grid: tuple[Axis, ...] = ()

    @property
    def results(self) -> tuple[Stored, ...]:
        """All that the group computes."""
        return (self.result, *self.also)


@dataclass(frozen=True, slots=True)
class Edge:
    """One edge of the graph between two statements: fused, or stored and why."""

    producer: str
    consumer: str
    fused: bool
    reason: str
    value: Form
    """What flows along it; `work.traffic` counts its bytes."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Groups in the order of execution."""

    program: Program
    groups: tuple[Group, ...]
    edges: tuple[Edge, ...]

    @property
    def stored(self) -> dict[Form, Stored]:
        """Every stored value by its form."""
        return {each.form: each for group in self.groups for each in group.results}

    def read_by(self, group: Group) -> dict[Form, Stored]:
        """The stored values that a group reads, and with its own results all that its kernel may know of: one
        that a rewrite inside the kernel makes appear may not have been computed yet."""
        stored = self.stored
        own = dict.fromkeys(each.form for each in group.results)

        def operands(form: Form) -> tuple[Form, ...]:
            return () if form in stored and form not in own else children(form)

        found = walk(tuple(own), operands)
        return {form: stored[form] for form in found if form in stored and form not in own}


# --- what may be stored


def trivial(form: Form) -> bool:
    """Values that are never stored: leaves, numbers, coordinates, and integers made of those."""
    if isinstance(form, Leaf | Const | Size | Coordinate):
        return True
    return form.kind in ("int", "bool") and all(
        isinstance(each, Const | Size | Coordinate | Map) for each in walk((form,))
    )


def no_kernel(form: Form) -> str:
    """Why a form has no kernel, or ""."""
    if form.kind == "complex" or any(child.kind == "complex" for child in children(form)):
        return "complex values have no kernel yet"
    if isinstance(
        form, Map | When | Otherwise | At | Reduce | AsIf | OnGradient | Leaf | Const | Size | Coordinate
    ):
        return ""
    if isinstance(form, Place):
        data = any(isinstance(each, Leaf) for each in walk(index for _, index in form.indices))
        where = "depend on data (a scatter)" if data else "no equation gives as reads"
        return f"it adds up at positions that {where}"
    return f"{type(form).__name__.lower()} has no kernel yet"

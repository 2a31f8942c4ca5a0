"""A strategy of attention over unions of domains: each of them must run as one kernel."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from attention_family import scaled, side, visible
from plait.dsl.constructors import build
from plait.dsl.program import (
    BATCH,
    Axis,
    Const,
    Coordinate,
    Declaration,
    Form,
    Leaf,
    Output,
    Program,
)
from plait.dsl.shapes.size_forms import Sizes
from strategies import Draw, Example, axis_sizes, with_tensors
from writer import Axes, Writer, add, mul


@dataclass(frozen=True)
class Domain:
    """Scores over `axes` beside those of the queries, what their weights meet (None: the normaliser only),
    and whether every query surely meets an entry."""

    score: Form
    axes: Axes
    value: Form | None
    surely: bool


class Drafting:
    """The leaves and domains of one program."""

    def __init__(self, writer: Writer, outer: Axes, queries: Axes) -> None:
        self.writer, self.outer, self.queries = writer, outer, queries
        self.d, self.e = Axis("d"), Axis("e")
        self.inputs: list[Leaf] = []
        self.gate: Leaf | None = None
        self.query = self.input("q", (*outer, *queries, self.d))

    def input(self, stem: str, axes: Axes, kind: str = "real") -> Leaf:
        name = stem if stem == "q" else self.writer.name(stem)
        leaf = Leaf("input", name, self.writer.shuffled(axes), "bool" if kind == "bool" else "real")
        self.inputs.append(leaf)
        return leaf

    def scored(self, key: Form) -> Form:
        return scaled(self.writer, build.reduce("sum", [(mul(self.query, key), (self.d,))]), self.d)

    def gated(self, weight: Form) -> Form:
        """The weights, perhaps times a number for every query or for all."""
        if not self.writer.chance(20):
            return weight
        if self.gate is None or self.writer.chance(50):
            self.gate = self.input(
                "g", self.writer.some([a for a in self.outer if a != BATCH] + [*self.queries])
            )
        return mul(self.gate, weight)

    # --- domains

    def tokens(self) -> Domain:
        """Keys among the queries' own tokens, in windows or all."""
        writer = self.writer
        radius = Const(writer.pick([1, 0, 2]))
        sides = [side(writer, axis, radius, (1,)) for axis in self.queries]
        reads = {each.query: each.key for each in sides}
        key, value = (self.input(stem, (*self.outer, *self.queries, last)) for stem, last in self.kinds())
        score = self.scored(build.at(key, reads))
        if writer.chance(30):
            score = add(score, mul(Const(-0.25), build.apply("abs", sides[0].offset)))
        where, keeps_self = visible(writer, sides)
        surely = keeps_self and all(each.centred for each in sides)
        over = tuple(each.reduced for each in sides)
        return Domain(masked(where, score), over, build.at(value, reads), surely)

    def kinds(self) -> tuple[tuple[str, Axis], tuple[str, Axis]]:
        return ("k", self.d), ("v", self.e)

    def apart(self) -> Domain:
        """Tokens of their own, along one axis or two, seen by all queries or by some, perhaps by none."""
        writer = self.writer
        own = tuple(Axis(writer.name("n")) for _ in range(writer.pick([1, 1, 2])))
        writer.sizes |= {axis: writer.pick([2, 1, 3, 7]) for axis in own}
        shared = writer.some([axis for axis in self.outer if axis != BATCH])
        (k, d), (v, e) = self.kinds()
        key, value = self.input(k, (*shared, *own, d)), self.input(v, (*shared, *own, e))
        score, here = self.scored(key), Coordinate(own[0])
        if writer.chance(40):
            score = add(score, writer.declare_parameter(own))
        masks = [
            lambda: (None, True),
            lambda: (build.apply("lt", here, Const(2)), True),
            lambda: (build.apply("le", here, Coordinate(self.queries[0])), True),
            lambda: (self.input("m", (*shared, own[0]), "bool"), False),
            lambda: (build.apply("lt", here, Const(0)), False),
        ]
        where, surely = writer.pick(masks)()
        meets = None if writer.chance(15) else value
        if meets is None:
            self.inputs.remove(value)
        return Domain(masked(where, score), own, meets, surely)

    def single(self) -> Domain:
        """One entry: a learned number, or a token that every query sees; of the normaliser only, or with a value."""
        writer = self.writer
        named = tuple(axis for axis in self.outer if axis != BATCH)
        scores = [
            lambda: writer.declare_parameter(writer.some(named)),
            lambda: self.scored(self.input("k", (self.d,))),
            lambda: mul(Const(0.5), self.input("k", (*named, *self.queries))),
        ]
        value = self.input("v", (*writer.some(named), self.e)) if writer.chance(60) else None
        score = writer.pick(scores)()
        where = build.apply("gt", Coordinate(self.queries[0]), Const(0)) if writer.chance(20) else None
        return Domain(masked(where, score), (), value, where is None)


def masked(where: Form | None, score: Form) -> Form:
    return score if where is None else build.when(where, score)


@st.composite
def union_examples(draw: Draw, *, most: int = 7) -> Example:
    """Two or three domains under one normaliser: windows and tokens apart first, then anything."""
    queries = tuple(Axis(name) for name in "hw"[: draw(st.integers(1, 2))])
    sizes: Sizes = {axis: draw(axis_sizes(most)) for axis in (*queries, Axis("d"), Axis("e"))}
    outer = draw(st.sampled_from([(), (BATCH,), (Axis("b"),), (BATCH, Axis("m"))]))
    sizes |= {axis: draw(axis_sizes(3)) for axis in outer if axis != BATCH}
    if BATCH in outer:
        sizes[BATCH] = tuple(draw(st.lists(st.sampled_from([2, 1, 0]), max_size=2)))
    writer = Writer(draw, sizes, ())
    drafting = Drafting(writer, outer, queries)
    kinds = [Drafting.tokens, Drafting.apart, Drafting.single]
    first = writer.pick([Drafting.tokens, Drafting.apart])(drafting)
    domains = [first, *(writer.pick(kinds)(drafting) for _ in range(writer.pick([1, 2])))]
    if all(each.value is None or not each.axes for each in domains):
        domains.append(drafting.tokens())
    return draw(with_tensors(assembled(drafting, writer.shuffled(domains)), sizes))


def assembled(drafting: Drafting, domains: tuple[Domain, ...]) -> Program:
    writer = drafting.writer
    weights = build.softmax([(each.score, each.axes) for each in domains])
    pairs = [(each, weight) for each, weight in zip(domains, weights, strict=True) if each.value is not None]
    pieces = [
        (mul(drafting.gated(weight), each.value), each.axes, each.surely)
        for each, weight in pairs
        if each.value is not None
    ]
    if writer.chance(60):
        value = build.reduce("sum", [(form, axes) for form, axes, _ in pieces])
        total = any(surely for _, _, surely in pieces)
        value = value if total and writer.chance(70) else build.otherwise(value, Const(0.0))
    else:
        value = added(writer, pieces)
    wider = set(drafting.query.over) - {drafting.d} | {drafting.e}
    assert set(value.axes) == wider
    return Program(
        "unions",
        inputs=tuple(Declaration(leaf, tuple((axis,) for axis in leaf.over)) for leaf in drafting.inputs),
        outputs=(Output("out", value, tuple((axis,) for axis in writer.shuffled(value.axes))),),
        parameters=tuple(writer.declarations),
    )


def added(writer: Writer, pieces: list[tuple[Form, Axes, bool]]) -> Form:
    """The sums of the domains added up: what may be absent counts as 0."""
    total: Form | None = None
    for form, axes, surely in pieces:
        one = build.reduce("sum", [(form, axes)]) if axes else form
        if not surely or writer.chance(20):
            one = build.otherwise(one, Const(0.0))
        total = one if total is None else add(total, one)
    assert total is not None
    return total

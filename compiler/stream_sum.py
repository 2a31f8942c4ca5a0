"""The schedule of streaming sums: tiles of queries stay, keys pass by, and every entry has contractions of
its own, computed where they are summed.

    s = dot[d](K, Q)   (as many as there are)      p = any pointwise value of s, statistics, coordinates
    sum of values      acc + dot[keys](V, p)
    sum               norm + sum[keys](p)
    lse               the running maximum and the sum over it

An entry that is absent is 0 in the sums and -inf under the maximum. Chunks are visited in one order, so a
result does not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..dsl.program import Axis, Form
from .kernel import Carry, Operand, RealType
from .kernel_builder import INF, Builder, Tile
from .key_stream import KeyStream
from .lower import Env, Lowering
from .plan import Stored
from .reductions import CHUNKED
from .schedule import StreamSchedule
from .sum_family import StreamedSum
from .work import word_of
from .written import Written


def sum_kernel(
    name: str,
    result: Stored,
    match: StreamedSum,
    stored: Mapping[Form, Stored],
    known: Mapping[Axis, int],
    real: RealType,
    schedule: StreamSchedule,
) -> Written:
    """The kernel of a group whose result is the reduction of `match` or pointwise in it."""
    others = {form: each for form, each in stored.items() if form != result.form}
    return StreamingSum(name, result, match, Lowering(Builder(real), known, others), schedule).write()


@dataclass(slots=True)
class StreamingSum(KeyStream[StreamedSum]):
    """Sums whose entries have contractions of their own."""

    def stream(self, inside: Operand) -> None:
        match, builder, lowering = self.match, self.builder, self.lowering
        queries = [lowering.value(each.query, self.env, inside).value for each in match.inner]
        keys = {key: lowering.coordinate(key.axis, f"{word_of(key.axis)}_key") for key in match.keys}
        axes = self._loops(keys)
        over = tuple(keys.values())
        state = self._carried()
        lowering.open(over)
        env = dict(self.env) | {key.over: self._moved(key, name) for key, name in keys.items()}
        there = builder.both(*(f"{name}.valid" for name in over))
        window = self._windows(keys, env)
        guard = builder.both(inside, there, window)
        visible = builder.both(window, self._predicates(match.predicates, env, guard), there)
        for each, query in zip(match.inner, queries, strict=True):
            read = self._read(each.key, keys, env, there)
            channels = tuple(str(env[axis]) for axis in each.channels)
            score = builder.dot("score", str(read.value), str(query), channels, None, None)
            lowering.bind(each.form, env, Tile(score, read.present))
        for form, side in match.statistics:
            lowering.bind(form, env, self._read(side, keys, env, there))
        weights = [lowering.value(each, env, guard) for each in match.weights]
        values = [self._read(side, keys, env, there) for side in match.values]
        step = self._step(weights, values, visible, over, env, state)
        inits = self._inits()
        carries = tuple(
            Carry(str(name), init, new, builder.axes_of[str(name)], builder.kind_of[str(name)])
            for name, init, new in zip(state, inits, step, strict=True)
        )
        lowering.close(axes, carries, visible)
        self._finish(state)

    # --- what is carried

    def _carried(self) -> list[Operand]:
        """The names of the carried values, the last whether any entry was there."""
        rows = tuple(str(self.env[axis]) for axis in self.tiles)
        if self.match.root.op == "lse":
            names = [self.builder.carry(each, rows, "real") for each in ("top", "norm")]
        else:
            outputs = (str(self.env[axis]) for axis in self.match.outputs)
            names = [self.builder.carry("acc", (*rows, *outputs), "real")]
        return [*names, self.builder.carry("seen", rows, "bool")]

    def _inits(self) -> tuple[Operand, ...]:
        return (-INF, 0.0, False) if self.match.root.op == "lse" else (0.0, False)

    def _step(
        self,
        weights: list[Tile],
        values: list[Tile],
        visible: Operand,
        over: tuple[str, ...],
        env: Env,
        state: list[Operand],
    ) -> list[Operand]:
        """The carried values after a chunk. An entry is there where all that it is made of is."""
        builder, root = self.builder, self.match.root
        known = builder.conjuncts(visible)
        parts = builder.conjuncts(builder.both(*(each.present for each in (*weights, *values))))
        data = builder.both(*(each for each in parts if each not in known))
        met = builder.both(visible, data)
        seen = builder.let("or", state[-1], self._met(met, over), kind="bool")
        entries = [self._entry(each.value, visible, data, over) for each in weights]
        if not values:
            rule = CHUNKED[root.op](builder, root)
            part = rule.chunk(Tile(entries[0]), over, env)
            return [*rule.joined(list(state), part)[:-1], seen]
        grown = str(state[0])
        for entry, value in zip(entries, values, strict=True):
            grown = self._grown(str(value.value), str(entry), over, grown, None, met)
        return [grown, seen]

    def _entry(self, weight: Operand, visible: Operand, data: Operand, over: tuple[str, ...]) -> Operand:
        """A weight, neutral where the entry is absent, over all lanes and keys."""
        neutral = -INF if self.match.root.op == "lse" else 0.0
        entry = self.builder.let("select", visible, weight, neutral, kind="real", wish="entry")
        entry = self.builder.let("select", data, entry, neutral, kind="real", wish="entry")
        return self._over(entry, over, neutral)

    def _finish(self, state: list[Operand]) -> None:
        rule = CHUNKED[self.match.root.op](self.builder, self.match.root)
        result = rule.finish(list(state))
        self.lowering.bind(self.match.root, self.env, result)

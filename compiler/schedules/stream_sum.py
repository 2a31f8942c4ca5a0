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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ...dsl.program import Axis, Form, Reduce, children, walk
from ..fusion.plan import Stored
from ..fusion.sum_family import StreamedSum
from ..kernels.kernel import Carry, Operand, RealType, StreamAxis
from ..kernels.kernel_builder import INF, Builder, Tile
from ..kernels.written import Written
from .key_stream import KeyStream, widest
from .lower import Env, Lowering
from .reductions import CHUNKED
from .schedule import StreamSchedule


def sum_kernel(
    name: str,
    result: Stored,
    match: StreamedSum,
    stored: Mapping[Form, Stored],
    known: Mapping[Axis, int],
    real: RealType,
    schedule: StreamSchedule,
    also: Mapping[Stored, StreamedSum],
) -> Written:
    """The kernel of a group whose result is the reduction of `match` or pointwise in it. `also` are
    further results, sums past the same keys."""
    own = {result.form, *(each.form for each in also)}
    others = {form: each for form, each in stored.items() if form not in own}
    lowering = Lowering(Builder(real), known, others)
    together = (match, *also.values())
    whole = _needed(_united(together), together, others)
    schedule = schedule.of_entries() if any(each.wide for each in together) else schedule
    wide = (each.channels for each in whole.inner)
    schedule = schedule.of_channels(widest((*wide, *(each.outputs for each in together)), known))
    return StreamingSum(name, result, whole, lowering, schedule, tuple(also), together=together).write()


def _united(matches: Sequence[StreamedSum]) -> StreamedSum:
    """A match with all that some of them read, and with the outputs of all."""
    return replace(
        matches[0],
        inner=tuple({each.form: each for match in matches for each in match.inner}.values()),
        statistics=tuple(
            {form: (form, side) for match in matches for form, side in match.statistics}.values()
        ),
        folds=tuple(dict.fromkeys(fold for match in matches for fold in match.folds)),
        outputs=tuple(dict.fromkeys(axis for match in matches for axis in match.outputs)),
    )


def _needed(whole: StreamedSum, matches: Sequence[StreamedSum], stored: Mapping[Form, Stored]) -> StreamedSum:
    """The match without statistics that only a stored value is made of: it is read in their place, and they may be
    no tensors."""

    def operands(form: Form) -> tuple[Form, ...]:
        return () if form in stored else children(form)

    met = set(walk([form for each in matches for form in (*each.weights, *each.predicates)], operands))
    return replace(whole, statistics=tuple(each for each in whole.statistics if each[0] in met))


@dataclass(slots=True)
class StreamingSum(KeyStream[StreamedSum]):
    """Sums whose entries have contractions of their own: those of `together`, past the same keys."""

    together: tuple[StreamedSum, ...] = ()

    def stream(self, inside: Operand) -> None:
        match, builder, lowering = self.match, self.builder, self.lowering
        queries = [lowering.value(each.query, self.env, inside) for each in match.inner]
        keys = self._keys(match.keys)
        axes = self._loops(keys, match.predicates)
        over = tuple(keys.values())
        states = [self._carried(each) for each in self.together]
        lowering.open(over)
        env = dict(self.env) | {key.over: self._moved(key, name) for key, name in keys.items()}
        there = builder.both(*(f"{name}.valid" for name in over))
        visible = self._visible(keys, env, match.predicates, inside)
        guard = self._reach(keys, env, inside, visible)
        for each, query in zip(match.inner, queries, strict=True):
            read = self._read(each.key, keys, env, there)
            lowering.bind(each.form, env, self._contracted(each.channels, query, read))
        for form, side in match.statistics:
            lowering.bind(form, env, self._read(side, keys, env, there))
        steps: list[Operand] = []
        for each, state in zip(self.together, states, strict=True):
            weights = [lowering.value(weight, env, guard) for weight in each.weights]
            values = [self._read(side, keys, env, there) for side in each.values]
            steps += self._step(each, weights, values, visible, over, env, state)
        self._close(axes, states, steps, visible)

    def _close(
        self, axes: tuple[StreamAxis, ...], states: list[list[str]], steps: list[Operand], visible: Operand
    ) -> None:
        builder = self.builder
        inits = [init for each in self.together for init in _inits(each.root)]
        names = [name for state in states for name in state]
        carries = tuple(
            Carry(name, init, new, builder.axes_of[name], builder.kind_of[name])
            for name, init, new in zip(names, inits, steps, strict=True)
        )
        self.lowering.close(axes, carries, visible)
        for each, state in zip(self.together, states, strict=True):
            result = CHUNKED[each.root.op](builder, each.root).finish(list(state))
            self.lowering.bind(each.root, self.env, result)

    def _carried(self, match: StreamedSum) -> list[str]:
        """The names of the carried values, the last whether any entry was there."""
        rows = tuple(str(self.env[axis]) for axis in self.tiles)
        whole = (*rows, *self._places(match))
        if match.root.op == "lse":
            names = [self.builder.carry(each, rows, "real") for each in ("top", "norm")]
        else:
            names = [self.builder.carry("acc", whole, "real")]
        differing = match.wide or any(self._differs(side, match.outputs) for side in match.values)
        return [*names, self.builder.carry("seen", whole if differing else rows, "bool")]

    def _places(self, match: StreamedSum) -> tuple[str, ...]:
        return tuple(str(self.env[axis]) for axis in match.outputs)

    def _step(
        self,
        match: StreamedSum,
        weights: list[Tile],
        values: list[Tile],
        visible: Operand,
        over: tuple[str, ...],
        env: Env,
        state: list[str],
    ) -> list[Operand]:
        """The carried values after a chunk. An entry is there where all that it is made of is, which may differ
        from output to output."""
        builder, root = self.builder, match.root
        known = builder.conjuncts(visible)
        present = builder.both(*(each.present for each in (*weights, *values)))
        own, shared = (True, present) if match.wide else self._split(present, self._places(match))
        parts = builder.conjuncts(shared)
        data = builder.both(*(each for each in parts if each not in known))
        met = builder.both(visible, data)
        some = self._met(met, over) if own is True else self._together(own, self._of_lanes(met), over)
        seen = builder.let("or", state[-1], some, kind="bool")
        neutral = -INF if root.op == "lse" else 0.0
        entries = [self._entry(each.value, visible, data, over, neutral) for each in weights]
        if not values:
            rule = CHUNKED[root.op](builder, root)
            part = rule.chunk(Tile(entries[0]), over, env)
            return [*rule.joined(list(state), part)[:-1], seen]
        grown = state[0]
        for entry, value in zip(entries, values, strict=True):
            there = builder.let("select", own, value.value, 0.0, kind="real")
            grown = self._grown(str(there), str(entry), over, grown, None, met)
        return [grown, seen]

    def _entry(
        self, weight: Operand, visible: Operand, data: Operand, over: tuple[str, ...], neutral: float
    ) -> Operand:
        """A weight, neutral where the entry is absent, over all lanes and keys."""
        entry = self.builder.let("select", visible, weight, neutral, kind="real", wish="entry")
        entry = self.builder.let("select", data, entry, neutral, kind="real", wish="entry")
        return self._over(entry, over, neutral)


def _inits(root: Reduce) -> tuple[Operand, ...]:
    return (-INF, 0.0, False) if root.op == "lse" else (0.0, False)

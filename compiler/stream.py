"""The streaming schedule: tiles of queries stay, keys stream past, softmax runs online.

    top, norm, acc      the running maximum, the sum of weights and the weighted sum of values over
                        the keys seen so far, the latter two relative to exp(top)

A key that a query does not see weighs exp(-inf - base) = 0; whether a query saw any key at all is
a carried bool of its own, kept only where something reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..dsl.program import Axis, Form
from .attention_family import Attention
from .kernel import Carry, Operand, RealType
from .kernel_builder import INF, Builder, Tile
from .key_stream import KeyStream
from .lower import Lowering
from .plan import Stored
from .schedule import StreamSchedule
from .work import word_of
from .written import Written


def stream_kernel(
    name: str,
    result: Stored,
    match: Attention,
    stored: Mapping[Form, Stored],
    known: Mapping[Axis, int],
    real: RealType,
    schedule: StreamSchedule,
) -> Written:
    """The kernel of a group whose result is the reduction of `match` or pointwise in it."""
    others = {form: each for form, each in stored.items() if form != result.form}
    return Streaming(name, result, match, Lowering(Builder(real), known, others), schedule).write()


@dataclass(slots=True)
class Streaming(KeyStream[Attention]):
    """Online softmax, and a sum of values under its weights."""

    def stream(self, inside: Operand) -> None:
        match, builder, lowering = self.match, self.builder, self.lowering
        query = lowering.value(match.query, self.env, inside).value if match.query is not None else None
        keys = {key: lowering.coordinate(key.axis, f"{word_of(key.axis)}_key") for key in match.keys}
        stream = tuple(self._bounds(key, name, i) for i, (key, name) in enumerate(keys.items()))
        rows = tuple(str(self.env[axis]) for axis in self.tiles)
        outputs = tuple(str(self.env[axis]) for axis in match.outputs)
        top, norm = builder.carry("top", rows, "real"), builder.carry("norm", rows, "real")
        acc, seen = builder.carry("acc", (*rows, *outputs), "real"), builder.carry("seen", rows, "bool")
        lowering.open(tuple(keys.values()))
        env = dict(self.env) | {key.over: self._moved(key, name) for key, name in keys.items()}
        there = builder.both(*(f"{name}.valid" for name in keys.values()))
        visible = builder.both(
            self._windows(keys, env), self._predicates(env, builder.both(inside, there)), there
        )
        key_tile = self._read(match.key_side, keys, env, there) if match.key_side is not None else None
        value_tile = self._read(match.value_side, keys, env, there)
        if match.dot is not None and key_tile is not None:
            channels = tuple(str(self.env[axis]) for axis in match.channels)
            s = builder.dot("score", str(key_tile.value), str(query), channels, None, None)
            lowering.bind(match.dot, env, Tile(s))
        guard = builder.both(inside, there)
        score = lowering.value(match.score, env, guard)
        data = builder.both(score.present, key_tile.present if key_tile is not None else True)
        fold = tuple(keys.values())
        step = self._online(score.value, visible, data, value_tile, fold, (top, norm, acc, seen))
        inits: tuple[Operand, ...] = (-INF, 0.0, 0.0, False)
        shapes = (rows, rows, (*rows, *outputs), rows)
        carries = tuple(
            Carry(name, init, new, axes, builder.kind_of[name])
            for name, init, new, axes in zip((top, norm, acc, seen), inits, step, shapes, strict=True)
        )
        lowering.close(stream, carries, visible)
        mixed = builder.let("div", acc, norm, kind="real", wish="mixed")
        for factor in match.factors:
            scale = lowering.value(factor, self.env, inside)
            mixed = builder.let("mul", mixed, scale.value, kind="real")
            seen = str(builder.both(seen, scale.present))
        lowering.bind(match.root, self.env, Tile(mixed, seen))

    def _online(
        self,
        score: Operand,
        visible: Operand,
        data: Operand,
        value: Tile,
        over: tuple[str, ...],
        carried: tuple[str, str, str, str],
    ) -> tuple[Operand, ...]:
        """One chunk of online softmax: the next top, norm, acc and seen."""
        builder = self.builder
        top, norm, acc, seen = carried

        def let(op: str, *args: Operand, wish: str = "") -> Operand:
            return builder.let(op, *args, kind="real", wish=wish)

        shown = let("select", visible, score, -INF, wish="shown")
        shown = shown if data is True else let("select", data, shown, -INF, wish="shown")
        shown = self._over(shown, over)
        high = let("maximum", top, builder.fold_axes("max", shown, over, "real", "chunk_top"), wish="high")
        endless = builder.let("eq", let("abs", high), INF, kind="bool", wish="endless")
        base = let("select", endless, 0.0, high, wish="base")
        shrink = let("exp", let("sub", top, base), wish="shrink")
        weight = let("exp", let("sub", shown, base), wish="weight")
        chunk_norm = builder.fold_axes("sum", weight, over, "real", "chunk_norm")
        more = let("add", let("mul", norm, shrink), chunk_norm)
        if value.present is not True:
            weight = let("select", value.present, weight, 0.0, wish="weight")
        met = builder.both(visible, data, value.present)
        grown = self._grown(str(value.value), str(weight), over, acc, shrink, met)
        any_met = self._met(met, over)
        return high, more, grown, builder.let("or", seen, any_met, kind="bool")

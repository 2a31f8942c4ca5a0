"""The streaming schedule: tiles of queries stay, the keys of one domain after another pass by, and softmax
runs online.

    top, norm, acc      the running maximum, the sum of weights and the weighted sum of values over
                        the keys seen so far, the latter two relative to exp(top)

A key that a query does not see weighs exp(-inf - base) = 0; whether a query saw any key at all is
a bool of its own for each sum that is asked for, kept only where something reads it. The next domain
begins where this one ends: the scores of a union are never in memory together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ...dsl.program import Axis, Form
from ..fusion.attention_family import Attention, Domain
from ..fusion.keys import Key
from ..fusion.plan import Stored
from ..kernels.kernel import Carry, Let, Operand, RealType
from ..kernels.kernel_builder import INF, Builder, Tile
from ..kernels.written import Written
from .key_stream import KeyStream, widest
from .lower import Env, Lowering
from .schedule import StreamSchedule


def stream_kernel(
    name: str,
    result: Stored,
    match: Attention,
    stored: Mapping[Form, Stored],
    known: Mapping[Axis, int],
    real: RealType,
    schedule: StreamSchedule,
    also: tuple[Stored, ...] = (),
) -> Written:
    """The kernel of a group whose result is the root of `match` or pointwise in it. `also` may be its
    normaliser, and what is pointwise in that."""
    own = {result.form, *(each.form for each in also)}
    others = {form: each for form, each in stored.items() if form not in own}
    if any(each.entry is not None for each in match.domains):
        schedule = schedule.of_entries()
    schedule = schedule.of_channels(
        widest((match.outputs, *(each.channels for each in match.domains)), known)
    )
    return Streaming(name, result, match, Lowering(Builder(real), known, others), schedule, also).write()


@dataclass(frozen=True, slots=True)
class Running:
    """What is known after some domains; `seen` has one entry a term of the result, and `some` says whether
    there was any score, True where nobody asks."""

    top: Operand
    norm: Operand
    acc: Operand
    some: Operand
    seen: tuple[Operand, ...]


@dataclass(frozen=True, slots=True)
class Entries:
    """Of the entries of one chunk: the score, where a mask shows it, where it exists, and what its weight
    meets, read once a key (`values`), once a query (`value`) or made once a pair (`entry`), where a mask shows that,
    and what scales it."""

    score: Operand
    visible: Operand
    there: Operand
    values: Tile | None
    value: Tile | None
    entry: Tile | None
    shown: Operand
    scale: Tile


@dataclass(slots=True)
class Streaming(KeyStream[Attention]):
    """Online softmax, and a sum of values under its weights. `scale` is what the scores still lack."""

    scale: float = 1.0

    @property
    def outputs(self) -> tuple[str, ...]:
        return tuple(str(self.env[axis]) for axis in self.match.outputs)

    @property
    def rows(self) -> tuple[str, ...]:
        return tuple(str(self.env[axis]) for axis in self.tiles)

    def stream(self, inside: Operand) -> None:
        match = self.match
        asked = any(each.presence or each.form != match.normaliser for each in self.also)
        running = Running(-INF, 0.0, 0.0, not asked, (False,) * len(match.lenient))
        # A single entry costs least where the sums are divided anyway.
        for domain in sorted(match.domains, key=lambda each: not each.keys):
            running = self._through(domain, running, inside)
        self.lowering.bind(match.root, self.env, self._finished(running, inside))
        if self.also:
            self.lowering.bind(match.normaliser, self.env, Tile(self._normaliser(running), running.some))

    def _through(self, domain: Domain, before: Running, inside: Operand) -> Running:
        """The running values after a domain."""
        lowering, builder = self.lowering, self.builder
        query = lowering.value(domain.query, self.env, inside) if domain.query is not None else None
        value = lowering.value(domain.value, self.env, inside) if domain.value is not None else None
        if not domain.keys:
            return self._step(
                self._entries(domain, {}, self.env, inside, query, value), (), before, domain.term
            )
        keys = self._keys(domain.keys)
        axes = self._loops(keys, domain.predicates)
        carried = self._carried(before, domain.term)
        names, fold = tuple(self._names(carried, domain.term)), tuple(keys.values())
        lowering.open(fold)
        env = dict(self.env) | {key.over: self._moved(key, name) for key, name in keys.items()}
        met = self._entries(domain, keys, env, inside, query, value)
        after = self._step(met, fold, carried, domain.term)
        inits, nexts = self._names(before, domain.term), self._names(after, domain.term)
        carries = tuple(
            Carry(str(name), init, new, builder.axes_of[str(name)], builder.kind_of[str(name)])
            for name, init, new in zip(names, inits, nexts, strict=True)
        )
        lowering.close(axes, carries, met.visible)
        return carried

    def _carried(self, before: Running, term: int | None) -> Running:
        """Names for the running values inside a stream; a term that the domain does not move stays."""
        builder, rows = self.builder, self.rows
        top, norm = builder.carry("top", rows, "real"), builder.carry("norm", rows, "real")
        acc = builder.carry("acc", (*rows, *self.outputs), "real")
        own = (*rows, *self.outputs) if term is not None and self._differing(term) else rows
        seen = [
            builder.carry("seen", own, "bool") if i == term else each for i, each in enumerate(before.seen)
        ]
        some = before.some if before.some is True else builder.carry("some", rows, "bool")
        return Running(top, norm, acc, some, tuple(seen))

    def _names(self, running: Running, term: int | None) -> tuple[Operand, ...]:
        """What of the running values a domain moves."""
        seen = () if term is None else (running.seen[term],)
        some = () if running.some is True else (running.some,)
        return (running.top, running.norm, running.acc, *some, *seen)

    # --- the entries of a chunk

    def _entries(
        self, domain: Domain, keys: Mapping[Key, str], env: Env, inside: Operand,
        query: Tile | None, value: Tile | None,
    ) -> Entries:  # fmt: skip
        builder, lowering = self.builder, self.lowering
        there = builder.both(*(f"{name}.valid" for name in keys.values()))
        visible = self._visible(keys, env, domain.predicates, inside)
        guard = self._reach(keys, env, inside, visible)
        key_tile = self._read(domain.key_side, keys, env, there) if domain.key_side is not None else None
        values = self._read(domain.value_side, keys, env, there) if domain.value_side is not None else None
        if domain.dot is not None and query is not None:
            lowering.bind(domain.dot, env, self._contracted(domain.channels, query, key_tile))
        score = lowering.value(domain.score, env, guard)
        shown = self._predicates(domain.shown, env, guard)
        entry = lowering.value(domain.entry, env, guard) if domain.entry is not None else None
        scale = self._scale(domain, inside)
        return Entries(score.value, visible, score.present, values, value, entry, shown, scale)

    def _scale(self, domain: Domain, inside: Operand) -> Tile:
        """The factors of a domain that no key changes."""
        product: Operand = 1.0
        present: Operand = True
        for each in domain.scales:
            tile = self.lowering.value(each, self.env, inside)
            product = (
                self.builder.let("mul", product, tile.value, kind="real") if product != 1.0 else tile.value
            )
            present = self.builder.both(present, tile.present)
        return Tile(product, present)

    # --- online softmax

    def _step(self, met: Entries, over: tuple[str, ...], before: Running, term: int | None) -> Running:
        """One chunk of online softmax."""
        builder = self.builder

        def let(op: str, *args: Operand, wish: str = "") -> Operand:
            return builder.let(op, *args, kind="real", wish=wish)

        score = self._unscaled(met.score)
        shown = let("select", met.visible, score, -INF, wish="shown")
        shown = let("select", met.there, shown, -INF, wish="shown")
        shown = self._over(shown, over) if over else shown
        high = let("maximum", before.top, self._folded("max", shown, over, "chunk_top"), wish="high")
        endless = builder.let("eq", let("abs", high), INF, kind="bool", wish="endless")
        base = let("select", endless, 0.0, high, wish="base")
        shrink = let("exp", self._scaled(let("sub", before.top, base)), wish="shrink")
        weight = let("exp", self._scaled(let("sub", shown, base)), wish="weight")
        more = let("add", let("mul", before.norm, shrink), self._folded("sum", weight, over, "chunk_norm"))
        after = replace(before, top=high, norm=more)
        if before.some is not True:
            scored = builder.both(met.visible, met.there)
            some = builder.let("or", before.some, self._met(scored, over) if over else scored, kind="bool")
            after = replace(after, some=some)
        return self._weighed(met, over, weight, shrink, after, term)

    def _unscaled(self, score: Operand) -> Operand:
        """A score without its factor, which meets the difference from the maximum instead: on a GPU the
        exponential multiplies anyway. Where there are several domains each may have a factor of its own."""
        if self.schedule.flat and len(self.match.domains) == 1 and isinstance(score, str):
            match self.builder.definition(score):
                case (
                    Let(op="mul", args=(str() as plain, float() as factor))
                    | Let(op="mul", args=(float() as factor, str() as plain))
                ) if 0.0 < factor < INF and self.builder.kind(plain) == "real":
                    self.scale = factor
                    return plain
                case _:
                    pass
        return score

    def _scaled(self, value: Operand) -> Operand:
        return value if self.scale == 1.0 else self.builder.let("mul", value, self.scale, kind="real")

    def _weighed(
        self, met: Entries, over: tuple[str, ...], weight: Operand, shrink: Operand, after: Running,
        term: int | None,
    ) -> Running:  # fmt: skip
        """The weighted values added, and where there were any."""
        builder = self.builder
        if term is None:
            return replace(after, acc=builder.let("mul", after.acc, shrink, kind="real"))
        meets = met.values or met.value or met.entry
        own, shared = self._split(meets.present, self.outputs) if meets is not None else (True, True)
        present = builder.both(met.shown, shared, met.scale.present)
        every = builder.both(met.visible, met.there, present)
        if met.scale.value != 1.0:
            scaled = builder.let("mul", weight, met.scale.value, kind="real")
            weight = builder.let("select", every, scaled, 0.0, kind="real", wish="weight")
        weight = builder.let("select", present, weight, 0.0, kind="real", wish="weight")
        some = self._met(every, over) if over else every
        if met.values is not None:
            value = builder.let("select", own, met.values.value, 0.0, kind="real")
            acc = self._grown(str(value), str(weight), over, str(after.acc), shrink, every)
            some = some if own is True else self._together(own, self._of_lanes(every), over)
        elif met.entry is not None:
            each = builder.both(every, own)
            product = builder.let("mul", weight, met.entry.value, kind="real")
            product = builder.let("select", each, product, 0.0, kind="real", wish="product")
            shrunk = builder.let("mul", after.acc, shrink, kind="real")
            acc = builder.let("add", shrunk, self._folded("sum", product, over, "grown"), kind="real")
            some = some if own is True else self._met(each, over)
        else:
            scaled = self._folded("sum", weight, over, "chunk_weight")
            some = builder.both(some, own)
            if met.value is not None:
                scaled = builder.let("mul", scaled, met.value.value, kind="real")
                scaled = builder.let("select", some, scaled, 0.0, kind="real")
            acc = builder.let("add", builder.let("mul", after.acc, shrink, kind="real"), scaled, kind="real")
        seen = tuple(
            builder.let("or", each, some, kind="bool") if i == term else each
            for i, each in enumerate(after.seen)
        )
        return replace(after, acc=acc, seen=seen)

    def _differing(self, term: int) -> bool:
        """Whether some values of a term are there at some of their channels only."""
        own = [each for each in self.match.domains if each.term == term and each.keys]
        if any(each.entry is not None for each in own):
            return True
        sides = [each.value_side for each in own]
        return any(self._differs(side, self.match.outputs) for side in sides if side is not None)

    def _folded(self, op: str, value: Operand, over: tuple[str, ...], wish: str) -> Operand:
        """A fold over the keys of a chunk; the value itself where there are none."""
        kind = "bool" if op == "any" else "real"
        return self.builder.fold_axes(op, value, over, kind, wish) if over else value

    def _normaliser(self, running: Running) -> Operand:
        """The log-sum-exp of all scores."""
        builder, top = self.builder, running.top
        endless = builder.let("eq", builder.let("abs", top, kind="real"), INF, kind="bool")
        base = builder.let("select", endless, 0.0, top, kind="real")
        log = builder.let("log", running.norm, kind="real")
        return builder.let("add", log, self._scaled(base), kind="real")

    def _finished(self, running: Running, inside: Operand) -> Tile:
        """The weighted mean, scaled, and where it is present: a sum that was asked for with `otherwise 0`
        is 0 where it met nothing, which is what it added."""
        builder, match = self.builder, self.match
        if match.root == match.normaliser:
            return Tile(self._normaliser(running), running.seen[0])
        mixed = builder.let("div", running.acc, running.norm, kind="real", wish="mixed")
        present: Operand = True
        for factor in match.factors:
            scale = self.lowering.value(factor, self.env, inside)
            mixed = builder.let("mul", mixed, scale.value, kind="real")
            present = builder.both(present, scale.present)
        strict = [seen for seen, lenient in zip(running.seen, match.lenient, strict=True) if not lenient]
        if strict:
            return Tile(mixed, builder.both(*strict, present))
        some: Operand = False
        for seen in running.seen:
            some = builder.let("or", some, seen, kind="bool")
        return Tile(builder.let("select", builder.both(some, present), mixed, 0.0, kind="real"))

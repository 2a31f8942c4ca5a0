"""How a reduction runs over a stream: one rule an operation, saying what is carried, how it starts,
goes on and ends. Absent entries are skipped; every rule knows whether anything was there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ...dsl.ops import Kind, join
from ...dsl.program import Axis, Reduce
from ..kernels.kernel import Operand
from ..kernels.kernel_builder import INF, Builder, Tile


@dataclass(slots=True)
class Rule:
    """`kinds` are the kinds of the carried values. `step` gets the carried names, the value of the
    piece and where its axes are; `finish` makes the result of the last carried values."""

    builder: Builder
    form: Reduce
    kinds: list[Kind]
    begin: list[Operand]

    def start(self) -> list[Operand]:
        return list(self.begin)

    def step(self, carried: list[Operand], tile: Tile, env: Mapping[Axis, Operand]) -> list[Operand]:
        raise NotImplementedError

    def finish(self, state: list[Operand]) -> Tile:
        raise NotImplementedError

    def let(self, op: str, *args: Operand, kind: Kind) -> Operand:
        return self.builder.let(op, *args, kind=kind)

    def of_piece(self, number: int) -> Rule:
        """The rule for the entries of one piece of a union."""
        return self

    def seen(self, before: Operand, tile: Tile) -> Operand:
        return self.let("or", before, tile.present, kind="bool")


class Folded(Rule):
    """sum, prod, max, min: a monoid, and whether anything was there."""

    def step(self, carried: list[Operand], tile: Tile, env: Mapping[Axis, Operand]) -> list[Operand]:
        op = {"sum": "add", "prod": "mul", "max": "maximum", "min": "minimum"}[self.form.op]
        kind = self.form.kind
        entry = self.let("select", tile.present, tile.value, self.begin[0], kind=kind)
        return [self.let(op, carried[0], entry, kind=kind), self.seen(carried[1], tile)]

    def finish(self, state: list[Operand]) -> Tile:
        return Tile(state[0], state[1])


class Counted(Rule):
    """count, any, all: total."""

    def step(self, carried: list[Operand], tile: Tile, env: Mapping[Axis, Operand]) -> list[Operand]:
        match self.form.op:
            case "count":
                one = self.let("select", tile.present, 1, 0, kind="int")
                return [self.let("add", carried[0], one, kind="int")]
            case "any":
                entry = self.builder.both(tile.present, tile.value)
                return [self.let("or", carried[0], entry, kind="bool")]
            case _:
                absent = self.let("not", tile.present, kind="bool")
                entry = self.let("or", absent, tile.value, kind="bool")
                return [self.let("and", carried[0], entry, kind="bool")]

    def finish(self, state: list[Operand]) -> Tile:
        return Tile(state[0])


class LogSumExp(Rule):
    """The running maximum and the sum of exponentials over it. Infinite maxima subtract nothing."""

    def step(self, carried: list[Operand], tile: Tile, env: Mapping[Axis, Operand]) -> list[Operand]:
        entry = self.let("select", tile.present, self.entry(tile), -INF, kind="real")
        top = self.let("maximum", carried[0], entry, kind="real")
        base = self.base(top)
        old = self.let("exp", self.let("sub", carried[0], base, kind="real"), kind="real")
        new = self.let("exp", self.let("sub", entry, base, kind="real"), kind="real")
        norm = self.let("add", self.let("mul", carried[1], old, kind="real"), new, kind="real")
        return [top, norm, self.seen(carried[2], tile)]

    def entry(self, tile: Tile) -> Operand:
        """The value as a real number, which its exponential is one of."""
        whole = self.builder.kind(tile.value) == "int"
        return self.let("to_real", tile.value, kind="real") if whole else tile.value

    def base(self, top: Operand) -> Operand:
        size = self.let("abs", top, kind="real")
        return self.let("select", self.let("eq", size, INF, kind="bool"), 0.0, top, kind="real")

    def finish(self, state: list[Operand]) -> Tile:
        log = self.let("log", state[1], kind="real")
        return Tile(self.let("add", log, self.base(state[0]), kind="real"), state[2])


@dataclass(slots=True)
class ArgMax(Rule):
    """The best value, whether there is one, and the index of the first best in row-major order; of a union, also
    whether it is an entry of the piece whose axis is asked for."""

    piece: int = 0

    def of_piece(self, number: int) -> Rule:
        return replace(self, piece=number)

    def step(self, carried: list[Operand], tile: Tile, env: Mapping[Axis, Operand]) -> list[Operand]:
        best, seen, index, *own = carried
        kind, x = self.kinds[0], tile.value
        better = self.let("gt", x, best, kind="bool")
        if kind == "real":
            nan = self.let(
                "and", self.let("ne", x, x, kind="bool"), self.let("eq", best, best, kind="bool"), kind="bool"
            )
            better = self.let("or", better, nan, kind="bool")
        first = self.let("not", seen, kind="bool")
        take = self.let("and", tile.present, self.let("or", first, better, kind="bool"), kind="bool")
        owner, axis = answered(self.form)
        here = self.piece == owner
        return [
            self.let("select", take, x, best, kind=kind),
            self.seen(seen, tile),
            self.let("select", take, env[axis] if here else 0, index, kind="int"),
            *(self.let("select", take, here, each, kind="bool") for each in own),
        ]

    def finish(self, state: list[Operand]) -> Tile:
        return Tile(state[2], self.builder.both(*state[1:2], *state[3:]))


def answered(form: Reduce) -> tuple[int, Axis]:
    """The axis that an argmax answers for, and the place of its piece."""
    listed = [(place, axis) for place, piece in enumerate(form.pieces) for axis in piece.axes]
    return listed[form.component]


LOWEST = -(2**63) + 1


def _folded(builder: Builder, form: Reduce) -> Rule:
    whole = form.kind == "int"
    start: dict[str, Operand] = {
        "sum": 0 if whole else 0.0,
        "prod": 1 if whole else 1.0,
        "max": LOWEST if whole else -INF,
        "min": -LOWEST if whole else INF,
    }
    return Folded(builder, form, [form.kind, "bool"], [start[form.op], False])


def _counted(builder: Builder, form: Reduce) -> Rule:
    start: dict[str, Operand] = {"count": 0, "any": False, "all": True}
    return Counted(builder, form, [form.kind], [start[form.op]])


def _argmax(builder: Builder, form: Reduce) -> Rule:
    kinds: list[Kind] = [piece.value.kind for piece in form.pieces]
    kind = join(*kinds)
    start: Operand = LOWEST if kind == "int" else -INF
    if len(form.pieces) == 1:
        return ArgMax(builder, form, [kind, "bool", "int"], [start, False, 0])
    return ArgMax(builder, form, [kind, "bool", "int", "bool"], [start, False, 0, False])


def _lse(builder: Builder, form: Reduce) -> Rule:
    return LogSumExp(builder, form, ["real", "real", "bool"], [-INF, 0.0, False])


REDUCTIONS: dict[str, Callable[[Builder, Reduce], Rule]] = {
    "sum": _folded, "prod": _folded, "max": _folded, "min": _folded, "lse": _lse,
    "count": _counted, "any": _counted, "all": _counted, "argmax": _argmax,
}  # fmt: skip


# --- the same by chunks


@dataclass(slots=True)
class Chunked(Rule):
    """`chunk` folds entries over tile axes into a state; `joined` puts two states together."""

    def chunk(self, tile: Tile, over: tuple[str, ...], env: Mapping[Axis, Operand]) -> list[Operand]:
        raise NotImplementedError

    def joined(self, before: list[Operand], part: list[Operand]) -> list[Operand]:
        raise NotImplementedError

    def folded(self, op: str, value: Operand, over: tuple[str, ...], mask: Operand) -> Operand:
        """A fold where there is something to fold over: an entry, or the neutral one, where not."""
        kind = self.builder.kind(value)
        neutral = _neutral(op, kind)
        for axis in over:
            if axis not in self.builder.axes((value, mask)):
                value = self.let("select", f"{axis}.valid", value, neutral, kind=kind)
        if over:
            return self.builder.fold_axes(op, value, over, kind, f"{self.form.op}_", mask)
        return self.let("select", mask, value, neutral, kind=kind)

    def any_present(self, tile: Tile, over: tuple[str, ...]) -> Operand:
        """Whether an entry is there. Axes that are folded are never empty where they are resident, and
        a chunk has at least one entry."""
        if not isinstance(tile.present, str):
            return tile.present
        there = self.builder.axes_of[tile.present]
        if not set(over) & set(there):
            return tile.present
        # Lanes are folded all together or not at all, so the others are given to it.
        lacking = (f"{axis}.valid" for axis in over if axis not in there)
        present = self.builder.both(tile.present, *lacking)
        return self.builder.fold_axes("any", str(present), over, "bool", "any")


class ChunkedFold(Folded, Chunked):
    def chunk(self, tile: Tile, over: tuple[str, ...], env: Mapping[Axis, Operand]) -> list[Operand]:
        value = self.folded(self.form.op, tile.value, over, tile.present)
        return [value, self.any_present(tile, over)]

    def joined(self, before: list[Operand], part: list[Operand]) -> list[Operand]:
        op = {"sum": "add", "prod": "mul", "max": "maximum", "min": "minimum"}[self.form.op]
        both = self.let(op, before[0], part[0], kind=self.form.kind)
        return [both, self.let("or", before[1], part[1], kind="bool")]


class ChunkedCount(Counted, Chunked):
    def chunk(self, tile: Tile, over: tuple[str, ...], env: Mapping[Axis, Operand]) -> list[Operand]:
        match self.form.op:
            case "count":
                return [self.folded("sum", 1, over, tile.present)]
            case "any":
                return [self.folded("any", tile.value, over, tile.present)]
            case _:
                return [self.folded("all", tile.value, over, tile.present)]

    def joined(self, before: list[Operand], part: list[Operand]) -> list[Operand]:
        op, kind = {"count": ("add", "int"), "any": ("or", "bool")}.get(self.form.op, ("and", "bool"))
        return [self.let(op, before[0], part[0], kind="int" if kind == "int" else "bool")]


class ChunkedLogSumExp(LogSumExp, Chunked):
    def chunk(self, tile: Tile, over: tuple[str, ...], env: Mapping[Axis, Operand]) -> list[Operand]:
        entry = self.entry(tile)
        top = self.folded("max", entry, over, tile.present)
        gap = self.let("sub", entry, self.base(top), kind="real")
        norm = self.folded("sum", self.let("exp", gap, kind="real"), over, tile.present)
        return [top, norm, self.any_present(tile, over)]

    def joined(self, before: list[Operand], part: list[Operand]) -> list[Operand]:
        top = self.let("maximum", before[0], part[0], kind="real")
        base = self.base(top)

        def scaled(state: list[Operand]) -> Operand:
            gap = self.let("sub", state[0], base, kind="real")
            return self.let("mul", state[1], self.let("exp", gap, kind="real"), kind="real")

        norm = self.let("add", scaled(before), scaled(part), kind="real")
        return [top, norm, self.let("or", before[2], part[2], kind="bool")]


def _neutral(op: str, kind: Kind) -> Operand:
    whole = kind == "int"
    table: dict[str, Operand] = {
        "sum": 0 if whole else 0.0,
        "prod": 1 if whole else 1.0,
        "max": LOWEST if whole else -INF,
        "min": -LOWEST if whole else INF,
        "any": False,
        "all": True,
    }
    return table[op]


def _chunked_fold(builder: Builder, form: Reduce) -> Chunked:
    start: list[Operand] = [_neutral(form.op, form.kind), False]
    return ChunkedFold(builder, form, [form.kind, "bool"], start)


def _chunked_count(builder: Builder, form: Reduce) -> Chunked:
    start: dict[str, Operand] = {"count": 0, "any": False, "all": True}
    return ChunkedCount(builder, form, [form.kind], [start[form.op]])


def _chunked_lse(builder: Builder, form: Reduce) -> Chunked:
    return ChunkedLogSumExp(builder, form, ["real", "real", "bool"], [-INF, 0.0, False])


CHUNKED: dict[str, Callable[[Builder, Reduce], Chunked]] = {
    "sum": _chunked_fold, "prod": _chunked_fold, "max": _chunked_fold, "min": _chunked_fold,
    "count": _chunked_count, "any": _chunked_count, "all": _chunked_count, "lse": _chunked_lse,
}  # fmt: skip
"""The reductions that fold by chunks; an argmax goes entry by entry."""

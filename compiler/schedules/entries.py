"""Where the entries of a streamed reduction lie: its loops run over these alone.

A read at `base + i`, one number of a tile away from a reduced axis i, streams over the axis that it reads, from
`base` to the end of i or of that axis, whichever is first: nothing is left to be tested of it. That is how the
parts of a long reduction end, the ragged last one too. Predicates of integers that every entry is under
(`when(t < n[b], x)`) are solved for the reduced axes, as for keys, over the tile: what is left is the mask.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ...dsl.constructors.build import apply
from ...dsl.program import AsIf, At, Axis, Const, Coordinate, Form, Map, OnGradient, When
from ..fusion.keys import Key
from ..kernels.kernel import Operand, StreamAxis
from ..kernels.kernel_builder import Tile
from ..rewrites.affine import affine, normal
from .lower import Env, Lowering
from .stream_bounds import Bounds


@dataclass(frozen=True, slots=True)
class Moved:
    """A reduced axis `over` that streams as `axis`, which is read at `index`; `base` is how far it is from there."""

    over: Axis
    axis: Axis
    index: Form
    base: Operand


@dataclass(slots=True)
class Entries:
    """The streams of one reduction. `names` are the tile axes of its reduced axes, `env` says where the other ones
    are, `wide` are the tile axes of more than one coordinate, `lanes` those of the grid that lie in the lanes."""

    lowering: Lowering
    value: Form
    names: Mapping[Axis, str]
    env: Env
    wide: Collection[str]
    lanes: tuple[str, ...]
    moves: dict[Axis, Moved] = field(default_factory=dict[Axis, Moved])

    def __post_init__(self) -> None:
        if isinstance(self.value, At):
            for axis, index in self.value.indices:
                self._move(self.value, axis, index)

    def _move(self, read: At, axis: Axis, index: Form) -> None:
        """Note a reduced axis that is read at one number of the tile beside it, and nowhere else."""
        builder = self.lowering.builder
        reading = affine(index)
        own = [each for each in self.names if each in index.axes]
        if reading is None or len(own) != 1 or reading.coefficients.get(own[0]) != Const(1):
            return
        rest = normal(apply("sub", index, Coordinate(own[0])))
        uses = [each for _, each in read.indices if own[0] in each.axes]
        if len(uses) > 1 or own[0] in read.value.axes or any(each not in self.env for each in rest.axes):
            return
        places = [self.env[each] for each in rest.axes]
        if not all(f"{at}.first" in builder.kind_of and at not in self.wide for at in places):
            return
        first = {each: f"{at}.first" for each, at in zip(rest.axes, places, strict=True)}
        base = self.lowering.value(rest, first, True)
        if base.present is True and not builder.axes((base.value,)):
            self.moves[own[0]] = Moved(own[0], axis, index, base.value)

    def bounded(self, streams: Sequence[StreamAxis]) -> tuple[StreamAxis, ...]:
        """The streams between the ends of their entries."""
        made = tuple(self._moved(each) for each in streams)
        predicates = tuple(each for each in _predicates(self._inner()) if each.axes)
        return tuple(self._trimmed(each, predicates) for each in made) if predicates else made

    def bind(self) -> Env:
        """Inside the streams: where the axes of an entry are. What is moved is read in range."""
        lowering, inner = self.lowering, {**self.env, **self.names}
        for move in self.moves.values():
            name = self.names[move.over]
            within = lowering.builder.let("sub", name, move.base, kind="int")
            inner[move.over] = within
            lowering.ranges[str(within)] = {lowering.range_key(move.over)}
            lowering.ranges[name] = {lowering.range_key(move.axis)}
        for move in self.moves.values():
            lowering.bind(move.index, inner, Tile(self.names[move.over]))
        return inner

    def _inner(self) -> Form:
        return self.value.value if self.moves and isinstance(self.value, At) else self.value

    def _moved(self, stream: StreamAxis) -> StreamAxis:
        """base + i from its start, to where i or the axis that is read ends."""
        lowering, let = self.lowering, self.lowering.builder.let
        move = next((each for each in self.moves.values() if self.names[each.over] == stream.name), None)
        if move is None:
            return stream
        start = let("add", move.base, stream.low, kind="int")
        stop = let("add", move.base, stream.stop, kind="int")
        lowest = lowering.low(move.axis)
        end = let("add", lowest, lowering.extent(move.axis), kind="int")
        if not _from_zero(move.index, lowest):
            start = let("maximum", start, lowest, kind="int")
        return replace(stream, low=start, stop=let("minimum", stop, end, kind="int"))

    def _trimmed(self, stream: StreamAxis, predicates: tuple[Form, ...]) -> StreamAxis:
        """What the predicates leave of a stream."""
        axes = {self.moves[a].axis if a in self.moves else a: name for a, name in self.names.items()}
        over = next(axis for axis, name in axes.items() if name == stream.name)
        moved = self.value.indices if self.moves and isinstance(self.value, At) else ()
        replaced = {axis for axis, _ in moved}
        own = {a: at for a, at in self.env.items() if a not in replaced and self._is_tile(at)}
        keys = tuple(Key(axis, axis, Coordinate(axis), 1, Const(0)) for axis in axes)
        bounds = Bounds(self.lowering, own, keys, self.lanes, {})
        key = next(each for each in keys if each.over == over)
        solved = [each for each in predicates if over in each.axes]
        start, stop = bounds.of(key, tuple(solved))
        let = self.lowering.builder.let
        return replace(
            stream,
            low=let("maximum", stream.low, start, kind="int"),
            stop=let("minimum", stream.stop, stop, kind="int"),
        )

    def _is_tile(self, place: Operand) -> bool:
        """Whether a place is a coordinate of the tile: one number, or a lane."""
        known = f"{place}.first" in self.lowering.builder.kind_of
        return known and (place not in self.wide or place in self.lanes)


def _from_zero(index: Form, lowest: Operand) -> bool:
    """Whether an index is certainly no less than the lowest one, 0: a sum of coordinates that are not negative."""
    reading = affine(index)
    if reading is None or lowest != 0 or reading.rest != Const(0):
        return False
    return all(axis.lo in (None, Const(0)) for axis in reading.coefficients)


def _predicates(form: Form) -> Iterator[Form]:
    """What holds wherever a value is present, of what stands in it as such."""
    stack, seen = [form], set[Form]()
    while stack:
        each = stack.pop()
        if each in seen:
            continue
        seen.add(each)
        match each:
            case When(predicate=predicate, value=value):
                yield predicate
                stack.append(value)
            case Map(args=args):
                stack += args
            case AsIf(value=value) | OnGradient(value=value):
                stack.append(value)
            case _:
                pass

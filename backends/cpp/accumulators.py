"""Sums of a stream, by blocks: a sum of reals has two accumulators a lane.

The first one takes the entries of some chunks and goes into the second, so that an entry goes through
chunk + BLOCK + n / chunk / BLOCK additions, not through n (blocked summation: N. J. Higham, Accuracy and Stability of
Numerical Algorithms, 2002, section 4.2). Where the lanes are the stream's own, they stay apart from chunk to chunk and
come together at the end, for other folds too. Where they are the grid's, the first accumulator is the carry itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ...compiler.kernels.kernel import Carry, Dot, Fold, Let, Statement, Stream
from ...dsl.ops import Kind
from .emit import TYPES, VECTORS, Text, mangle, operation, widen
from .folds import Folds
from .ops import FOLDS, IDENTITY, LANE_IDENTITY

TOGETHER = 64
"""Entries that the first accumulator of a lane takes, where they come one by one."""

BLOCK = 64
"""Chunks that a carry in the lanes takes before the second accumulator takes it."""


@dataclass(frozen=True, slots=True)
class Accumulator:
    """A `fold` over the lanes that joins a `carry` and nothing else. `steps` are the chunks after which the second
    accumulator takes the first one; 0: there is one only."""

    fold: Fold | Dot
    carry: Carry
    op: str
    kind: Kind
    rows: tuple[str, ...]
    steps: int

    @property
    def name(self) -> str:
        return mangle(self.fold.name)


class Accumulators(Folds):
    """Prints the accumulators of a stream around its loops."""

    __slots__ = ()

    @contextmanager
    def accumulating(self, stream: Stream) -> Iterator[None]:
        """Around the loops of a stream, once its carries have begun."""
        found = tuple(self._accumulators(stream))
        before = (self.accumulated, self.joined)
        self.accumulated |= {each.fold.name for each in found}
        self.joined |= {str(each.carry.next) for each in found if each.carry.next != each.fold.name}
        for each in found:
            self._declare(each)
        for carry in self._in_blocks(stream):
            self.out.add(f"long {mangle(carry.name)}_b = 0;")
        yield
        for each in found:
            self._bring_together(each)
        for carry in self._in_blocks(stream):
            with self.out.braces(f"if ({mangle(carry.name)}_b >= {BLOCK})"):
                self._each_vector_of(carry, "{h} + {t}", None)
        self.accumulated, self.joined = before

    def take_up(self, stream: Stream) -> None:
        """After a chunk: where it is time, the second accumulators take the first ones."""
        for each in self._accumulators(stream):
            if each.steps == 1:
                self._add_up(each)
            elif each.steps:
                with self.out.braces(f"if (++{each.name}_n == {each.steps})"):
                    self.out.add(f"{each.name}_n = 0;")
                    self._add_up(each)
        for carry in self._in_blocks(stream):
            with self.out.braces(f"if (++{mangle(carry.name)}_b % {BLOCK} == 0)"):
                with self.out.braces(f"if ({mangle(carry.name)}_b == {BLOCK})"):
                    self._each_vector_of(carry, "all(0)", "{h}")
                with self.out.braces("else"):
                    self._each_vector_of(carry, "all(0)", "{t} + {h}")

    # --- which

    def _accumulators(self, stream: Stream) -> Iterator[Accumulator]:
        own = {axis.name for axis in stream.axes}
        if stream.visible is not True or not self.wide_lanes or not own.issuperset(self.kernel.lanes):
            return
        for carry in stream.carries:
            fold = self._folded(stream, carry)
            if fold is None:
                continue
            op, kind = ("sum", "real") if isinstance(fold, Dot) else (fold.op, fold.kind)
            rows = self.layout.shapes[carry.name].rows
            entries = self.layout.size(self._rows_over(fold))
            steps = max(1, TOGETHER // entries) if (op, kind) == ("sum", "real") else 0
            yield Accumulator(fold, carry, op, kind, rows, steps)

    def _folded(self, stream: Stream, carry: Carry) -> Fold | Dot | None:
        """The fold of a chunk over the lanes that is joined to a carry, where nothing else reads the two before
        the stream ends, nor what they make together."""
        layout, made = self.layout, self.layout.definitions.get(str(carry.next))
        fold = self._joined(carry, made)
        if fold is None or not any(each is fold for each in stream.body) or not self.horizontal(fold):
            return None
        shapes = [layout.shapes[name] for name in (fold.name, carry.name)]
        fits = shapes[0] == shapes[1] and not shapes[0].lanes
        laned = any(layout.shape(item).lanes for item in layout.reads(fold))
        return fold if fits and laned and self._apart(stream, carry, made) else None

    def _joined(self, carry: Carry, made: Statement | Carry | None) -> Fold | Dot | None:
        """The fold that alone makes, together with a carry, what is carried next."""
        match made:
            case Dot(init=init, scale=None) if init == carry.name:
                return made
            case Let(args=(first, second)) if carry.name in (first, second):
                name = str(second if first == carry.name else first)
                fold = self.layout.definitions.get(name)
                if isinstance(fold, Fold) and FOLDS[fold.op] == made.op and self.layout.users[name] == [made]:
                    return fold
        return None

    def _within(self, statement: Statement, stream: Stream) -> bool:
        start, end = self.layout.position[id(stream)], self.layout.position[-id(stream)]
        return start < self.layout.position[id(statement)] < end

    def _rows_over(self, fold: Fold | Dot) -> tuple[str, ...]:
        """The rows that a fold takes beside the lanes."""
        read = (self.layout.axes.get(x, ()) for x in self.layout.reads(fold) if isinstance(x, str))
        over = [axis for axes in read for axis in axes if axis in fold.over]
        return self.layout.shape_of(tuple(dict.fromkeys(over)), "real").rows

    def _in_blocks(self, stream: Stream) -> Iterator[Carry]:
        """The carries in lanes of the grid that sums of chunks are added to, and that nothing else reads before the
        stream ends."""
        for carry in stream.carries:
            made, shape = self.layout.definitions.get(str(carry.next)), self.layout.shapes[carry.name]
            fits = shape.lanes and shape.kind == "real" and self._adds(carry, made)
            if fits and not self._short(stream) and self._apart(stream, carry, made):
                yield carry

    def _short(self, stream: Stream) -> bool:
        """Whether a stream is known to have fewer chunks than a block."""
        chunks = 1
        for axis in stream.axes:
            if not isinstance(axis.low, int) or not isinstance(axis.stop, int):
                return False
            chunks *= -(-(axis.stop - axis.low) // axis.step)
        return chunks < BLOCK

    def _apart(self, stream: Stream, carry: Carry, made: Statement | Carry | None) -> bool:
        """Whether a carry is read by `made` alone, and that by nothing before the stream ends."""
        inside = [each for each in self.layout.users.get(carry.name, []) if self._within(each, stream)]
        steady = inside == [made] and all(each.next != carry.name for each in stream.carries)
        return steady and self.layout.users.get(str(carry.next)) == [stream]

    def _adds(self, carry: Carry, made: Statement | Carry | None) -> bool:
        fold = self._joined(carry, made)
        return isinstance(fold, Dot) or (isinstance(fold, Fold) and fold.op == "sum")

    # --- how

    def _each_vector_of(self, carry: Carry, own: str, second: str | None) -> None:
        """New values of a carry and its second accumulator, of the old ones `h` and `t`."""
        shape, slot = self.layout.shapes[carry.name], self.slots[carry.name]
        name = f"{mangle(carry.name)}_t"
        size = self.layout.size(shape.rows)
        blocks = self.tile(name, size) if shape.rows else self.array(name, "vec", 1, "VECTORS")
        with self.out.braces("for (int vi = 0; vi < VECTORS; vi++)"), self.loops(shape.rows):
            h, t = self.kept(slot, shape), self.kept(blocks, shape)
            if second is not None:
                self.keep(blocks, shape, second.format(h=h, t=t))
            self.keep(slot, shape, own.format(h=h, t=t))

    def _declare(self, each: Accumulator) -> None:
        held, size = VECTORS[each.kind], self.layout.size(each.rows)
        start = widen(Text(LANE_IDENTITY[each.op][each.kind], each.kind, False), each.kind, True)
        for name in (f"{each.name}_h", f"{each.name}_t")[: 2 if each.steps else 1]:
            self.out.add(f"{held} {name}[{size}][VECTORS];")
            self.out.add(f"for (auto &row : {name}) for (auto &each : row) each = {start};")
        if each.steps > 1:
            self.out.add(f"int {each.name}_n = 0;")

    def _add_up(self, each: Accumulator) -> None:
        row = self.row_index(each.rows)
        with self.loops(each.rows):
            self.out.add(f"#pragma GCC unroll {self.vectors}")
            with self.out.braces("for (int u = 0; u < VECTORS; u++)"):
                self.out.add(f"{each.name}_t[{row}][u] += {each.name}_h[{row}][u];")
                self.out.add(f"{each.name}_h[{row}][u] = {widen(Text('0', 'real', False), 'real', True)};")

    def _bring_together(self, each: Accumulator) -> None:
        """The last chunks are taken up, the lanes come together, and the carry takes them."""
        if each.steps > 1:
            self._add_up(each)
        row, kind, carry = self.row_index(each.rows), each.kind, each.carry
        last = f"{each.name}_{'t' if each.steps else 'h'}"
        with self.loops(each.rows):
            start = f"{TYPES[kind]}({IDENTITY[each.op][kind]})"
            lanes = Text(f"across({last}[{row}], {start}, {self.joins(each.op, kind)})", kind, False)
            both = [self.operand(carry.name), lanes]
            to = f"{self.resident[carry.name]}[{row}]" if each.rows else mangle(carry.name)
            self.out.add(f"{to} = {operation(FOLDS[each.op], both, kind).code};")

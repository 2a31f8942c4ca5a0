"""Kernel -> C++17. Lanes are flattened and cut into vectors; rows are loops; dots are register blocks.

A kernel without lanes prints as scalar loops. The function it gives is

    extern "C" void NAME(void *const *buffers, const long *numbers, runner run, unsigned threads)

where `numbers` are the kernel's sizes and then, for each buffer, one stride a dimension.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...compiler.kernel import (
    Carry,
    Dot,
    Fold,
    Grid,
    Kernel,
    Let,
    Load,
    RealType,
    Statement,
    Store,
    Stream,
    StreamAxis,
)
from ...compiler.partial import NO_INTEGER
from ...compiler.target import CpuTarget
from ...dsl.errors import CompilerFault
from .dots import Dots
from .emit import HEADER, TYPES, mangle, widen
from .intervals import classify
from .layout import Shape


def print_cpp(kernels: Sequence[Kernel], target: CpuTarget) -> str:
    """The source of some kernels as one translation unit, header included, so that its hash covers
    all that is compiled. They compute in one real type."""
    reals = {kernel.real for kernel in kernels}
    if len(reals) != 1:
        raise CompilerFault("cpp", f"kernels of several real types in one source: {sorted(reals)}")
    real, whole = ("float", "int") if reals == {"float32"} else ("double", "long")
    defines = [
        f"#define PLAIT_BYTES {target.vector_bytes}",
        f"#define PLAIT_REAL {real}",
        f"#define PLAIT_INT {'long' if target.wide else whole}",
        f"#define PLAIT_NO_INTEGER ({NO_INTEGER}L)",
    ]
    return "\n".join([*defines, HEADER, *(Printer(kernel, target).source() for kernel in kernels)])


SMALL_TILES = 256

MEMORY: dict[RealType, str] = {"bfloat16": "bf16", "float16": "f16"}
"""What math.h calls reals that are stored in another type than they are computed in."""


class Printer(Dots):
    """Prints the frame of the function, its dots and its streams."""

    __slots__ = ()

    # --- the frame

    def source(self) -> str:
        """The kernel in a namespace of its own, and its entry."""
        if self.lanes > 1 and self.lanes * self.width % self.target.vector_bytes:
            raise CompilerFault("cpp", f"{self.lanes} lanes are no whole number of vectors")
        self._tile()
        name = mangle(self.kernel.name)
        lines = [
            f"namespace of_{name} {{",
            f"constexpr int WIDTH = {self.lanes}, VECTORS = (WIDTH + LANES - 1) / LANES;",
            "static void work(void *given) {",
            *self._numbers(),
            *self.arrays,
            str(self.out),
            "}",
            "}",
            f'extern "C" void {name}(void *const *buffers, const long *numbers, runner run, unsigned threads) {{',
            "  job shared = {buffers, numbers, {0}};",
            f"  if (run && threads > 1) run(of_{name}::work, &shared, threads, 0); else of_{name}::work(&shared);",
            "}",
        ]
        return "\n".join([*lines, ""])

    def _numbers(self) -> list[str]:
        lines = ["  job *shared = (job *)given;", "  const long *numbers = shared->numbers;"]
        for i, size in enumerate(self.kernel.sizes):
            lines.append(f"  const long {mangle(size)} = numbers[{i}];")
        at = len(self.kernel.sizes)
        for i, buffer in enumerate(self.kernel.buffers):
            held = {"real": MEMORY.get(buffer.real, "real"), "int": "long", "bool": "bool"}[buffer.kind]
            const = "const " if buffer.role == "in" else ""
            lines.append(
                f"  {const}{held} *__restrict {mangle(buffer.name)} = ({const}{held} *)shared->buffers[{i}];"
            )
            for dim in range(buffer.rank):
                lines.append(f"  const long {mangle(buffer.name)}_s{dim} = numbers[{at}];")
                at += 1
        return lines

    def _tile(self) -> None:
        out, grid = self.out, self.kernel.grid
        out.depth = 1
        counts: list[str] = []
        for axis in grid:
            name = mangle(axis.name)
            size = self.scalar(axis.size, "int")
            out.add(
                f"const long {name}_low = {self.scalar(axis.low, 'int')}, {name}_end = {name}_low + {size};"
            )
            out.add(f"const long {name}_tiles = ({size} + {axis.tile - 1}) / {axis.tile};")
            counts.append(f"{name}_tiles")
        out.add(f"const long tiles = {' * '.join(counts) or '1'};")
        # tiles without lanes are small: they are handed out by the hundred
        batch = 1 if self.kernel.lanes else SMALL_TILES
        out.add(
            f"for (long next; (next = shared->next.fetch_add({batch}, std::memory_order_relaxed)) < tiles;)"
        )
        with out.braces(f"for (long tile = next; tile < smin(next + {batch}L, tiles); tile++)"):
            out.add("long rest = tile; (void)rest;")
            for axis in reversed(grid):
                self._grid_axis(axis)
            for local in self.kernel.locals:
                if local.size == 1:
                    out.add(f"const long {mangle(local.name)} = {local.low}L; (void){mangle(local.name)};")
            self._lane_coordinates()
            self.body(self.kernel.body)

    def _grid_axis(self, axis: Grid) -> None:
        name, out, tile = mangle(axis.name), self.out, axis.tile
        out.add(f"const long {name}_first = {name}_low + rest % {name}_tiles * {tile}; rest /= {name}_tiles;")
        out.add(
            f"const long {name}_last = smin({name}_first + {tile - 1}, {name}_end - 1); (void){name}_last;"
        )
        if tile == 1:
            out.add(f"const long {name} = {name}_first; (void){name};")

    def _lane_coordinates(self) -> None:
        """One array of vectors for each lane axis: the coordinate of every lane of the tile."""
        if not self.kernel.lanes:
            return
        inner = self.lanes
        for axis in self.kernel.lanes:
            width = self.layout.tiles[axis]
            inner //= width
            name = mangle(axis)
            self.arrays.append(f"  ivec {name}_lane[VECTORS];")
            at = f"(inum)({name}_first + i / {inner} % {width})"
            self.out.add(f"for (int i = 0; i < WIDTH; i++) {name}_lane[i / LANES][i % LANES] = {at};")

    # --- statements

    def body(self, statements: tuple[Statement, ...]) -> None:
        group: list[Statement] = []
        for statement in statements:
            match statement:
                case Let() | Load() if self.deferred(statement.name):
                    continue
                case Let() | Load() | Fold() if self.layout.shapes[statement.name].lanes:
                    group.append(statement)
                case Store() if self._store_shape(statement).lanes:
                    group.append(statement)
                case _:
                    self.group(group)
                    group = []
                    self._single(statement)
        self.group(group)

    def _single(self, statement: Statement) -> None:
        match statement:
            case Let() | Load():
                self._value(statement)
            case Store():
                self._store(statement)
            case Dot():
                self.dot(statement)
            case Stream():
                self.stream(statement)
            case Fold():
                raise CompilerFault("cpp", f"`{statement.name}` folds a value without lanes")

    # --- streams

    def stream(self, stream: Stream) -> None:
        """Loops over chunks; the innermost run is trimmed to what some lane can see."""
        here = self.layout.position[id(stream)]
        for carry in stream.carries:
            self._start(carry, here)
        self._chunks(stream, stream.axes)
        self._release(self.layout.position[-id(stream)])

    def _start(self, carry: Carry, here: int) -> None:
        shape = self.layout.shapes[carry.name]
        init = self.operand(carry.init)
        if not shape.lanes:
            self.out.add(f"{TYPES[carry.kind]} {mangle(carry.name)} = {widen(init, carry.kind, False)};")
            return
        slot = self.allocate(carry.name, shape, here)
        with self.out.braces("for (int vi = 0; vi < VECTORS; vi++)"), self.loops(shape.rows):
            value = widen(init, carry.kind, True)
            self.keep(slot, shape, value)

    def _chunks(self, stream: Stream, axes: tuple[StreamAxis, ...]) -> None:
        if not axes:
            self._chunk(stream)
            return
        axis, name = axes[0], mangle(axes[0].name)
        with self.out.braces(""):
            low, stop = self.scalar(axis.low, "int"), self.scalar(axis.stop, "int")
            self.out.add(f"long {name}_from = {low}, {name}_to = {stop};")
            classified = len(axes) == 1 and self.kernel.lanes and stream.visible is not True
            test = self._class(stream) if classified else "SOME"
            if test != "SOME":
                self.out.add(f"auto seen_at = [&](long {name}_first) -> part {{ return {test}; }};")
                self.out.add(
                    f"while ({name}_from < {name}_to && seen_at({name}_from) == NONE) {name}_from++;"
                )
                self.out.add(
                    f"while ({name}_to > {name}_from && seen_at({name}_to - 1) == NONE) {name}_to--;"
                )
            step = axis.step
            with self.out.braces(
                f"for (long {name}_first = {name}_from; {name}_first < {name}_to; {name}_first += {step})"
            ):
                self.out.add(
                    f"const long {name}_count = smin({step}L, {name}_to - {name}_first); (void){name}_count;"
                )
                self.out.add(f"const long {name}_last = {name}_first + {name}_count - 1; (void){name}_last;")
                if step == 1:
                    self.out.add(f"const long {name} = {name}_first; (void){name};")
                before = (self.visible, self.gate)
                if test != "SOME":
                    self.visible = stream.visible
                    self.out.add(f"part {name}_part[{step}];")
                    self.out.add(
                        f"for (long j = 0; j < {name}_count; j++) {name}_part[j] = seen_at({name}_first + j);"
                    )
                    self.gate = f"{name}_part[{f'j_{name}' if step > 1 else '0'}]"
                self._chunks(stream, axes[1:])
                self.visible, self.gate = before

    def _class(self, stream: Stream) -> str:
        """The class of one index of the innermost axis, outer chunks taken whole."""
        ranges: dict[str, str] = {size: f"point({mangle(size)})" for size in self.kernel.sizes}
        for axis in self.kernel.grid:
            name = mangle(axis.name)
            ranges[axis.name] = f"span{{(double){name}_first, (double){name}_last}}"
            ranges[f"{axis.name}.first"], ranges[f"{axis.name}.last"] = (
                f"point({name}_first)",
                f"point({name}_last)",
            )
        for axis in stream.axes[:-1]:
            name = mangle(axis.name)
            ranges[axis.name] = f"span{{(double){name}_first, (double){name}_last}}"
        last = mangle(stream.axes[-1].name)
        ranges[stream.axes[-1].name] = f"point({last}_first)"
        lets = {name: each for name, each in self.layout.definitions.items() if isinstance(each, Let)}
        return classify(stream.visible, lets, ranges)

    def _chunk(self, stream: Stream) -> None:
        self.body(stream.body)
        moves: list[str] = []
        for carry in stream.carries:
            shape = self.layout.shapes[carry.name]
            if not shape.lanes:
                value = widen(self.operand(carry.next), carry.kind, False)
                self.out.add(f"const {TYPES[carry.kind]} {mangle(carry.name)}_next = {value};")
                moves.append(f"{mangle(carry.name)} = {mangle(carry.name)}_next;")
            else:
                self._move(carry, shape)
        for move in moves:
            self.out.add(move)

    def _move(self, carry: Carry, shape: Shape) -> None:
        slot = self.slots[carry.name]
        if isinstance(carry.next, str) and self.slots.get(carry.next) == slot:
            return
        with self.out.braces("for (int vi = 0; vi < VECTORS; vi++)"), self.loops(shape.rows):
            value = widen(self.operand(carry.next), carry.kind, True)
            self.keep(slot, shape, value)

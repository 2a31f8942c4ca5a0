"""Kernel -> C++17. Lanes are flattened and cut into vectors; rows are loops; dots are register blocks.

A kernel without lanes prints as scalar loops. The function it gives is

    extern "C" void NAME(void *const *buffers, const long *numbers, runner run, unsigned threads)

where `numbers` are the kernel's sizes and then, for each buffer, one stride a dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...compiler.kernels.flat import Flat, flattened, in_one_run
from ...compiler.kernels.kernel import Buffer, Dot, Grid, Kernel, Let, Operand, Stream, StreamAxis, every
from ...compiler.kernels.phases import Phased, kernels_of
from ...compiler.meaning.partial import NO_INTEGER
from ...compiler.schedules.target import CpuTarget
from ...dsl.errors import CompilerFault
from .effort import effort
from .emit import HEADER, mangle
from .intervals import classify
from .phases import entry_of_phases, places
from .scalars import Scalars
from .scope import LANES_HERE, LANES_OF_EXACT, LANES_OF_PART


def print_cpp(kernels: Sequence[Kernel | Phased], target: CpuTarget) -> str:
    """The source of some kernels as one translation unit, header included, so that its hash covers
    all that is compiled. They compute in one real type."""
    reals = {each.real for kernel in kernels for each in kernels_of(kernel)}
    if len(reals) != 1 or not reals <= {"float32", "float64"}:
        raise CompilerFault("cpp", f"kernels that compute in {sorted(reals)} in one source")
    real, whole = ("float", "int") if reals == {"float32"} else ("double", "long")
    defines = [
        f"#define PLAIT_BYTES {target.vector_bytes}",
        f"#define PLAIT_REAL {real}",
        f"#define PLAIT_INT {'long' if target.wide else whole}",
        f"#define PLAIT_NO_INTEGER ({NO_INTEGER}L)",
    ]
    return "\n".join([*defines, HEADER, *(_source(kernel, target) for kernel in kernels)])


def _source(kernel: Kernel | Phased, target: CpuTarget) -> str:
    """A kernel with its entry, or the phases of one with theirs."""
    if isinstance(kernel, Kernel):
        return Printer(kernel, target).source()
    parts = zip(kernel.parts, places(kernel), strict=True)
    printers = [Printer(part.kernel, target, place) for part, place in parts]
    own = [(each.kernel, each.given_size) for each in printers]
    entries = [entry_of_phases(kernel), effort(mangle(kernel.name), own)]
    return "\n".join([*(each.work() for each in printers), *entries])


STACK_BYTES = 2**20

ENTRIES = 16384
"""Tiles are handed out together until they have about so many entries: to take one from the common
counter, and to divide its number into coordinates, costs as much as some vectors of work."""


class Printer(Scalars):
    """Prints the frame of the function and its streams."""

    __slots__ = ()

    # --- the frame

    def source(self) -> str:
        """The kernel in a namespace of its own, and its entry."""
        name = mangle(self.kernel.name)
        lines = [
            self.work(),
            f'extern "C" void {name}(void *const *buffers, const long *numbers, runner run, unsigned threads) {{',
            "  job shared = {buffers, numbers, 0, run && threads > 1 ? (long)threads : 1};",
            f"  if (run && threads > 1) run(of_{name}::work, &shared, threads, 0); else of_{name}::work(&shared);",
            "}",
            effort(name, [(self.kernel, self.given_size)]),
        ]
        return "\n".join([*lines, ""])

    def work(self) -> str:
        """What a thread does, in the kernel's own namespace: with two lane axes as one, and a resident one with them,
        where all tensors hold them so."""
        name, flat = mangle(self.kernel.name), flattened(self.kernel)
        if flat is None:
            return self._work(f"of_{name}")
        run = in_one_run(flat)
        flats = {f"flat_of_{name}": flat} if run is None else {f"run_of_{name}": run, f"flat_of_{name}": flat}
        tests = [f"if ({self._lies_flat(each)}) {own}::work(given); else" for own, each in flats.items()]
        lines = [
            self._work(f"rows_of_{name}"),
            *(
                Printer(each.kernel, self.target, replace(self.place, flat=each))._work(own)
                for own, each in flats.items()
            ),
            f"namespace of_{name} {{",
            "static void work(void *given) {",
            "  const long *numbers = ((job *)given)->numbers;",
            f"  {' '.join(tests)} rows_of_{name}::work(given);",
            "}",
            "}",
        ]
        return "\n".join(lines)

    def _work(self, namespace: str) -> str:
        """It is called, never inlined, so that the arrays of phases lie in one place of the stack."""
        self.find_contracted()
        self._tiles()
        lines = [
            f"namespace {namespace} {{",
            f"constexpr int VECTORS = {self.vectors}, WIDTH = VECTORS * LANES;",
            "APART void work(void *given) {",
            *self._numbers(),
            *self._arrays(),
            *self._lane_arrays(),
            *self.before_tiles.values(),
            *self._with_lanes(),
            "}",
            "}",
        ]
        return "\n".join(lines)

    # --- numbers

    def _numbers(self) -> list[str]:
        lines = ["  job *shared = (job *)given;", "  const long *numbers = shared->numbers;"]
        lines += [f"  const long {mangle(size)} = {self.given_size(size)};" for size in self.kernel.sizes]
        flat = self.place.flat
        for i, buffer in enumerate(self.kernel.buffers):
            held = ("const " if buffer.role == "in" else "") + self._held(buffer)
            source = f"({held} *)shared->buffers[{self.place.buffers + i}]"
            lines.append(f"  {held} *__restrict {mangle(buffer.name)} = {source};")
            joined = buffer.rank if flat is None else flat.dims.get(buffer.name, buffer.rank)
            gone = 0 if flat is None else len(flat.sizes) - 1
            for dim in range(buffer.rank):
                stride = self._given_stride(i, dim + gone * (dim >= joined))
                lines.append(f"  const long {mangle(buffer.name)}_s{dim} = {stride};")
        return lines

    def given_size(self, size: Operand) -> str:
        """A size of the kernel among the numbers of the launch."""
        flat = self.place.flat
        if flat is not None and size == flat.size:
            return " * ".join(self.given_size(each) for each in flat.sizes)
        if not isinstance(size, str):
            return f"{size}L"
        return f"numbers[{self.place.sizes + self.kernel.sizes.index(size)}]"

    def _given_stride(self, buffer: int, dim: int) -> str:
        """A stride of the kernel that was launched."""
        flat = self.place.flat
        joined = {} if flat is None else flat.dims
        at = self.place.strides
        if at is None:
            at = self.place.sizes + len(self.kernel.sizes) - (flat is not None)
        gone = 0 if flat is None else len(flat.sizes) - 1
        at += sum(each.rank + gone * (each.name in joined) for each in self.kernel.buffers[:buffer])
        return f"numbers[{at + dim}]"

    def _lies_flat(self, flat: Flat) -> str:
        """Whether each of the axes that are one begins where the one before it ends, in every tensor."""
        sizes = [self.given_size(each) for each in flat.sizes]
        tests = [f"{' * '.join(sizes)} <= MOST_FLAT"]
        for i, buffer in enumerate(self.kernel.buffers):
            if buffer.name in flat.dims:
                for dim, inner in enumerate(sizes[1:], flat.dims[buffer.name]):
                    tests.append(
                        f"{self._given_stride(i, dim)} == {inner} * {self._given_stride(i, dim + 1)}"
                    )
        return " && ".join(tests)

    def _held(self, buffer: Buffer) -> str:
        """The type of a buffer's memory."""
        if buffer.kind != "real":
            return {"int": "long", "bool": "bool"}[buffer.kind]
        if buffer.real == self.kernel.real:
            return "real"
        return {"float32": "float", "float64": "double", "bfloat16": "bf16", "float16": "f16"}[buffer.real]

    # --- tiles

    def _tiles(self) -> None:
        """The loop over tiles. Their numbers are divided into coordinates once a batch, and counted on."""
        out, grid = self.out, self.kernel.grid
        out.depth = 1
        counts: list[str] = []
        for axis in grid:
            name = mangle(axis.name)
            low, size = self.scalar(axis.low, "int"), self.scalar(axis.size, "int")
            if axis.name in self.place.image:
                low = f"shared->image ? shared->image[{self.place.image.index(axis.name)}] : {low}"
                size = f"(shared->image ? 1L : {size})"
            out.add(f"const long {name}_low = {low}, {name}_end = {name}_low + {size};")
            out.add(f"const long {name}_tiles = ({size} + {axis.tile - 1}) / {axis.tile};")
            counts.append(f"{name}_tiles")
        out.add(f"const long tiles = {' * '.join(counts) or '1'};")
        most = f"smin({self._together()}L, tiles / (8 * shared->threads))"
        out.add(f"const long batch = smax(1L, {most});")
        taken = "__atomic_fetch_add(&shared->next, batch, __ATOMIC_RELAXED)"
        with out.braces(f"for (long next; (next = {taken}) < tiles;)"):
            out.add("long rest = next; (void)rest;")
            for axis in reversed(grid):
                name = mangle(axis.name)
                out.add(f"long {name}_tile = rest % {name}_tiles; rest /= {name}_tiles;")
            with out.braces("for (long tile = next; tile < smin(next + batch, tiles); tile++)"):
                for axis in grid:
                    self._grid_axis(axis)
                self._count_on()
                for axis in (mangle(axis.name) for axis in grid if axis.ragged is not None):
                    out.add(f"if ({axis}_first > {axis}_most) continue;")
                for local in self.kernel.locals:
                    if local.size == 1:
                        out.add(
                            f"const long {mangle(local.name)} = {local.low}L; (void){mangle(local.name)};"
                        )
                self._lanes_among({axis.name for axis in grid})
                self.body(self.kernel.body)

    def _together(self) -> int:
        """How many tiles are handed out at once."""
        statements = tuple(every(self.kernel.body))
        products = any(isinstance(each, Dot) and not self.layout.folds_products(each) for each in statements)
        if products or any(isinstance(each, Stream) for each in statements):
            return 1
        rows = max((self.layout.size(shape.rows) for shape in self.layout.shapes.values()), default=1)
        return max(1, ENTRIES // max(16, self.lanes * rows))

    def _grid_axis(self, axis: Grid) -> None:
        name, out, tile = mangle(axis.name), self.out, axis.tile
        out.add(f"const long {name}_first = {name}_low + {name}_tile * {tile};")
        end = f"{name}_end - 1"
        if axis.ragged is not None:
            step, extent = (self.scalar(each, "int") for each in (axis.ragged.step, axis.ragged.extent))
            end = f"{name}_most"
            out.add(f"const long {end} = ({extent} - 1 - {mangle(axis.ragged.residue)}) / {step};")
        if tile == 1:
            out.add(
                f"const long {name}_last = {name}_first, {name} = {name}_first; (void){name}_last; (void){name};"
            )
            return
        out.add(f"const long {name}_last = smin({name}_first + {tile - 1}, {end}); (void){name}_last;")
        if axis.name not in self.kernel.lanes:
            out.add(f"const long {name}_count = {name}_last - {name}_first + 1;")

    def _count_on(self) -> None:
        """Go to the next tile, the last axis fastest; nothing reads these numbers any more."""
        text = ""
        for axis in self.kernel.grid:
            name = mangle(axis.name)
            text = f"if (++{name}_tile == {name}_tiles) {{ {name}_tile = 0; {text} }}"
        if text:
            self.out.add(text)

    # --- lanes

    def _lanes_among(self, axes: set[str]) -> None:
        """Where the tile of the lanes is known: whether it is whole, and a mark for its coordinates."""
        if self.wide_lanes and set(self.kernel.lanes) <= axes:
            tests = [
                f"{mangle(axis)}_first + {self.layout.tiles[axis] - 1} == {mangle(axis)}_last"
                for axis in self.wide_lanes
            ]
            self.out.add(f"const bool whole = {' && '.join(tests)}; (void)whole;")
            outer, inner = self.wide_lanes[0], self.layout.size(self.wide_lanes[1:])
            lanes = f"({mangle(outer)}_last - {mangle(outer)}_first + 1) * {inner}"
            self.out.add(f"const int vectors = ({lanes} + LANES - 1) / LANES; (void)vectors;")
            self.out.add(LANES_HERE)

    def _arrays(self) -> list[str]:
        """The arrays of a tile: on the stack, or, where a stack may be too small for them, one set a thread."""
        where = "  static thread_local " if self.taken_bytes > STACK_BYTES else "  "
        return [where + line for line in self.arrays.values()]

    def _lane_arrays(self) -> list[str]:
        return [f"  ivec {mangle(axis)}_lane[VECTORS];" for axis in self.wide_lanes if axis in self.spread]

    def _with_lanes(self) -> list[str]:
        """The lines, with the coordinate of every lane where something reads them."""
        made: dict[str, list[str]] = {LANES_HERE: [], LANES_OF_PART: [], LANES_OF_EXACT: []}
        inner, width = self.lanes, self.target.vector_bytes // self.width
        for axis in self.wide_lanes:
            tile, name = self.layout.tiles[axis], mangle(axis)
            inner //= tile
            # lanes beyond the last have coordinates that do not exist
            within = "" if axis == self.wide_lanes[0] else f" % {tile}"
            if inner % width and (inner > 1 or tile % width and axis != self.wide_lanes[0]):
                at = f"(inum)({name}_first + i / {inner}{within})"
                code = f"for (int i = 0; i < WIDTH; i++) {name}_lane[i / LANES][i % LANES] = {at};"
            else:
                at = f"alli((inum)({name}_first + i * LANES / {inner}{within}))"
                at += " + places()" if inner == 1 else ""
                code = f"for (int i = 0; i < VECTORS; i++) {name}_lane[i] = {at};"
            if axis in self.spread:
                made[LANES_HERE if self.spread[axis] else LANES_OF_PART].append(code)
            made[LANES_OF_EXACT].append(f"ivec {name}_lane[VECTORS]; {code}")
        lines: list[str] = []
        for line in str(self.out).split("\n"):
            mark = line.strip()
            lines += made.get(mark, [line])
        return lines

    # --- streams

    def stream(self, stream: Stream) -> None:
        """Loops over chunks; the innermost run is trimmed to what some lane can see."""
        here = self.layout.position[id(stream)]
        with self.until_exact(stream):
            for carry in stream.carries:
                self.start_carry(carry, here)
            with self.accumulating(stream):
                self._chunks(stream, stream.axes)
        self.release(self.layout.position[-id(stream)])

    def _chunks(self, stream: Stream, axes: tuple[StreamAxis, ...]) -> None:
        if not axes:
            self._chunk(stream)
            return
        axis, name = axes[0], mangle(axes[0].name)
        with self.out.braces(""):
            low, stop = self.scalar(axis.low, "int"), self.scalar(axis.stop, "int")
            self.out.add(f"long {name}_from = {low}, {name}_to = {stop};")
            classified = len(axes) == 1 and self.wide_lanes and stream.visible is not True
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
        self._lanes_among({axis.name for axis in stream.axes})
        self.body(stream.body)
        self.move_carries(stream.carries)
        self.take_up(stream)

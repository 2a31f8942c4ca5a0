"""How a kernel is compiled and launched: decided here, written out everywhere, nothing left to a default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...compiler.kernels.kernel import Dot, Kernel, Load, Stream, every
from .layout import Layout, Product
from .names import unique

Precision = Literal["stored", "ieee", "tf32", "tf32x3"]
Machine = Literal["cuda", "hip"]

WORDS_A_WARP = 1024
"""Numbers of 4 bytes of one block that a warp holds beside a few others of its size."""
SUMS_A_WARP = 2048
"""The same of kernels whose products all run on matrix units: twice the work for one staged operand. (An H100:
the block of 64 by 128 of a ConvNeXt block takes 0.54 ms by 4 warps, 0.84 ms by 8.)"""
FACTORS_A_THREAD = 384
"""Operands that a thread holds for its part of a product without matrix units."""
MOST_WARPS = 8
"""Of a product without matrix units: in more, each thread would load more than it multiplies. (An H100, float32:
the same block 10.2 ms by 8 warps, 18.4 ms by 16; circular attention 8.2 ms against 8.6 ms.)"""
MOST_WARPS_EARLIER = 16
"""The same before RESIDENT_CAPABILITY where a stream carries statistics beside its sums: there, registers
that are too few for the operands of both are spilled inside the stream."""
RESIDENT_REGISTERS = 128
"""Registers of a thread with which 16 warps share a multiprocessor, and hide each other's waiting."""
RESIDENT_WORDS = 100
"""Numbers of 4 bytes that a thread may hold in blocks and still have enough of those registers, on matrix units
that read their operands from shared memory."""
RESIDENT_CAPABILITY = 9
"""The first compute capability whose matrix units do."""
WRITTEN_OUT = 256
"""Blocks from which on a kernel is one of loops written out: a thread has one element of each."""
STAGED_BYTES = 65_536
"""Shared memory for the chunks of a stream that are on their way."""
STAGED_ALONE = 98_304
"""The same where a program is so large that few others share its multiprocessor and hide its waiting."""


@dataclass(frozen=True, slots=True)
class Options:
    """`precision` is what `tl.dot` makes of float32 operands: `ieee` keeps them, `tf32` rounds them to
    10 bits, `tf32x3` adds the rounding errors back. `stored` rounds one that was computed to the 16 bits that
    the other is stored in (float16: weights of a softmax only, others may leave its range), as `budget`
    grants, and keeps all others; sums are float32 whatever it is.
    `fusion` lets a product and a sum round once. `registers` is the most that a thread may have on a GPU
    of RESIDENT_CAPABILITY, 0 for what the compiler thinks best; `earlier` are the warps on a GPU before it,
    0 for as many as on others."""

    warps: int = 4
    stages: int = 2
    precision: Precision = "ieee"
    fusion: bool = True
    registers: int = 0
    earlier: int = 0

    def launch(self, capability: int = RESIDENT_CAPABILITY) -> dict[str, int | bool]:
        """What Triton is given beside the arguments, on a GPU of this compute capability."""
        warps = self.earlier if 0 < capability < RESIDENT_CAPABILITY and self.earlier else self.warps
        given = {"num_warps": warps, "num_stages": self.stages, "enable_fp_fusion": self.fusion}
        limited = self.registers and capability >= RESIDENT_CAPABILITY
        return given | ({"maxnreg": self.registers} if limited else {})


def default_options(kernel: Kernel, machine: Machine = "cuda", precision: Precision = "stored") -> Options:
    """Warps by the largest block and, where float32 products run on no matrix unit, by the operands
    that a thread must hold, which leaves none for a second stage; otherwise two stages where two
    chunks fit in shared memory."""
    layout = Layout(unique(kernel))
    width = 8 if kernel.real == "float64" else 4
    largest = max((layout.places(dims) for dims in layout.values.values()), default=1) * width // 4
    warps = next(warps for warps in (1, 2, 4, 8) if largest <= WORDS_A_WARP * warps or warps == 8)
    if sum(bool(dims) for dims in layout.values.values()) > WRITTEN_OUT:
        warps = min(8, max(1, largest // 32))
    parts = precision != "stored" and any(layout.split(each) is not None for each in layout.products.values())
    if machine == "cuda" and parts:
        warps = max(warps, min(8, 2 * warps))  # three parts take the registers of one and a half values more
    exact = any(not _on_matrix_units(layout, product, precision) for product in layout.products.values())
    if machine == "cuda" and kernel.real == "float32" and precision in ("ieee", "stored") and exact:
        several = any(
            isinstance(each, Stream) and len(each.carries) > 1 for each in every(layout.kernel.body)
        )
        wanted = _exact_warps(layout, warps, precision)
        earlier = min(wanted, MOST_WARPS_EARLIER if several else MOST_WARPS)
        return Options(min(wanted, MOST_WARPS), 1, precision, earlier=earlier)
    staged = sum(
        layout.places(layout.values[load.name]) * (width if load.kind != "real" else _bytes(layout, load))
        for stream in every(layout.kernel.body)
        if isinstance(stream, Stream)
        for load in stream.body
        if isinstance(load, Load)
    )
    if layout.products and not exact and not parts and largest <= 4 * SUMS_A_WARP:
        warps = min(warps, 4)
    stages = 2 if layout.products and 2 * staged <= STAGED_BYTES else 1
    if layout.products and warps == 8 and 3 * staged <= STAGED_ALONE:
        stages = 3
    registers = RESIDENT_REGISTERS if machine == "cuda" and _fits_residents(layout, warps, precision) else 0
    return Options(warps, stages, precision, registers=registers)


def _fits_residents(layout: Layout, warps: int, precision: Precision) -> bool:
    """Whether what a thread holds of a stream with products, the carries of it and of what streams inside it and two
    blocks besides, or more where several are loaded, is so little that more programs on a multiprocessor are worth
    a limit."""
    streams = [each for each in every(layout.kernel.body) if isinstance(each, Stream) and each.carries]
    short = all(_on_matrix_units(layout, product, precision) for product in layout.products.values())
    if warps < 4 or not layout.products or not short or not streams:
        return False
    largest = max(layout.places(dims) for dims in layout.values.values())
    held = max(_carried(layout, stream) + largest * _loaded(layout, stream) for stream in streams)
    return held + largest <= RESIDENT_WORDS * 32 * warps


def _carried(layout: Layout, stream: Stream) -> int:
    """The numbers that a stream carries, with those of the largest inside it."""
    inner = (_carried(layout, each) for each in stream.body if isinstance(each, Stream))
    return sum(layout.places(layout.values[carry.name]) for carry in stream.carries) + max(inner, default=0)


def _loaded(layout: Layout, stream: Stream) -> int:
    """How many blocks over rows and columns of its products a chunk loads, and one at least."""
    shapes = {
        layout.values[each.name] for each in stream.body if isinstance(each, Dot) and len(each.axes) > 1
    }
    loads = (each.name for each in stream.body if isinstance(each, Load))
    return max(1, sum(layout.values[name] in shapes for name in loads))


def _on_matrix_units(layout: Layout, product: Product, precision: Precision) -> bool:
    """Whether the operands of a product are 16 bits wide, or made so."""
    rounded = precision == "stored" and layout.rounded(product) is not None
    return rounded or layout.short(product) is not None or layout.split(product) is not None


def _bytes(layout: Layout, load: Load) -> int:
    """The bytes of a real in memory."""
    return {"float64": 8, "float32": 4}.get(layout.kernel.buffer(load.buffer).real, 2)


def _exact_warps(layout: Layout, warps: int, precision: Precision) -> int:
    """The warps, a power of two times these, whose threads hold few enough operands, if any."""
    while warps < MOST_WARPS_EARLIER and _factors(layout, 32 * warps, precision) > FACTORS_A_THREAD:
        warps *= 2
    return warps


def _factors(layout: Layout, threads: int, precision: Precision) -> int:
    """The operands of the part of the largest product that falls to a thread, if it is square."""
    most = 0
    for product in layout.products.values():
        if _on_matrix_units(layout, product, precision):
            continue
        rows, columns, depth = (
            layout.places(side) for side in (product.rows, product.columns, product.depth)
        )
        side = (rows * columns / threads) ** 0.5
        most = max(most, round(2 * max(1.0, side) * depth))
    return most

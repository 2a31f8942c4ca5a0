"""The numbers that a machine gives to the schedules: records.

The tile schedule (`tiles.py`) writes one Kernel a group from four roles of axes (`roles.py`): lanes,
outputs, resident axes and the grid. What differs between machines is in `TileSchedule`:

    CPU   outputs are streamed past a resident tile of the input, the store inside the stream, so that
          what comes before a contraction is computed once a tile; halos of windows are staged
    GPU   outputs are rows of the grid, contractions stream in chunks that are powers of two and carry
          their sums; nothing is staged by hand, taps are loaded where they are read
"""

from __future__ import annotations

from dataclasses import dataclass, replace

MOST_CHANNELS, LEAST_SIDE = 256, 16
"""Channels that a stream on a GPU keeps at its full tile, and the least queries and keys of its products."""


@dataclass(frozen=True, slots=True)
class StreamSchedule:
    """`lanes` queries a tile and `keys` keys a chunk; `flat` spreads a chunk over all key axes,
    otherwise it is a run along the last one."""

    lanes: int
    keys: int
    flat: bool

    def of_entries(self) -> StreamSchedule:
        """The numbers for entries that differ along the outputs too, so that a chunk has three axes."""
        return replace(self, lanes=min(self.lanes, 16), keys=16) if self.flat else replace(self, keys=1)

    def of_channels(self, count: int) -> StreamSchedule:
        """The numbers for so many channels or outputs: on a GPU, blocks of MOST_CHANNELS are as wide as fits into the
        memory of a multiprocessor, and wider ones are shorter."""
        if not self.flat or count <= MOST_CHANNELS:
            return self
        side = max(LEAST_SIDE, MOST_CHANNELS * 32 // count)
        return replace(self, lanes=min(self.lanes, side), keys=min(self.keys, side))


@dataclass(frozen=True, slots=True)
class ProductTile:
    """`width` lanes by `outputs`, in chunks of `chunk` entries of what is summed."""

    width: int
    outputs: int
    chunk: int


@dataclass(frozen=True, slots=True)
class TileSchedule:
    """`width` lanes a tile, `run` of them along the last lane axis where a tile has two (`window_run`
    where it has a halo); `outputs` rows of a contraction at a time; `chunk` entries of a reduced axis.

    `product`           the tile of a contraction whose outputs are rows of the grid, where its lanes lie along
                        one axis (images have fewer outputs, and tiles of two axes)
    `streamed_outputs`  the outputs of a contraction are a stream with the store inside (CPU), or rows
                        of the grid (GPU)
    `halo`              windows are staged as tiles with their halo, taps read by `Take`
    `resident`          the most entries of one axis that stay for a whole tile
    `block`             the most entries of a tile with its resident axes, each as a power of two: beyond it
                        the tile is made narrower. 0: no limit
    `taps`              axes of at most so many entries are streamed one by one
    `alone`             lanes of a tile in which each one is computed by itself: nothing is contracted, and
                        all that is folded is streamed one by one. 0: `width`
    `across`            lanes of a reduction whose own axes lie in them. 0: `width`
    `depth`             the most reals a lane that a contraction may keep resident at full width; beyond
                        it the tile is made narrower, down to `least_width`. 0: no limit
    """

    width: int
    run: int
    window_run: int
    least_width: int
    outputs: int
    chunk: int
    resident: int
    depth: int
    streamed_outputs: bool
    halo: bool
    block: int = 0
    taps: int = 0
    alone: int = 0
    across: int = 0
    product: ProductTile | None = None

    def of_product(self) -> TileSchedule:
        """The numbers of a contraction whose outputs are rows of the grid."""
        tile = self.product
        if tile is None:
            return self
        return replace(self, width=tile.width, outputs=tile.outputs, chunk=tile.chunk)


@dataclass(frozen=True, slots=True)
class WindowSchedule:
    """`rows` of the result at a time and `lanes` elements of each, a `run` of them along the last axis; windows
    of at most so many `taps`."""

    rows: int
    lanes: int
    run: int
    taps: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """The numbers of a backend: lanes of plain loops, those of streaming attention, of tiles and of windows; a
    backend without tiles writes everything else as plain loops, one without windows has them in tiles. `phases`:
    kernels with images in common are launched as the phases of one."""

    loop_lanes: int
    stream: StreamSchedule
    tiles: TileSchedule | None = None
    windows: WindowSchedule | None = None
    phases: bool = False


GPU_WINDOWS = WindowSchedule(rows=8, lanes=64, run=32, taps=64)
"""Rows that leave a thread with about 128 registers for a 7x7 window."""


def cpu_tiles(vector_bytes: int, real_bytes: int) -> TileSchedule:
    """Tiles for vectors of so many bytes: eight of them to the full width."""
    vector = max(vector_bytes // real_bytes, 2)
    return TileSchedule(
        width=8 * vector,
        run=2 * vector,
        window_run=vector,
        least_width=2 * vector,
        outputs=48,
        chunk=4 * vector,
        resident=8192,
        depth=1536 // real_bytes,
        streamed_outputs=True,
        halo=True,
        product=ProductTile(width=16 * vector, outputs=48, chunk=4 * vector),
    )


SHORT_PRODUCT = ProductTile(width=128, outputs=128, chunk=64)
PRODUCT = ProductTile(width=128, outputs=128, chunk=16)


def gpu_tiles(real_bytes: int, short: bool = False) -> TileSchedule:
    """Tiles of 64 rows; chunks that keep both sides of a `tl.dot` in registers; rows that are reduced
    whole in blocks that take 32 registers of 256 threads. Contractions of numbers that are stored in 16 bits
    (`short`) have the tiles that feed matrix units; those of float32 give 64 sums to a thread."""
    return TileSchedule(
        width=64,
        run=16,
        window_run=16,
        least_width=1,
        outputs=64 if real_bytes < 8 else 32,
        chunk=32,
        resident=8192,
        depth=0,
        streamed_outputs=False,
        halo=False,
        block=32768 // real_bytes,
        taps=8,
        alone=512,
        across=256,
        product=None if real_bytes == 8 else SHORT_PRODUCT if short else PRODUCT,
    )

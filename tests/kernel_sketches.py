"""Small kernels by hand: every statement, fold and corner of the Kernel language, for the printers' tests.

A `Case` is a kernel, its inputs and the shapes of its outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from plait.compiler.kernels.kernel import (
    Buffer,
    Carry,
    Dot,
    Fold,
    Grid,
    Kernel,
    Let,
    Load,
    Local,
    Operand,
    RealType,
    Statement,
    Store,
    Stream,
    StreamAxis,
    Take,
)
from plait.compiler.meaning.partial import DTYPES
from plait.dsl.ops import Kind

INF = float("inf")

FOLDED: dict[str, tuple[Kind, ...]] = {
    "sum": ("real", "int"),
    "prod": ("real",),
    "max": ("real", "int"),
    "min": ("real", "int"),
    "any": ("bool",),
    "all": ("bool",),
}
"""The folds, and what they take."""


@dataclass
class Case:
    """`tensors` in the order of the kernel's buffers, outputs filled with what must not stay."""

    kernel: Kernel
    tensors: list[Tensor]
    sizes: list[int]


@dataclass
class Sketch:
    """A kernel being written. Sizes are named by what they are of; axes of values follow from operands."""

    sizes: Mapping[str, int]
    real: RealType = "float32"
    grid: list[Grid] = field(default_factory=list)
    locals: list[Local] = field(default_factory=list)
    lanes: tuple[str, ...] = ()
    bodies: list[list[Statement]] = field(default_factory=lambda: [[]])
    buffers: list[Buffer] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    axes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    seed: int = 0

    # --- axes

    def tiled(self, name: str, size: Operand, tile: int, low: Operand = 0, lane: bool = True) -> None:
        self.grid.append(Grid(name, low, size, tile))
        self._axis(name)
        if lane and tile > 1:
            self.lanes = (*self.lanes, name)

    def local(self, name: str, size: int, low: int = 0) -> None:
        self.locals.append(Local(name, low, size))
        self._axis(name)

    def _axis(self, name: str) -> None:
        self.axes |= {name: (name,), f"{name}.valid": (name,)}

    def _union(self, *operands: Operand | None) -> tuple[str, ...]:
        found = (axis for item in operands if isinstance(item, str) for axis in self.axes.get(item, ()))
        return tuple(dict.fromkeys(found))

    # --- tensors

    def input(self, name: str, *shape: int, kind: Kind = "real", stored: RealType | None = None) -> None:
        """Random numbers: reals around 0, integers -3 .. 3."""
        generator = torch.Generator().manual_seed(len(self.buffers) + 7)
        if kind == "real":
            data = torch.randn(shape, generator=generator, dtype=torch.float64)
            data = data.to(getattr(torch, stored or self.real))
        elif kind == "int":
            data = torch.randint(-3, 4, shape, generator=generator)
        else:
            data = torch.rand(shape, generator=generator) < 0.5
        self.given(name, data, kind, stored)

    def given(self, name: str, data: Tensor, kind: Kind = "real", stored: RealType | None = None) -> None:
        self.buffers.append(Buffer(name, data.dim(), kind, stored or self.real, "in"))
        self.tensors.append(data)

    def output(self, name: str, *shape: int, kind: Kind = "real", stored: RealType | None = None) -> None:
        self.buffers.append(Buffer(name, len(shape), kind, stored or self.real, "out"))
        dtype = getattr(torch, stored or self.real) if kind == "real" else DTYPES[kind]
        self.tensors.append(torch.full(shape, {"real": 777.0, "int": 777, "bool": True}[kind], dtype=dtype))

    # --- statements

    def add(self, statement: Statement, axes: tuple[str, ...]) -> str:
        name = "" if isinstance(statement, Store | Stream) else statement.name
        self.bodies[-1].append(statement)
        self.axes[name] = axes
        return name

    def let(self, name: str, op: str, *args: Operand, kind: Kind = "real") -> str:
        axes = self._union(*args)
        return self.add(Let(name, op, args, axes, kind), axes)

    def load(self, name: str, buffer: str, *index: Operand, mask: Operand = True, kind: Kind = "real") -> str:
        axes = self._union(*index, mask)
        return self.add(Load(name, buffer, index, mask, axes, kind), axes)

    def take(self, name: str, source: str, *index: Operand, kind: Kind = "real") -> str:
        local = {axis.name for axis in self.locals}
        kept = tuple(axis for axis in self.axes[source] if axis not in local)
        axes = tuple(dict.fromkeys((*kept, *self._union(*index))))
        return self.add(Take(name, source, index, axes, kind), axes)

    def dot(
        self,
        name: str,
        left: str,
        right: str,
        *over: str,
        init: Operand | None = None,
        scale: Operand | None = None,
        mask: Operand = True,
        exposed: tuple[str, ...] = (),
    ) -> str:
        axes = tuple(axis for axis in self._union(left, right, init, scale) if axis not in over)
        return self.add(Dot(name, left, right, over, init, scale, axes, mask, exposed), axes)

    def fold(
        self, name: str, op: str, value: Operand, *over: str, mask: Operand = True, kind: Kind = "real"
    ) -> str:
        axes = tuple(axis for axis in self._union(value, mask) if axis not in over)
        return self.add(Fold(name, op, value, over, mask, axes, kind), axes)  # pyright: ignore[reportArgumentType]

    def store(self, buffer: str, *index: Operand, value: Operand, mask: Operand = True) -> None:
        self.add(Store(buffer, index, value, mask), ())

    @contextmanager
    def stream(self, axes: list[StreamAxis], carries: list[Carry], visible: Operand = True) -> Iterator[None]:
        for axis in axes:
            self._axis(axis.name)
        for carry in carries:
            self.axes[carry.name] = carry.axes
        self.bodies.append([])
        yield
        body = self.bodies.pop()
        self.add(Stream(tuple(axes), tuple(carries), tuple(body), visible), ())

    def case(self, name: str = "sketch") -> Case:
        kernel = Kernel(
            name,
            self.real,
            tuple(self.sizes),
            tuple(self.buffers),
            tuple(self.grid),
            tuple(self.locals),
            self.lanes,
            tuple(self.bodies[0]),
        )
        return Case(kernel, self.tensors, list(self.sizes.values()))


# --- the kernels


def circular(
    sizes: tuple[int, int, int],
    channels: int = 16,
    radius: int = 4,
    tile: tuple[int, int] = (8, 8),
    step: tuple[int, int] = (8, 8),
    real: RealType = "float32",
) -> Case:
    """Circular attention as docs/architecture.md writes it; `channels` ** -0.5 scales the scores."""
    (batch, height, width), (th, tw), (sy, sx) = sizes, tile, step
    k = Sketch({"B": batch, "H": height, "W": width}, real)
    for name in "qkv":
        k.input(name, batch, height, width, channels)
    k.output("o", batch, height, width, channels)
    k.tiled("b", "B", 1)
    k.tiled("h", "H", th)
    k.tiled("w", "W", tw)
    k.local("d", channels)
    k.let("inside", "and", "h.valid", "w.valid", kind="bool")
    k.load("Q", "q", "b", "h", "w", "d", mask="inside")
    bounds: list[StreamAxis] = []
    for key, query, size, step_ in (("y", "h", "H", sy), ("x", "w", "W", sx)):
        k.let(f"{key}a", "sub", f"{query}.first", radius - 1, kind="int")
        k.let(f"{key}lo", "maximum", f"{key}a", 0, kind="int")
        k.let(f"{key}b", "add", f"{query}.last", radius, kind="int")
        k.let(f"{key}hi", "minimum", f"{key}b", size, kind="int")
        bounds.append(StreamAxis(key, f"{key}lo", f"{key}hi", step_))
    rows = ("h", "w")
    carries = [
        Carry("top", -INF, "high", rows, "real"),
        Carry("norm", 0.0, "more", rows, "real"),
        Carry("acc", 0.0, "grown", (*rows, "d"), "real"),
    ]
    with k.stream(bounds, carries, "seen"):
        for key, query in (("y", "h"), ("x", "w")):
            k.let(f"d{key}", "sub", key, query, kind="int")
            k.let(f"d{key}2", "mul", f"d{key}", f"d{key}", kind="int")
        k.let("r2", "add", "dy2", "dx2", kind="int")
        k.let("near", "lt", "r2", radius * radius, kind="bool")
        k.let("there", "and", "y.valid", "x.valid", kind="bool")
        k.let("seen", "and", "near", "there", kind="bool")
        k.load("K", "k", "b", "y", "x", "d", mask="there")
        k.load("V", "v", "b", "y", "x", "d", mask="there")
        k.dot("s", "K", "Q", "d")
        k.let("scaled", "mul", "s", channels**-0.5)
        k.let("t", "select", "seen", "scaled", -INF)
        k.fold("tm", "max", "t", "y", "x")
        k.let("high", "maximum", "top", "tm")
        k.let("none", "eq", "high", -INF, kind="bool")
        k.let("base", "select", "none", 0.0, "high")
        k.let("gap", "sub", "top", "base")
        k.let("shrink", "exp", "gap")
        k.let("tb", "sub", "t", "base")
        k.let("p", "exp", "tb")
        k.fold("ps", "sum", "p", "y", "x")
        k.let("less", "mul", "norm", "shrink")
        k.let("more", "add", "less", "ps")
        k.dot("grown", "V", "p", "y", "x", init="acc", scale="shrink")
    k.let("out", "div", "acc", "norm")
    k.store("o", "b", "h", "w", "d", value="out", mask="inside")
    return k.case("circular")


def elementwise(op: str, kinds: tuple[Kind, ...], result: Kind, tensors: list[Tensor], tile: int) -> Case:
    """One operation on vectors, in lanes of `tile` (1 is a kernel of numbers only)."""
    size = len(tensors[0])
    real: RealType = "float64" if any(t.dtype == torch.float64 for t in tensors) else "float32"
    k = Sketch({"N": size}, real)
    k.tiled("i", "N", tile)
    for number, (kind, tensor) in enumerate(zip(kinds, tensors, strict=True)):
        k.given(f"x{number}", tensor, kind)
        k.load(f"v{number}", f"x{number}", "i", mask="i.valid", kind=kind)
    k.output("o", size, kind=result)
    k.let("r", op, *(f"v{number}" for number in range(len(kinds))), kind=result)
    k.store("o", "i", value="r", mask="i.valid")
    return k.case(f"op_{op}")


def product(m: int, n: int, depth: int, tile: tuple[int, int, int], real: RealType, lane: bool) -> Case:
    """A matrix product, the depth streamed; `lane` puts the rows in the lanes."""
    k = Sketch({"M": m, "N": n, "K": depth}, real)
    k.input("a", m, depth)
    k.input("b", depth, n)
    k.output("o", m, n)
    k.tiled("i", "M", tile[0], lane=lane)
    k.tiled("j", "N", tile[1], lane=False)
    with k.stream([StreamAxis("k", 0, "K", tile[2])], [Carry("acc", 0.0, "more", ("i", "j"), "real")]):
        k.let("ik", "and", "i.valid", "k.valid", kind="bool")
        k.let("kj", "and", "k.valid", "j.valid", kind="bool")
        k.load("A", "a", "i", "k", mask="ik")
        k.load("B", "b", "k", "j", mask="kj")
        k.dot("more", "A", "B", "k", init="acc")
    k.let("inside", "and", "i.valid", "j.valid", kind="bool")
    k.store("o", "i", "j", value="acc", mask="inside")
    return k.case("product")


def folded(op: str, kind: Kind, tile: int, step: int, *, nan: bool = False) -> Case:
    """op over a streamed and a local axis, with a mask, and once more over all rows."""
    rows, keys, channels = 5, 7, 3
    k = Sketch({"I": rows, "J": keys})
    k.input("x", rows, keys, channels, kind=kind)
    k.input("m", rows, keys, kind="bool")
    if nan:
        k.tensors[0][1, 2, 1] = float("nan")
    k.output("o", rows, kind=kind)
    k.output("p", rows, channels, kind=kind)
    k.tiled("i", "I", tile)
    k.local("c", channels)
    start: Operand = {"sum": 0, "prod": 1, "any": False, "all": True}.get(op, -INF if op == "max" else INF)
    both = {"sum": "add", "prod": "mul", "max": "maximum", "min": "minimum", "any": "or", "all": "and"}[op]
    if kind == "int" and op in ("max", "min"):
        start = -(2**62) if op == "max" else 2**62
    elif kind == "real":
        start = float(start)
    carries = [Carry("a", start, "a2", ("i",), kind), Carry("b", start, "b2", ("i", "c"), kind)]
    with k.stream([StreamAxis("j", 0, "J", step)], carries):
        k.let("ij", "and", "i.valid", "j.valid", kind="bool")
        k.load("X", "x", "i", "j", "c", mask="ij", kind=kind)
        k.load("there", "m", "i", "j", mask="ij", kind="bool")
        k.fold("f", op, "X", "j", "c", mask="there", kind=kind)
        k.fold("g", op, "X", "j", kind=kind)
        k.let("a2", both, "a", "f", kind=kind)
        k.let("b2", both, "b", "g", kind=kind)
    k.store("o", "i", value="a", mask="i.valid")
    k.store("p", "i", "c", value="b", mask="i.valid")
    return k.case(f"fold_{op}_{kind}")


def streamed_outputs(tokens: int, inner: int, outer: int, tile: int, step: int) -> Case:
    """y = (x * g) W^T + bias: rows of x resident, outputs streamed with the store inside."""
    k = Sketch({"T": tokens, "O": outer})
    k.input("x", tokens, inner)
    k.input("g", inner)
    k.input("W", outer, inner)
    k.input("bias", outer)
    k.output("y", tokens, outer)
    k.tiled("t", "T", tile)
    k.local("c", inner)
    k.load("x_", "x", "t", "c", mask="t.valid")
    k.load("g_", "g", "c")
    k.let("z", "mul", "x_", "g_")
    with k.stream([StreamAxis("o", 0, "O", step)], []):
        k.load("W_", "W", "o", "c", mask="o.valid")
        k.load("b_", "bias", "o", mask="o.valid")
        k.dot("s", "W_", "z", "c")
        k.let("r", "add", "s", "b_")
        k.let("there", "and", "t.valid", "o.valid", kind="bool")
        k.store("y", "t", "o", value="r", mask="there")
    return k.case("outputs")


def depthwise(sizes: tuple[int, int, int], channels: int, radius: int, tile: tuple[int, int]) -> Case:
    """A depthwise window of zeros outside by a halo tile, and the mean over channels taken off it."""
    (batch, height, width), (th, tw) = sizes, tile
    k = Sketch({"B": batch, "H": height, "W": width})
    k.input("x", batch, channels, height, width)
    k.input("w", channels, 2 * radius + 1, 2 * radius + 1)
    k.output("y", batch, channels, height, width)
    k.tiled("b", "B", 1)
    k.tiled("h", "H", th)
    k.tiled("w_", "W", tw)
    k.local("c", channels)
    k.local("p", 2 * radius + 1, -radius)
    k.local("q", 2 * radius + 1, -radius)
    k.local("u", th + 2 * radius)
    k.local("v", tw + 2 * radius)
    masks: list[str] = []
    for halo, lane, size in (("u", "h", "H"), ("v", "w_", "W")):
        k.let(f"{halo}a", "sub", f"{lane}.first", radius, kind="int")
        k.let(f"{halo}at", "add", f"{halo}a", halo, kind="int")
        k.let(f"{halo}lo", "ge", f"{halo}at", 0, kind="bool")
        k.let(f"{halo}hi", "lt", f"{halo}at", size, kind="bool")
        masks.append(k.let(f"{halo}in", "and", f"{halo}lo", f"{halo}hi", kind="bool"))
    k.let("image", "and", *masks, kind="bool")
    k.load("X", "x", "b", "c", "uat", "vat", mask="image")
    k.let("pp", "add", "p", radius, kind="int")
    k.let("qq", "add", "q", radius, kind="int")
    k.load("K", "w", "c", "pp", "qq")
    for halo, lane, tap in (("u", "h", "pp"), ("v", "w_", "qq")):
        k.let(f"{halo}off", "sub", lane, f"{lane}.first", kind="int")
        k.let(f"{halo}tap", "add", f"{halo}off", tap, kind="int")
    k.take("X_at", "X", "c", "utap", "vtap")
    k.dot("s", "K", "X_at", "p", "q")
    k.fold("total", "sum", "s", "c")
    k.let("mean", "div", "total", channels)
    k.let("r", "sub", "s", "mean")
    k.let("inside", "and", "h.valid", "w_.valid", kind="bool")
    k.store("y", "b", "c", "h", "w_", value="r", mask="inside")
    return k.case("depthwise")


def total(sizes: tuple[int, int], tile: int) -> Case:
    """The sum over both axes by rows: lanes lie along the inner stream's axis."""
    k = Sketch({"I": sizes[0], "J": sizes[1]})
    k.input("x", *sizes)
    k.output("o")
    k.lanes = ("j",)
    axes = [StreamAxis("i", 0, "I", 1), StreamAxis("j", 0, "J", tile)]
    with k.stream(axes, [Carry("acc", 0.0, "more", (), "real")]):
        k.load("v", "x", "i", "j", mask="j.valid")
        k.fold("part", "sum", "v", "j")
        k.let("more", "add", "acc", "part")
    k.store("o", value="acc")
    return k.case("total")

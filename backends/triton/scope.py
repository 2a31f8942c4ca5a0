"""Operands, elementwise values, loads and stores."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...compiler.kernels.kernel import Buffer, Kernel, Let, Load, Operand, Store
from ...dsl.errors import CompilerFault
from ...dsl.ops import Kind
from .emit import STORED, WIDTH, Expressions, Lines, Value, literal, shape, spread
from .layout import Dims, Group, Layout, union
from .names import Identifiers, unique
from .options import Options

LOG2_E = 1.4426950408889634
"""The exponent of 2 that makes e. A weight beside one of 1 is exp2 of its own exponent times this: the error of
the product is below a unit of 1, and what is too small to be normal is 0."""


@dataclass(slots=True)
class Scope:
    """The source so far, and the identifier of everything in it. `values` holds what operands are,
    `places` the numbers 0, 1 ... along a dimension, `masked` the identifier of a masked value. `deferred`
    are the masked products that are looked at after their stream."""

    source_kernel: Kernel
    options: Options
    kernel: Kernel = field(init=False)
    layout: Layout = field(init=False)
    express: Expressions = field(init=False)
    identifiers: Identifiers = field(default_factory=Identifiers)
    values: dict[str, Value] = field(default_factory=dict[str, Value])
    places: dict[Group, str] = field(default_factory=dict[Group, str])
    masked: dict[str, str] = field(default_factory=dict[str, str])
    deferred: set[str] = field(default_factory=set[str])
    out: Lines = field(default_factory=Lines)

    def __post_init__(self) -> None:
        self.kernel = unique(self.source_kernel)
        self.layout = Layout(self.kernel)
        self.express = Expressions(self.kernel.real)

    # --- operands

    def operand(self, item: Operand) -> Value:
        """The value of a literal, a coordinate, a size, or something defined above."""
        if not isinstance(item, str):
            return literal(item)
        if item in self.values:
            return self.values[item]
        axis = self.layout.axes.get(item.removesuffix(".valid"))
        if axis is not None and item.endswith(".valid") and not axis.overhangs:
            return literal(True)
        raise CompilerFault("triton", f"`{item}` is not defined where it is read", str(self.source_kernel))

    def number(self, item: Operand) -> Value:
        """An operand that must be one integer."""
        value = self.operand(item)
        if value.dims or value.kind != "int":
            raise CompilerFault("triton", f"`{item}` is no single integer", str(self.source_kernel))
        return value

    def declare(self, name: str, kind: Kind, dims: Dims) -> str:
        """A new identifier for a value of the kernel."""
        identifier = self.identifiers.new(name.removeprefix("buffer ").replace(".", "_"))
        self.values[name] = Value(identifier, kind, dims)
        return identifier

    def exists(self, axes: tuple[str, ...]) -> Value:
        """Where the coordinates of all these axes exist."""
        masks = [self.operand(f"{axis}.valid") for axis in axes if self.layout.axes[axis].overhangs]
        return self.both(masks)

    def both(self, masks: list[Value]) -> Value:
        """The conjunction of masks, those of fewer dimensions first."""
        masks = sorted((mask for mask in masks if mask.number is not True), key=lambda mask: len(mask.dims))
        if not masks:
            return literal(True)
        dims = union(mask.dims for mask in masks)
        if any(mask.number is False for mask in masks):
            return literal(False)
        codes = [spread(mask, dims) for mask in dict.fromkeys(masks)]
        return Value(codes[0] if len(codes) == 1 else f"({' & '.join(codes)})", "bool", dims)

    # --- elementwise

    def let(self, let: Let) -> None:
        args, dims = [self.operand(arg) for arg in let.args], self.layout.values[let.name]
        found = union(arg.dims for arg in args)
        below = self.layout.below_a_maximum(let) if self.kernel.real != "float64" else None
        if below is None:
            code = self.express.operation(let.op, args, let.kind, found)
        else:
            code = f"tl.exp2({self.operand(below[0]).code} * {below[2] * LOG2_E!r})"
        if let.kind == "bool" and let.op not in ("and", "or", "not", "select"):
            code = _flag(code, found)
        if found != dims:  # all coordinates of an axis exist: its `valid` is a number
            code = self.express.fill(Value(f"({code})", let.kind, found), let.kind, dims)
        self.out.offer(self.declare(let.name, let.kind, dims), code)

    # --- memory

    def load(self, load: Load) -> None:
        buffer, dims = self.kernel.buffer(load.buffer), self.layout.values[load.name]
        pointer = self._pointer(buffer, load.index, dims)
        mask = self._mask(load.mask, dims)
        rest = [] if mask.number is True else [f"mask={self._guard(mask, dims)}", f"other={_zero(buffer)}"]
        name = self.declare(load.name, buffer.kind, dims)
        self.out.call(f"{name} = tl.load(", [pointer, *rest], f"){self._computed(buffer)}")
        if buffer.kind == "bool" and not dims:
            self.out.add(f"{name} = {_flag(name, dims)}")
        if load.kind != buffer.kind:
            code = self.express.to(self.values[load.name], load.kind).code
            self.out.add(f"{self.declare(load.name, load.kind, dims)} = {code}")

    def _computed(self, buffer: Buffer) -> str:
        """The cast from what a buffer stores to what the kernel computes in."""
        if buffer.kind == "bool":
            return ""
        stored, computed = stored_type(buffer), self.express.types[buffer.kind]
        return "" if stored == computed else f".to({computed})"

    def store(self, store: Store) -> None:
        buffer = self.kernel.buffer(store.buffer)
        dims = self.layout.join(*store.index, store.value, store.mask)
        pointer = self._pointer(buffer, store.index, dims)
        value = self.express.typed(self.express.to(self.operand(store.value), buffer.kind))
        code = spread(value, dims)
        stored = stored_type(buffer)
        if buffer.kind != "bool" and stored != self.express.types[buffer.kind]:
            code = f"{code}.to({stored})"
        mask = self._mask(store.mask, dims)
        rest = [] if mask.number is True else [f"mask={self._guard(mask, dims)}"]
        self.out.call("tl.store(", [pointer, code, *rest])

    def _mask(self, mask: Operand, dims: Dims) -> Value:
        """A mask, and with it the padding of `dims`: no statement touches memory there."""
        axes = [self.layout.axes[axis] for group in dims for axis in group.axes]
        padded = [axis.name for axis in axes if axis.group and axis.group.padded[axis.name] != axis.extent]
        open_ = tuple(axis for axis in padded if not self.layout.implies(mask, axis))
        return self.both([self.express.to(self.operand(mask), "bool"), self.exists(open_)])

    def _guard(self, mask: Value, dims: Dims) -> str:
        return self.express.fill(mask, "bool", dims) if mask.literal else spread(mask, dims)

    def _pointer(self, buffer: Buffer, index: tuple[Operand, ...], dims: Dims) -> str:
        """The addresses as a whole block of `dims`: the terms of each dimension are added up before
        they meet those of another."""
        name = self.values[f"buffer {buffer.name}"].code
        terms: dict[Dims, list[str]] = {}
        for dimension, item in enumerate(index):
            at = self.operand(item)
            stride = self.values[f"stride {buffer.name} {dimension}"].code
            if at.kind != "int":
                raise CompilerFault("triton", f"`{item}` is no integer index", str(self.source_kernel))
            if at.number == 0:
                continue
            code = f"tl.cast({at.code}, INT)" if at.literal else at.code
            terms.setdefault(at.dims, []).append(f"{code} * {stride}")
        parts = [name]
        for part in sorted(terms, key=len):
            total = " + ".join(terms[part])
            parts.append(spread(Value(f"({total})", "int", part), dims) if part else total)
        covered = union(terms)
        long = sum(len(part) + 3 for part in parts) > WIDTH - 20
        pointer = "\n+ ".join(parts) if long else " + ".join(parts)
        return pointer if covered == dims else f"tl.broadcast_to({pointer}, {shape(dims)})"


def _flag(code: str, dims: Dims) -> str:
    """A truth value. The interpreter takes a single one that was compared for a number of the type
    of what was compared, and fails where it meets a block; what `where` gives it takes right."""
    return code if dims else f"tl.where({code}, True, False)"


def stored_type(buffer: Buffer) -> str:
    """The Triton type of a buffer's numbers."""
    return {"real": STORED[buffer.real], "int": "tl.int64", "bool": "tl.int1"}[buffer.kind]


def _zero(buffer: Buffer) -> str:
    return "0.0" if buffer.kind == "real" else "0"

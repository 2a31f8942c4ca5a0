"""Folds, and the contractions that are no matrix product."""

from __future__ import annotations

from ...compiler.kernels.kernel import Dot, Fold, Operand
from ...dsl.ops import Kind
from .emit import Value, literal, shape, spread
from .layout import Dims, Group, union
from .ops import FOLDS, IDENTITY
from .scope import Scope


class Folds(Scope):
    """Prints reductions of dimensions, and of some axes of a dimension."""

    __slots__ = ()

    def fold(self, fold: Fold) -> None:
        """A fold is over the coordinates that exist and where its mask holds."""
        kind: Kind = fold.kind
        identity = IDENTITY[fold.op][kind]
        value, mask = self.express.to(self.operand(fold.value), kind), self.operand(fold.mask)
        open_ = self._open(fold.over, fold.mask, fold.value, identity)
        masks = [mask, self.exists(open_), self._first_of_others(fold.over, fold.axes)]
        whole = union((value.dims, mask.dims, self.layout.groups(fold.over)))
        code = self._masked(value, self.both(masks), identity, kind, whole)
        result = self.reduce(fold.op, Value(code, kind, whole), fold.over, fold.axes, fold.name)
        self._bind(fold.name, result)

    def _bind(self, name: str, result: Value) -> None:
        self.out.add(f"{self.declare(name, result.kind, result.dims)} = {result.code}")

    def _open(
        self, over: tuple[str, ...], mask: Operand, value: Operand, identity: Operand
    ) -> tuple[str, ...]:
        """The axes whose missing coordinates neither the mask nor the value itself leaves out."""
        layout = self.layout
        return tuple(
            axis
            for axis in over
            if not layout.implies(mask, axis) and not _same(layout.rests(value, axis), identity)
        )

    def _masked(
        self, value: Value, mask: Value, identity: bool | int | float, kind: Kind, whole: Dims
    ) -> str:
        """The value over all of `whole`, `identity` where the mask is false."""
        if mask.number is True:
            return self.express.fill(value, kind, whole)
        rest = literal(identity)
        value = self.express.typed(value)
        dims = union((value.dims, mask.dims))
        code = self._where(mask, value, rest.code, dims)
        return code if dims == whole else self.express.fill(Value(code, kind, dims), kind, whole)

    def _where(self, mask: Value, value: Value, rest: str, dims: Dims) -> str:
        """A masked value; that of a named one has a name too, and is computed once in a body."""
        code = f"tl.where({spread(mask, dims)}, {spread(value, dims)}, {rest})"
        if not value.code.isidentifier():
            return code
        if code not in self.masked:
            self.masked[code] = self.identifiers.new(f"{value.code}_masked")
            self.out.add(f"{self.masked[code]} = {code}")
        return self.masked[code]

    def _first_of_others(self, over: tuple[str, ...], axes: tuple[str, ...]) -> Value:
        """In a dimension that is folded for some of its axes, the value is repeated along the axes that
        the result lacks too; one of the repetitions counts."""
        masks: list[Value] = []
        for group in self.layout.groups(over):
            for axis in group.axes:
                if axis not in over and axis not in axes:
                    at, first = self.operand(axis), self.operand(f"{axis}.first")
                    masks.append(Value(f"({at.code} == {first.code})", "bool", at.dims))
        return self.both(masks)

    def reduce(self, op: str, value: Value, over: tuple[str, ...], axes: tuple[str, ...], name: str) -> Value:
        """The fold of a whole, masked block, dimension by dimension from the last."""
        row = FOLDS[op]
        template = row.integers if row.integers and value.kind == "int" else row.reals
        for group in reversed(value.dims):
            if not set(over) & set(group.axes):
                continue
            if set(axes) & set(group.axes):
                value = self._partly(template, value, group, axes, name)
            else:
                code = template.format(value.code, value.dims.index(group))
                value = Value(code, value.kind, tuple(g for g in value.dims if g is not group))
        return value

    def _partly(self, template: str, value: Value, group: Group, axes: tuple[str, ...], name: str) -> Value:
        """A fold of some axes of one dimension: split into its axes, fold, repeat, flatten again."""
        at = value.dims.index(group)
        before, after = ([str(g.size) for g in part] for part in (value.dims[:at], value.dims[at + 1 :]))
        sizes = [str(group.padded[axis]) for axis in group.axes]
        split = f"({', '.join([*before, *sizes, *after])})"
        code = f"tl.reshape({value.code}, {split})"
        marks = [":"] * (len(before) + len(sizes) + len(after))
        for i in reversed(range(len(sizes))):
            if group.axes[i] not in axes:
                code = template.format(code, at + i)
                marks[at + i] = "None"
        folded = self.identifiers.new(f"{name}_folded")
        self.out.add(f"{folded} = {code}")
        repeated = f"tl.broadcast_to({folded}[{', '.join(marks)}], {split})"
        return Value(f"tl.reshape({repeated}, {shape(value.dims)})", value.kind, value.dims)

    # --- contractions

    def multiply_and_sum(self, dot: Dot) -> None:
        """A dot that is no matrix product, or too small for one."""
        sides = [self._zeroed(side, dot.over) for side in (dot.left, dot.right)]
        whole = union((sides[0].dims, sides[1].dims, self.layout.groups(dot.over)))
        dims = union(side.dims for side in sides)
        product = f"{spread(sides[0], dims)} * {spread(sides[1], dims)}"
        first = self._first_of_others(dot.over, dot.axes)
        open_ = tuple(axis for axis in dot.over if self.layout.axes[axis].group not in dims)
        mask = self.both([first, self.exists(open_), self.express.to(self.operand(dot.mask), "bool")])
        code = self._masked(Value(f"({product})", "real", dims), mask, 0.0, "real", whole)
        total = self.reduce("sum", Value(code, "real", whole), dot.over, dot.axes, dot.name)
        self._bind(dot.name, self._added(total, dot))

    def _added(self, total: Value, dot: Dot) -> Value:
        """The product with `init * scale` added."""
        if dot.init is None:
            return total
        init = self.express.to(self.operand(dot.init), "real")
        scale = None if dot.scale is None else self.express.to(self.operand(dot.scale), "real")
        dims = union((total.dims, init.dims, scale.dims if scale else ()))
        start = spread(init, dims) + (f" * {spread(scale, dims)}" if scale else "")
        plain = Value(f"({total.code})", "real", total.dims)
        return Value(f"{start} + {spread(plain, dims)}", "real", dims)

    def _zeroed(self, name: str, over: tuple[str, ...]) -> Value:
        """One side of a dot, 0 where a coordinate that it is summed over does not exist."""
        value = self.express.to(self.operand(name), "real")
        axes = tuple(axis for axis in over if self.layout.axes[axis].group in value.dims)
        open_ = self._open(axes, True, name, 0.0)
        mask = self.exists(open_)
        if mask.number is True:
            return value
        dims = union((value.dims, mask.dims))
        return Value(self._where(mask, value, "0.0", dims), "real", dims)


def _same(known: Operand | None, identity: Operand) -> bool:
    """Whether a known number is the identity; 0 and 0.0 are one, 0 and false are not."""
    if known is None or isinstance(known, bool) != isinstance(identity, bool):
        return False
    return known == identity

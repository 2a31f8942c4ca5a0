"""Contractions as matrix products: `tl.dot` of two blocks turned, flattened and padded to fit."""

from __future__ import annotations

from ...compiler.kernel import Dot
from ...dsl.errors import CompilerFault
from .emit import STORED, Value, shape
from .folds import Folds
from .layout import Dims, union


class Dots(Folds):
    """Prints dots."""

    __slots__ = ()

    def dot(self, dot: Dot) -> None:
        product = self.layout.products.get(dot.name)
        if product is None:
            self.multiply_and_sum(dot)
            return
        real = self.layout.short(product)
        short = None if real is None else STORED[real]
        left = self._side(product.left, dot, (product.batch, product.rows, product.depth), short)
        right = self._side(product.right, dot, (product.batch, product.depth, product.columns), short)
        found = (*product.batch, *product.rows, *product.columns)
        dims = self.layout.values[dot.name]
        direct = found == dims and len(found) == len(product.batch) + 2
        start = self._start(dot, dims) if direct else None
        arguments = [left, right, *([] if start is None else [start])]
        arguments += [
            f'input_precision="{self.options.precision}"',
            f"out_dtype={self.express.types['real']}",
        ]
        if direct:
            self.out.call(f"{self.declare(dot.name, 'real', dims)} = tl.dot(", arguments)
            return
        code = f"tl.dot({', '.join(arguments)})"
        if len(found) != len(product.batch) + 2:
            code = f"tl.reshape({code}, {shape(found)})"
        ordered = union((found,))
        if found != ordered:
            code = f"tl.permute({code}, ({', '.join(str(found.index(group)) for group in ordered)}))"
        self._bind(dot.name, self._added(Value(code, "real", ordered), dot))

    def _start(self, dot: Dot, dims: Dims) -> str | None:
        """`init * scale` as the block that the product is added to."""
        if dot.init is None:
            return None
        init = self.express.to(self.operand(dot.init), "real")
        if dot.scale is None:
            return self.express.fill(init, "real", dims)
        scale = self.express.to(self.operand(dot.scale), "real")
        both = union((init.dims, scale.dims))
        code = self.express.operation("mul", [init, scale], "real", both)
        return code if both == dims else self.express.fill(Value(f"({code})", "real", both), "real", dims)

    def _side(self, name: str, dot: Dot, roles: tuple[Dims, Dims, Dims], short: str | None) -> str:
        """One operand with its dimensions in the order of `roles`, one for each role that has any."""
        value = self._zeroed(name, dot.over)
        code = value.code
        if short is not None:
            code = f"{code}.to({short}).to(DOT)"
        wanted = tuple(group for role in roles for group in role)
        if set(wanted) != set(value.dims):
            raise CompilerFault(
                "triton", f"`{name}` does not fit the product `{dot.name}`", str(self.source_kernel)
            )
        if wanted != value.dims:
            order = ", ".join(str(value.dims.index(group)) for group in wanted)
            code = f"tl.trans({code})" if len(wanted) == 2 else f"tl.permute({code}, ({order}))"
        sizes = [self.layout.places(role) for role in roles if role]
        if len(sizes) != len(wanted):
            code = f"tl.reshape({code}, ({', '.join(map(str, sizes))}))"
        return code

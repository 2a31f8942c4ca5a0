"""Contractions as matrix products: `tl.dot` of two blocks turned, flattened and padded to fit."""

from __future__ import annotations

from ...compiler.kernels.kernel import Dot
from ...dsl.errors import CompilerFault
from .emit import STORED, Value, shape
from .folds import Folds
from .layout import Dims, Product, union


def operands(short: str) -> str:
    """The constant that names what operands of this 16-bit type are given to a product as."""
    return f"DOT_{short.removeprefix('tl.').upper()}"


class Dots(Folds):
    """Prints dots."""

    __slots__ = ()

    def dot(self, dot: Dot) -> None:
        product = self.layout.products.get(dot.name)
        if product is None:
            self.multiply_and_sum(dot)
            return
        pairs = self._pairs(product, dot)
        found = (*product.batch, *product.rows, *product.columns)
        dims = self.layout.values[dot.name]
        direct = found == dims and len(found) == len(product.batch) + 2
        start = self._start(dot, dims) if direct else None
        precision = "ieee" if self.options.precision == "stored" else self.options.precision
        fixed = [f'input_precision="{precision}"', f"out_dtype={self.express.types['real']}"]
        for left, right in pairs[:-1]:
            part = self.identifiers.new(f"{dot.name}_part")
            self.out.call(f"{part} = tl.dot(", [left, right, *([] if start is None else [start]), *fixed])
            start = part
        arguments = [*pairs[-1], *([] if start is None else [start]), *fixed]
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

    def _pairs(self, product: Product, dot: Dot) -> list[tuple[str, str]]:
        """The operands of the matrix products that come to a dot, those that add least first."""
        roles = (product.batch, product.rows, product.depth), (product.batch, product.depth, product.columns)
        names = (product.left, product.right)
        split, real = self.layout.split(product), self.layout.short(product)
        rounded = self.layout.rounded(product) if self.options.precision == "stored" else None
        if rounded is not None:
            split, real = None, rounded
        short = STORED["bfloat16"] if split is not None else None if real is None else STORED[real]
        sides = [
            self._side(name, dot, role, None if name == split else short)
            for name, role in zip(names, roles, strict=True)
        ]
        if split is None:
            return [(sides[0], sides[1])]
        at = names.index(split)
        parts = reversed(self._parts(split, sides[at]))
        return [(part, sides[1]) if at == 0 else (sides[0], part) for part in parts]

    def _parts(self, name: str, code: str) -> list[str]:
        """Three bfloat16 blocks that add up to a float32 one, the largest first."""
        whole = self.identifiers.new(f"{name}_whole")
        self.out.add(f"{whole} = {code}")
        parts: list[str] = []
        for _ in range(3):
            parts.append(self.identifiers.new(f"{name}_part"))
            self.out.add(f"{parts[-1]} = {whole}.to(tl.bfloat16)")
            if len(parts) < 3:
                rest = self.identifiers.new(f"{name}_rest")
                self.out.add(f"{rest} = remainder({whole}, {parts[-1]})")
                whole = rest
        return [f"{part}.to({operands('tl.bfloat16')})" for part in parts]

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
            code = f"{code}.to({short}).to({operands(short)})"
        elif self.kernel.real == "float64" and self.layout.reads_bools(name):
            code = f"settled({code})"
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

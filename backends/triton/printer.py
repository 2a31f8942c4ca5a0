"""Kernel -> Triton: one Python file with one kernel function, and the library functions that it uses.

One program computes one tile. Lanes are flattened into the first dimension of its blocks, the axes of
a stream into another, each local axis is one more (`layout.py`). The function takes

    the buffers, the strides of each, the sizes of the kernel, first_tile, INT, EVEN

where the last two are compiled in. INT is the type of coordinates and of offsets into buffers: tl.int32
where the sizes (`widths.py`) and the strides of the call allow it, else tl.int64. EVEN says that the
axes that are cut into tiles have sizes that 16 divides, so that neighbours are masked together and
may be loaded at once.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ...compiler.kernels.kernel import Dot, Fold, Kernel, Let, Load, Statement, Store, Stream, every
from .dots import operands
from .emit import Value
from .options import Options
from .tiles import Tiles


@dataclass(frozen=True, slots=True)
class Source:
    """A whole file, complete without plait, and the name and parameters of its kernel function: the
    buffers in order, the strides of each as (name, buffer, dimension), the sizes, first_tile, INT, EVEN.
    `even` are the places of the sizes that EVEN speaks of."""

    text: str
    function: str
    buffers: tuple[str, ...]
    strides: tuple[tuple[str, int, int], ...]
    sizes: tuple[str, ...]
    even: tuple[int, ...]


def print_triton(kernel: Kernel, options: Options) -> Source:
    """The source of a kernel. Raises CompilerFault for one that is not well formed, or that has
    blocks larger than Triton takes."""
    return Printer(kernel, options).source()


class Printer(Tiles):
    """Prints the file and the body of the function."""

    __slots__ = ()

    def source(self) -> Source:
        self.identifiers.taken |= library().keys()
        name = self.identifiers.new(self.kernel.name)
        buffers = tuple(self.declare(f"buffer {each.name}", each.kind, ()) for each in self.kernel.buffers)
        strides = tuple(self._strides(buffers))
        sizes = tuple(self.identifiers.new(size) for size in self.kernel.sizes)
        even = tiled_sizes(self.kernel)
        groups = [
            buffers,
            [stride for stride, _, _ in strides],
            [*sizes, "first_tile"],
            ["INT: tl.constexpr", "EVEN: tl.constexpr"],
        ]
        rows = [textwrap.fill(", ".join(group), 95) + ",\n" for group in groups if group]
        shown = textwrap.indent("".join(rows), "    ").rstrip()
        with self.out.block(f"def {name}(\n{shown}\n):"):
            for size, identifier in zip(self.kernel.sizes, sizes, strict=True):
                self.values[size] = Value(identifier, "int")
                if self.kernel.sizes.index(size) in even:  # a product shows Triton what divides it
                    self.out.offer(identifier, f"{identifier} // 16 * 16 if EVEN else {identifier}")
                self.out.offer(identifier, f"{identifier}.to(INT)")
            self.tile()
            self.out.note("the values of the tile")
            self.body(self.kernel.body)
        unspecialised = ", ".join(f'"{each}"' for each in (*sizes, "first_tile"))
        function = f"@triton.jit(do_not_specialize=[{unspecialised}])\n{self.out.text()}"
        helpers = _used(function)
        parts = [self._title(), self._globals(function + "".join(helpers)), *helpers, function]
        return Source("\n\n\n".join(parts) + "\n", name, buffers, strides, sizes, even)

    def _title(self) -> str:
        launch = ", ".join(f"{name}={value}" for name, value in self.options.launch().items())
        text = "\n".join(f"#     {line}".rstrip() for line in str(self.source_kernel).splitlines())
        return f"# Written by plait from the kernel below, for a launch with {launch}.\n#\n{text}"

    def _globals(self, code: str) -> str:
        """Imports, and the constants that the functions read."""
        lines = ["import triton", "import triton.language as tl", ""]
        for name, text in constants().items():
            if name == "INTERPRETED" or re.search(rf"\b{name}\b", code):
                lines.append(text)
        for short in ("tl.bfloat16", "tl.float16"):
            if operands(short) in code:
                lines.append(
                    "# the interpreter multiplies 16-bit numbers wrongly, and float32 is exact for them"
                )
                lines.append(
                    f"{operands(short)} = tl.constexpr(tl.float32 if INTERPRETED.value else {short})"
                )
        return "\n".join(lines)

    def _strides(self, buffers: tuple[str, ...]) -> Iterator[tuple[str, int, int]]:
        for number, (buffer, name) in enumerate(zip(self.kernel.buffers, buffers, strict=True)):
            for dimension in range(buffer.rank):
                stride = self.identifiers.new(f"{name}_s{dimension}")
                self.values[f"stride {buffer.name} {dimension}"] = Value(stride, "int")
                yield stride, number, dimension

    def body(self, statements: tuple[Statement, ...]) -> None:
        """The statements in their order."""
        for statement in statements:
            match statement:
                case Let():
                    self.let(statement)
                case Load():
                    self.load(statement)
                case Dot():
                    self.dot(statement)
                case Fold():
                    self.fold(statement)
                case Store():
                    self.store(statement)
                case Stream():
                    self.stream(statement)


def tiled_sizes(kernel: Kernel) -> tuple[int, ...]:
    """The places of the sizes that are the extent of an axis with more than one coordinate a tile."""
    streams = (each for each in every(kernel.body) if isinstance(each, Stream))
    ends = {axis.stop for stream in streams for axis in stream.axes if axis.step > 1}
    ends |= {grid.size for grid in kernel.grid if grid.tile > 1}
    return tuple(place for place, size in enumerate(kernel.sizes) if size in ends)


# --- library.py, as text


@cache
def _library() -> tuple[dict[str, str], dict[str, str]]:
    text = Path(__file__).with_name("library.py").read_text(encoding="utf-8")
    lines = text.splitlines()
    functions: dict[str, str] = {}
    globals_: dict[str, str] = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef):
            functions[node.name] = "\n".join(lines[node.decorator_list[0].lineno - 1 : node.end_lineno])
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            globals_[node.targets[0].id] = "\n".join(lines[node.lineno - 1 : node.end_lineno])
    return functions, globals_


def library() -> dict[str, str]:
    """The functions of library.py by name."""
    return _library()[0]


def constants() -> dict[str, str]:
    """The constants of library.py by name."""
    return _library()[1]


def _used(code: str) -> list[str]:
    """The library functions that some code calls, and those that they call, in the library's order."""
    found: set[str] = set()
    texts = [code]
    while texts:
        words = set(re.findall(r"(?<![\w.])\w+", texts.pop()))
        new = [name for name in library() if name in words and name not in found]
        found.update(new)
        texts += [library()[name] for name in new]
    return [text for name, text in library().items() if name in found]

"""Expressions of Triton with their kind and block, and the lines they go to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from math import isfinite
from textwrap import indent

from ...compiler.kernels.kernel import Operand, RealType
from ...dsl.errors import CompilerFault
from ...dsl.ops import Kind, join
from .layout import Dims
from .ops import SPELLINGS

STORED: dict[RealType, str] = {
    "float32": "tl.float32",
    "float64": "tl.float64",
    "bfloat16": "tl.bfloat16",
    "float16": "tl.float16",
}
"""What a buffer of reals holds."""

COMPUTED: dict[RealType, str] = {**STORED, "bfloat16": "tl.float32", "float16": "tl.float32"}
"""What reals are computed in: 16-bit types serve for storage and for the operands of products only."""


def types(real: RealType) -> dict[Kind, str]:
    """The Triton type of each kind. INT is int32 or int64, as the sizes of a call need."""
    return {"real": COMPUTED[real], "int": "INT", "bool": "tl.int1"}


@dataclass(frozen=True, slots=True)
class Value:
    """An expression that may stand as an operand: a name, a literal, or one in brackets."""

    code: str
    kind: Kind
    dims: Dims = ()
    number: bool | int | float | None = None

    @property
    def literal(self) -> bool:
        return self.number is not None


def literal(value: Operand) -> Value:
    """A number of the kernel. Reals never look like integers, so that Triton takes them for reals."""
    match value:
        case bool():
            return Value(repr(value), "bool", (), value)
        case int():
            return Value(f"({value})" if value < 0 else str(value), "int", (), value)
        case float():
            if not isfinite(value):
                return Value(f'float("{value}")', "real", (), value)
            return Value(f"({value!r})" if value < 0 else repr(value), "real", (), value)
        case str():
            raise CompilerFault("triton", f"`{value}` is a name, not a number")


def spread(value: Value, dims: Dims) -> str:
    """The expression with a dimension of size 1 for each of `dims` that it lacks; a number as it is."""
    if not value.dims or value.dims == dims:
        return value.code
    marks = [":" if group in value.dims else "None" for group in dims]
    return f"{value.code}[{', '.join(marks)}]"


def shape(dims: Dims) -> str:
    """The block of some dimensions as a Python tuple."""
    sizes = [str(group.size) for group in dims]
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def plus(left: Value, right: Value) -> Value:
    """The sum of two single integers, without brackets."""
    if left.number is not None and right.number is not None:
        return literal(int(left.number) + int(right.number))
    if 0 in (left.number, right.number):
        return right if left.number == 0 else left
    return Value(f"{left.code} + {right.code}", "int")


def minus(left: Value, right: Value) -> Value:
    """The difference of two single integers, the second one a name or a literal."""
    if left.number is not None and right.number is not None:
        return literal(int(left.number) - int(right.number))
    return left if right.number == 0 else Value(f"{left.code} - {right.code}", "int")


@dataclass(slots=True)
class Expressions:
    """Builds expressions of a kernel whose reals are `real`."""

    real: RealType
    types: dict[Kind, str] = field(init=False)

    def __post_init__(self) -> None:
        self.types = types(self.real)

    def typed(self, value: Value) -> Value:
        """A literal as a number of its exact type; anything else as it is."""
        if not value.literal:
            return value
        return Value(f"tl.full((), {value.code}, {self.types[value.kind]})", value.kind)

    def to(self, value: Value, kind: Kind) -> Value:
        """The value in another kind; a real becomes no integer this way."""
        if value.kind == kind:
            return value
        if (value.kind, kind) == ("real", "int"):
            raise CompilerFault("triton", f"`{value.code}` is real where an integer is needed")
        if value.number is not None:
            convert = {"bool": bool, "int": int, "real": float}[kind]
            return literal(convert(value.number))
        if kind == "bool":
            return Value(f"({value.code} != 0)", kind, value.dims)
        return Value(f"{value.code}.to({self.types[kind]})", kind, value.dims)

    def fill(self, value: Value, kind: Kind, dims: Dims) -> str:
        """The value as a whole block of `dims`, or as a number where there are none."""
        value = self.to(value, kind)
        if value.literal:
            return f"tl.full({shape(dims)}, {value.code}, {self.types[kind]})"
        if value.dims == dims:
            return value.code
        return f"tl.broadcast_to({spread(value, dims)}, {shape(dims)})"

    def operation(self, op: str, args: list[Value], kind: Kind, dims: Dims) -> str:
        """`op` of the arguments over `dims`, with a result of `kind`."""
        if op == "select":
            return self._select(args, kind, dims)
        row = SPELLINGS.get(op)
        if row is None:
            raise CompilerFault("triton", f"no Triton spelling of `{op}`")
        kinds: list[Kind] = [arg.kind for arg in args]
        takes = row.takes or join(*kinds)
        if kind == "real" or (kind, takes) == ("int", "bool"):
            takes = join(takes, kind)
        args = [self.to(arg, takes) for arg in args]
        if op == "pow" and not args[0].literal and (short := _short_power(args[0], args[1], dims)):
            return short
        if op in ("minimum", "maximum") and args[0].literal:
            args.reverse()
        template = row.integers if row.integers and takes == "int" else row.reals
        if op == "pow" and takes == "real":
            return template.format(*(self.fill(arg, takes, dims) for arg in args))
        calls = re.match(r"[\w.]+\(", template) is not None
        if all(arg.literal for arg in args) or (calls and takes == "real"):
            args = [self.typed(arg) for arg in args]
        elif calls:
            args = [self.typed(args[0]), *args[1:]]
        return template.format(*(spread(arg, dims) for arg in args), type=self.types[kind])

    def _select(self, args: list[Value], kind: Kind, dims: Dims) -> str:
        test, yes, no = args[0], self.to(args[1], kind), self.to(args[2], kind)
        if yes.literal and no.literal:
            yes = self.typed(yes)
        return f"tl.where({', '.join(spread(value, dims) for value in (test, yes, no))})"


def _short_power(base: Value, exponent: Value, dims: Dims) -> str | None:
    """Small whole exponents and square roots, which need no logarithm; nothing for others."""
    power, code = exponent.number, spread(base, dims)
    if power is None or not isfinite(power):
        return None
    if power == int(power) and 0 < abs(power) <= 4:
        whole = " * ".join([code] * abs(int(power)))
        return whole if power > 0 else f"1.0 / ({whole})"
    if abs(power) == 0.5:
        return f"square_root({code})" if power > 0 else f"1.0 / square_root({code})"
    return None


WIDTH = 100
"""Columns that a call fills before its arguments go on lines of their own."""


@dataclass(slots=True)
class Lines:
    """Source under construction. A line may be *optional*: it stays if the name it gives is read."""

    lines: list[tuple[str, str | None]] = field(default_factory=list[tuple[str, str | None]])
    depth: int = 0

    def add(self, line: str) -> None:
        self.lines.append((indent(line, "    " * self.depth), None))

    def call(self, head: str, arguments: list[str], tail: str = ")") -> None:
        """A call on one line, or on one for each argument where that is too long."""
        line = f"{head}{', '.join(arguments)}{tail}"
        if len(line) + 4 * self.depth > WIDTH:
            inside = "".join(indent(f"{argument},\n", "    ") for argument in arguments)
            line = f"{head}\n{inside}{tail}"
        self.add(line)

    def offer(self, name: str, expression: str) -> None:
        """`name = expression`, left out if no later line reads the name."""
        self.lines.append(("    " * self.depth + f"{name} = {expression}", name))

    def note(self, text: str) -> None:
        """A comment; a blank line before it marks the beginning of a part."""
        self.lines.append(("", None))
        self.add(f"# {text}")

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        self.add(head)
        self.depth += 1
        yield
        self.depth -= 1

    def text(self) -> str:
        kept: list[str] = []
        read: set[str] = set()
        for line, name in reversed(self.lines):
            if name is not None and name not in read:
                continue
            if not line.lstrip().startswith("#"):
                read.update(re.findall(r"\w+", line.split("=", 1)[1] if name is not None else line))
            kept.append(line)
        return "\n".join(_filled(kept[::-1]))


def _filled(lines: list[str]) -> Iterator[str]:
    """The lines, with `pass` below each head that has no statement left: of a stream, perhaps nothing
    changes from chunk to chunk."""
    code = [i for i, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")]
    following = dict(pairwise(code))
    for i, line in enumerate(lines):
        yield line
        if i in following or i == code[-1]:
            depth = _depth(line)
            below = following.get(i)
            if line.endswith(":") and (below is None or _depth(lines[below]) <= depth):
                yield " " * (depth + 4) + "pass"


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip(" "))

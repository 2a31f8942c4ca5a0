"""Lines of C++ with scopes, and the text of operands and operations in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

from ...compiler.kernels.kernel import Operand
from ...dsl.errors import CompilerFault
from ...dsl.ops import Kind, join
from .ops import SPELLINGS

_FOLDER = resources.files(__name__.rpartition(".")[0])
HEADER = "".join(_FOLDER.joinpath(name).read_text() for name in ("plait.h", "math.h", "tiles.h", "exact.h"))
"""What every source begins with, behind its defines."""

_WORDS = """
    alignas and auto bool break case catch char class const continue decltype default delete do double dot else enum
    explicit extern false float for friend goto if ilogb imask inline inum int ivec job libm long mask mutable
    namespace new not operator or part private public real register return runner short signed sizeof span static
    struct switch template this throw true try typedef typename union unsigned using vec virtual void volatile while xor
    abs ceil cos erf exp floor gamma j0 j1 jn log main pow round sin sqrt tanh trunc y0 y1 yn
    ALL FAR LANES NONE SOME VECTORS WIDTH given batch i j m_ next numbers rest shared tile tiles total u v0 vectors vi
    exact existing left whole work
    x_ a_ b_ seen_at
"""
RESERVED = frozenset(_WORDS.split()) | frozenset(re.findall(r"\b([A-Za-z_]\w*)\s*\(", HEADER))
"""Names that a value of a kernel cannot have in C++: keywords, libm, ours, and all of plait.h."""

TYPES: dict[Kind, str] = {"real": "real", "int": "long", "bool": "bool"}
VECTORS: dict[Kind, str] = {"real": "vec", "int": "ivec", "bool": "mask"}


_TAKEN = re.compile(r"(.*_([a-z]|s\d+|first|last|count|low|end|tiles?|lane|at|from|to|part|step))_*")
"""Names like those that the printer makes of a name: arrays, strides, bounds."""


@cache
def mangle(name: str) -> str:
    """A C++ identifier for a name of the kernel, another one for another name."""
    head, _, part = name.partition(".")
    plain = "".join(each if each.isalnum() or each == "_" else f"u{ord(each):x}_" for each in head)
    if plain.rstrip("_") in RESERVED or plain[0].isdigit() or _TAKEN.fullmatch(plain):
        plain = f"x{plain}_" if plain[0].isdigit() else f"{plain}_"
    return f"{plain}_{part}" if part else plain


@dataclass(slots=True)
class Text:
    """An expression with its kind; `lanes` says that it is a vector."""

    code: str
    kind: Kind
    lanes: bool


@dataclass(slots=True)
class Lines:
    """Source under construction; `scopes` hold the names declared in each open brace, and what they are
    called there."""

    lines: list[str] = field(default_factory=list[str])
    depth: int = 0
    scopes: list[dict[str, str | None]] = field(default_factory=lambda: [dict[str, str | None]()])

    def add(self, line: str) -> None:
        self.lines.append("  " * self.depth + line)

    @contextmanager
    def braces(self, head: str) -> Iterator[None]:
        self.add(f"{head} {{" if head else "{")
        self.depth += 1
        self.scopes.append({})
        yield
        self.scopes.pop()
        self.depth -= 1
        self.add("}")

    def declared(self, name: str) -> bool:
        return any(name in scope for scope in self.scopes)

    def text(self, name: str) -> str | None:
        """What a declared name is called, where it is not its own C++ name."""
        return next((scope[name] for scope in reversed(self.scopes) if name in scope), None)

    def declare(self, name: str, text: str | None = None) -> None:
        self.scopes[-1][name] = text

    def __str__(self) -> str:
        return "\n".join(self.lines)


def literal(value: Operand) -> Text:
    """A number of the kernel as C++."""
    match value:
        case bool():
            return Text("true" if value else "false", "bool", False)
        case int():
            return Text(f"{value}L", "int", False)
        case float():
            if value != value:
                return Text("real(NAN)", "real", False)
            if value in (float("inf"), float("-inf")):
                return Text("real(INFINITY)" if value > 0 else "real(-INFINITY)", "real", False)
            return Text(f"real({value!r})", "real", False)
        case str():
            raise CompilerFault("cpp", f"`{value}` is a name, not a number")


def widen(text: Text, kind: Kind, lanes: bool) -> str:
    """The expression as `kind`, as a vector if `lanes`."""
    code = text.code
    if text.lanes:
        if text.kind == kind:
            return code
        return f"to_real({code})" if (text.kind, kind) == ("int", "real") else f"({code} != 0)"
    if text.kind != kind:
        code = f"({TYPES[kind]})({code})"
    if not lanes:
        return code
    spread = {"real": "all", "int": "alli", "bool": "allb"}[kind]
    return f"{spread}({code})"


def operation(op: str, args: list[Text], kind: Kind) -> Text:
    """`op` of the arguments; a vector as soon as one of them is."""
    lanes = any(arg.lanes for arg in args)
    if op == "select":
        yes, no = (widen(arg, kind, lanes) for arg in args[1:])
        test = widen(args[0], "bool", lanes) if args[0].lanes else args[0].code
        if lanes and args[0].lanes and kind == "int":
            test = f"__builtin_convertvector({test}, imask)"
        return Text(f"({test} ? {yes} : {no})", kind, lanes)
    if op in ("to_int", "to_real") and args[0].kind == "bool":
        numbers = (1, 0) if op == "to_int" else (1.0, 0.0)
        return operation("select", [args[0], *map(literal, numbers)], kind)
    if op == "to_int" and args[0].kind == "real":
        op = "trunc"
    row = SPELLINGS.get(op)
    if row is None:
        raise CompilerFault("cpp", f"no C++ spelling of `{op}`")
    kinds: list[Kind] = [arg.kind for arg in args]
    if op == "pow" and kind == "int":
        return Text(f"ipow({args[0].code}, {args[1].code})", kind, False) if not lanes else _lane_power(args)
    takes: Kind = join(*kinds) if row.takes == "join" or row.takes == "same" else row.takes
    texts = [widen(arg, takes, lanes) for arg in args]
    spelled = row.scalar if not lanes else row.integers if row.integers and takes == "int" else row.lanes
    code = spelled.format(*texts)
    if lanes and kind == "bool" and takes == "int":
        code = f"to_mask({code})"
    return Text(code, kind, lanes)


def _lane_power(args: list[Text]) -> Text:
    power = int(args[1].code.rstrip("L"))
    code = " * ".join([args[0].code] * power) if power else "alli(1)"
    return Text(f"({code})", "int", True)

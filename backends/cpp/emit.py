"""Lines of C++ with scopes, and the text of operands and operations in them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ...compiler.kernel import Operand
from ...dsl.errors import CompilerFault
from ...dsl.ops import Kind, join
from .ops import SPELLINGS

RESERVED = frozenset(
    "alignas all allb alli and any auto bool break case char class const double dot else enum for float goto if int "
    "job load long mask new not or part point real register return runner short signed span static store struct "
    "switch this true false typedef union unsigned using vec void volatile while xor ivec inum imask block both either "
    "eq lt le opposite LANES WIDTH VECTORS FAR NONE SOME ALL vi i j m_ x_ rest tile tiles numbers shared given work "
    "next seen_at main "
    "exp log sin cos tanh erf pow sqrt floor ceil round trunc abs y0 y1 yn j0 j1 jn gamma".split()
)

TYPES: dict[Kind, str] = {"real": "real", "int": "long", "bool": "bool"}
VECTORS: dict[Kind, str] = {"real": "vec", "int": "ivec", "bool": "mask"}


def mangle(name: str) -> str:
    """A C++ identifier for a name of the kernel."""
    plain = name.replace(".", "_")
    return f"{plain}_" if plain in RESERVED or plain[0].isdigit() else plain


@dataclass(slots=True)
class Text:
    """An expression with its kind; `lanes` says that it is a vector."""

    code: str
    kind: Kind
    lanes: bool


@dataclass(slots=True)
class Lines:
    """Source under construction; `scopes` hold the names declared in each open brace."""

    lines: list[str] = field(default_factory=list[str])
    depth: int = 0
    scopes: list[set[str]] = field(default_factory=lambda: [set[str]()])

    def add(self, line: str) -> None:
        self.lines.append("  " * self.depth + line)

    @contextmanager
    def braces(self, head: str) -> Iterator[None]:
        self.add(f"{head} {{" if head else "{")
        self.depth += 1
        self.scopes.append(set())
        yield
        self.scopes.pop()
        self.depth -= 1
        self.add("}")

    def declared(self, name: str) -> bool:
        return any(name in scope for scope in self.scopes)

    def declare(self, name: str) -> None:
        self.scopes[-1].add(name)

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

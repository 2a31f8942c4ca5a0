"""The syntax tree of the text spelling: what `parse` reads and `elaborate` gives meaning to.

Every node knows its place. A chain of operators of one level is one node, so that the tree is as
deep as its brackets and not as long as its sums.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..ops import Kind
from ..program import Scalar
from ..source import Source, Span
from .header import Header, HeaderAxis, HeaderTensor


@dataclass(frozen=True, slots=True)
class Name:
    """A name. In quotes it is only ever that of a tensor or, in a list of axes, of an axis."""

    text: str
    span: Span
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class Number:
    value: Scalar
    span: Span


# --- expressions


@dataclass(frozen=True, slots=True)
class Unary:
    """`-x`, `~p`."""

    op: str
    operand: Expression
    span: Span


@dataclass(frozen=True, slots=True)
class Chain:
    """`a + b - c`: operators of one level from left to right; `otherwise` and `**` too."""

    first: Expression
    rest: tuple[tuple[str, Expression], ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Read:
    """`x[h+dh, w+dw]`, where no item has a key, or `x[h: e, w: f]`, where all have one."""

    value: Expression
    items: tuple[Argument, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Argument:
    """`x`; `p: step`; `p: step from init`."""

    value: Expression
    key: Expression | None
    init: Expression | None
    span: Span


@dataclass(frozen=True, slots=True)
class Call:
    """`exp(x)`; another mixer: `f(x, y; radius = 3; axes h = y)`."""

    name: Name
    args: tuple[Argument, ...]
    statics: tuple[Static, ...]
    axes: tuple[tuple[Name, Name], ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Domain:
    """The axes that go for one piece of a reduction, and where: `dh, dw | dh*dh < r`."""

    axes: tuple[Name, ...]
    where: Expression | None


@dataclass(frozen=True, slots=True)
class Fold:
    """A reduction, one domain for each argument: `sum[d](x)`, `lse[dh, dw; t](a, b)`.

    `which` picks what an argmax answers for: an axis, or the number of one.
    """

    op: str
    domains: tuple[Domain, ...]
    which: Name | Number | None
    args: tuple[Argument, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Made:
    """`fft[h, w -> u, v](x)`, `solve[n, m -> m](S, g)`, `cat[a, b -> n](x, y)`."""

    op: str
    over: tuple[Name, ...]
    new: tuple[Name, ...]
    args: tuple[Argument, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Placed:
    """`place(y, h: e)`; `place[b, c](y, h: e)` lists the axes that it keeps."""

    keep: tuple[Name, ...] | None
    args: tuple[Argument, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Scanned:
    """`scan[y](p: step)`; `scan[last reverse y: q until done](p: step, q: other)`."""

    axis: Name
    last: bool
    reverse: bool
    which: Name | None
    until: Expression | None
    args: tuple[Argument, ...]
    span: Span


Expression = Name | Number | Unary | Chain | Read | Call | Fold | Made | Placed | Scanned


# --- statements


@dataclass(frozen=True, slots=True)
class Static:
    """`radius = 8` of a header or a call; None where a header gives no default."""

    name: Name
    value: Expression | None
    span: Span


@dataclass(frozen=True, slots=True)
class RangeStatement:
    """`near dh, dw: radius`, `span i: lo, hi`, `axis u: size`, `axis u: size from lo`."""

    how: Literal["near", "span", "axis"]
    names: tuple[Name, ...]
    first: Expression
    second: Expression | None
    span: Span


@dataclass(frozen=True, slots=True)
class LikeStatement:
    """`like s: t`."""

    names: tuple[Name, ...]
    of: Name
    span: Span


@dataclass(frozen=True, slots=True)
class AxisStatement:
    """`axis j, k=3`: axes of the signature that the header does not mention."""

    axes: tuple[HeaderAxis, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class TensorStatement:
    """`param w[c, 1, (h w)]: complex = "key" init normal(0, 1) frozen also "other"`."""

    table: Literal["parameters", "buffers", "draws"]
    tensor: HeaderTensor
    key: str
    init: Expression | None
    frozen: bool
    also: tuple[str, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class VariableStatement:
    """`previous p[t, b]: real = init`, `cotangent g = x`: a variable that a scan or a rule binds.

    `axes` and `kind` are None where they are not written.
    """

    role: Literal["previous", "cotangent"]
    name: Name
    axes: tuple[HeaderAxis, ...] | None
    kind: Kind | None
    value: Expression | None
    span: Span


@dataclass(frozen=True, slots=True)
class RequireStatement:
    predicate: Expression
    span: Span


@dataclass(frozen=True, slots=True)
class UpdateStatement:
    buffer: Name
    value: Expression
    span: Span


@dataclass(frozen=True, slots=True)
class OutputStatement:
    """`output o = e`: gives an output without naming a value."""

    name: Name
    value: Expression
    span: Span


@dataclass(frozen=True, slots=True)
class ModeStatement:
    name: Name
    span: Span


@dataclass(frozen=True, slots=True)
class Assignment:
    """`s = e`; `i, j = argmax[h, w](x)`, where `_` drops a value."""

    targets: tuple[Name, ...]
    value: Expression
    span: Span


@dataclass(frozen=True, slots=True)
class DocStatement:
    text: str
    span: Span


Statement = (
    RangeStatement
    | LikeStatement
    | AxisStatement
    | TensorStatement
    | VariableStatement
    | RequireStatement
    | UpdateStatement
    | OutputStatement
    | ModeStatement
    | Assignment
    | DocStatement
)


@dataclass(frozen=True, slots=True)
class MixerAst:
    """One mixer of a text."""

    name: str
    header: Header
    statics: tuple[Static, ...]
    body: tuple[Statement, ...]
    source: Source
    span: Span

    @property
    def doc(self) -> str:
        """The text in quotes that stands alone at the beginning."""
        match self.body:
            case (DocStatement(text=text), *_):
                return text
            case _:
                return ""

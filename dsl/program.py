"""Waist 1: the `Program`. Everything before it builds one; everything behind it starts from one.

A value is a partial function from named indices to scalars, over a finite box: the product of the
ranges of its axes. A *form* denotes a value. `[v](i)` below is the value of v at the index i, or
none where v is absent; `P(v)` is where it is not none. A value is absent outside its box.

    Const, Size, Coordinate, Leaf       total on their box
    Map(f, xs)(i)                       f of the xs; none if one of them is none
    When(p, x)(i)                       x(i) if p(i) is true, else none
    Otherwise(x, y)(i)                  x(i) where present, else y(i)
    At(x, {a: e})(i)                    x(i with a := e(i), all at once); none outside a's range
    Place(y, {a: e}, keep)(j, k)        sum of y(i) over i in P(y) with i|keep = k and e(i) = j
    Reduce(op, pieces)(i)               op over the disjoint union of the pieces' present entries;
                                        none if there is none (count, any, all: 0, false, true)
    Scan(axis, carries, ...)            least solution of o(t) = step(previous), previous(t) = o(t-1)
    Library(op, args, ...)              fft, solve, sort and top-k indices
    AsIf(x, y)                          the value of x, the derivative of y
    OnGradient(x, rule)                 x; its cotangent g becomes rule(g)
    Jvp(y, xs, ts), Vjp(y, x, u)        directional derivative, pullback

Forms are frozen and cheaply hashable: equality is equality of meaning-bearing structure (a digest
computed at construction), never of names, places or spelling. Two derived facts sit on every form:
`axes` (in order of first occurrence; the order never means anything) and `kind`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from functools import cached_property
from hashlib import blake2b
from itertools import count
from typing import Any, Literal

from .errors import CompilerFault
from .ops import Kind, join, kind_of, reduce_kind
from .source import Span

Scalar = bool | int | float | complex
Role = Literal["input", "parameter", "buffer", "draw", "bound"]
How = Literal["signature", "axis", "near", "span", "like"]

_serials = count(1)
_set = object.__setattr__


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """A name with a finite range lo .. lo + size - 1.

    A signature axis (serial 0) is its name: two of one name are one axis, and its size (None here)
    comes from the inputs. Every other axis is itself only, whatever its name.
    """

    name: str
    serial: int = 0
    lo: Form | None = None
    size: Form | None = None
    how: How = "signature"
    span: Span | None = None
    key: str = field(init=False, repr=False, default="")

    def __post_init__(self) -> None:
        _set(self, "key", f"{self.name}#{self.serial}" if self.serial else self.name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Axis) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return self.key


BATCH = Axis("...")
"""The batch: one tuple of axes for all inputs, written `...`; it stands for any number of them."""


def fresh_axis(name: str, lo: Form, size: Form, how: How, span: Span | None = None) -> Axis:
    """An axis that is equal to no other."""
    return Axis(name, next(_serials), lo, size, how, span)


MOST_SHOWN = 6
"""How many forms in each other a `repr` shows."""

_shown: ContextVar[int] = ContextVar("plait_shown", default=0)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Form:
    """Base of the forms."""

    span: Span | None = field(default=None, kw_only=True, repr=False)
    axes: tuple[Axis, ...] = field(init=False, repr=False, default=())
    kind: Kind = field(init=False, repr=False, default="real")
    digest: bytes = field(init=False, repr=False, default=b"")

    def _seal(self, axes: Iterable[Axis], kind: Kind | str, *identity: object) -> None:
        """Set the derived facts. `identity` holds what the form means, children as forms."""
        if " " in kind:
            raise CompilerFault("build", f"{type(self).__name__} {kind}")
        _set(self, "axes", tuple(dict.fromkeys(axes)))
        _set(self, "kind", kind)
        text = repr((type(self).__name__, *[_identity(item) for item in identity]))
        _set(self, "digest", blake2b(text.encode(), digest_size=16).digest())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Form) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        """Down to `MOST_SHOWN` forms in each other: a program may be thousands deep."""
        depth = _shown.get()
        if depth == MOST_SHOWN:
            return f"{type(self).__name__}(...)"
        token = _shown.set(depth + 1)
        try:
            parts = [f"{each.name}={getattr(self, each.name)!r}" for each in fields(self) if each.repr]
        finally:
            _shown.reset(token)
        return f"{type(self).__name__}({', '.join(parts)})"


def _identity(item: object) -> object:
    if isinstance(item, str):
        return item
    if isinstance(item, Form):
        return item.digest.hex()
    if isinstance(item, tuple):
        return tuple(map(_identity, item))  # pyright: ignore[reportUnknownArgumentType]
    return item.key if isinstance(item, Axis) else item


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Const(Form):
    """A number or a truth value. `written` is how the author wrote it (`radius*radius`)."""

    value: Scalar
    written: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        value = self.value
        kinds: dict[type, Kind] = {bool: "bool", int: "int", float: "real", complex: "complex"}
        self._seal((), kinds[type(value)], type(value).__name__, repr(value))


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Size(Form):
    """The number of indices of an axis."""

    axis: Axis

    def __post_init__(self) -> None:
        self._seal((), "int", self.axis)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Coordinate(Form):
    """The index itself: the value over `axis` that is i at i."""

    axis: Axis

    def __post_init__(self) -> None:
        self._seal((self.axis,), "int", self.axis)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Leaf(Form):
    """A tensor from outside: an input, a parameter, a buffer, a draw; or a variable bound by
    `Scan` (the previous value) or `OnGradient` (the cotangent).

    `over` are its axes in the order of storage; `ranges_over` says that its integers are indices
    of an axis (`ids[b, t]: index v`).
    """

    role: Role
    name: str
    over: tuple[Axis, ...]
    declared: Kind = "real"
    ranges_over: Axis | None = None

    def __post_init__(self) -> None:
        self._seal(self.over, self.declared, self.role, self.name, self.over, self.declared, self.ranges_over)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Map(Form):
    """A scalar operation of `dsl.ops`, strict in absence."""

    op: str
    args: tuple[Form, ...]

    def __post_init__(self) -> None:
        axes = [axis for arg in self.args for axis in arg.axes]
        self._seal(axes, map_kind(self.op, self.args), self.op, self.args)


def map_kind(op: str, args: tuple[Form, ...]) -> Kind | str:
    """The kind of a map, or why there is none. A constant whole power keeps the base's kind."""
    if op == "pow" and isinstance(args[1], Const) and type(args[1].value) is int and args[1].value >= 0:
        return args[0].kind if args[0].kind != "bool" else "takes numbers, not truth values"
    return kind_of(op, tuple([arg.kind for arg in args]))


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class When(Form):
    predicate: Form
    value: Form

    def __post_init__(self) -> None:
        kind = self.value.kind if self.predicate.kind == "bool" else "needs a predicate"
        self._seal((*self.value.axes, *self.predicate.axes), kind, self.predicate, self.value)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Otherwise(Form):
    value: Form
    fallback: Form

    def __post_init__(self) -> None:
        kinds: tuple[Kind, ...] = (self.value.kind, self.fallback.kind)
        kind = "mixes truth values and numbers" if kinds.count("bool") == 1 else join(*kinds)
        self._seal((*self.value.axes, *self.fallback.axes), kind, self.value, self.fallback)


Indices = tuple[tuple[Axis, Form], ...]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class At(Form):
    """Simultaneous substitution of indices: shift, stride, flip, split, merge, gather."""

    value: Form
    indices: Indices

    def __post_init__(self) -> None:
        replaced = {axis for axis, _ in self.indices}
        kept = (axis for axis in self.value.axes if axis not in replaced)
        new = (axis for _, index in self.indices for axis in index.axes)
        ordered = tuple(sorted(self.indices, key=lambda pair: pair[0].key))
        self._seal((*kept, *new), self.value.kind, self.value, ordered)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Place(Form):
    """The transpose of `At`. The axes of the result are the replaced ones, then `keep`."""

    value: Form
    indices: Indices
    keep: tuple[Axis, ...]

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.indices, key=lambda pair: pair[0].key))
        kept = tuple(sorted(self.keep, key=lambda axis: axis.key))
        self._seal(
            (*(axis for axis, _ in self.indices), *self.keep), self.value.kind, self.value, ordered, kept
        )


@dataclass(frozen=True, slots=True)
class Piece:
    """What one reduction runs over: a value and the axes that go. Several make a union."""

    value: Form
    axes: tuple[Axis, ...]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Reduce(Form):
    """`component` picks the axis that an argmax answers for; axes are listed in the order that
    decides ties (first in row-major order)."""

    op: str
    pieces: tuple[Piece, ...]
    component: int = 0

    def __post_init__(self) -> None:
        left = (axis for piece in self.pieces for axis in piece.value.axes if axis not in piece.axes)
        kinds: list[Kind] = [piece.value.kind for piece in self.pieces]
        kind = reduce_kind(self.op, join(*kinds))
        pieces = tuple((piece.value, piece.axes) for piece in self.pieces)
        self._seal(left, kind, self.op, pieces, self.component)


@dataclass(frozen=True, slots=True)
class Carry:
    """One carried value of a scan: the bound leaf, its first value, and its step."""

    previous: Leaf
    init: Form
    step: Form


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Scan(Form):
    """Carry number `component` at every index of `axis` (`last`: only the final one). A lane where
    `until` holds keeps its carry for ever."""

    axis: Axis
    carries: tuple[Carry, ...]
    reverse: bool = False
    until: Form | None = None
    component: int = 0
    last: bool = False

    def __post_init__(self) -> None:
        previous = self.carries[self.component].previous
        axes = (axis for axis in previous.over if axis != self.axis)
        carries = tuple((c.previous, c.init, c.step) for c in self.carries)
        facts = (self.axis, carries, self.reverse, self.until, self.component, self.last)
        self._seal((*(() if self.last else (self.axis,)), *axes), previous.kind, *facts)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Library(Form):
    """A named algorithm over whole axes: `fft`, `solve`, `sort_indices`, `topk_indices`.
    `over` are the axes that it works on, `new` those that it makes in their place."""

    op: str
    args: tuple[Form, ...]
    over: tuple[Axis, ...]
    new: tuple[Axis, ...]
    result: Kind

    def __post_init__(self) -> None:
        kept = (axis for arg in self.args for axis in arg.axes if axis not in self.over)
        self._seal((*kept, *self.new), self.result, self.op, self.args, self.over, self.new)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class AsIf(Form):
    value: Form
    surrogate: Form

    def __post_init__(self) -> None:
        self._seal(self.value.axes, self.value.kind, self.value, self.surrogate)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class OnGradient(Form):
    value: Form
    cotangent: Leaf
    rule: Form

    def __post_init__(self) -> None:
        self._seal(self.value.axes, self.value.kind, self.value, self.cotangent, self.rule)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Jvp(Form):
    """The derivative of `value` along `tangents`, one for each of the earlier values `at`."""

    value: Form
    at: tuple[Form, ...]
    tangents: tuple[Form, ...]

    def __post_init__(self) -> None:
        self._seal(self.value.axes, self.value.kind, self.value, self.at, self.tangents)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Vjp(Form):
    """The pullback of `cotangent` through `value` to the earlier value `at`."""

    value: Form
    at: Form
    cotangent: Form

    def __post_init__(self) -> None:
        self._seal(self.at.axes, self.at.kind, self.value, self.at, self.cotangent)


# --- the program around the forms

Item = tuple[Axis, ...]
"""One dimension of a stored tensor: () is a literal 1, (h,) an axis, (h, w) a row-major product."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """A tensor of the program: its leaf, how its dimensions are made, and what only modules need.

    `init` prints as it was written (`trunc_normal(0.02)`); it is not part of program equality.
    """

    leaf: Leaf
    items: tuple[Item, ...]
    optional: bool = False
    trainable: bool = True
    init: str | None = None
    also: tuple[str, ...] = ()
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """A named result: its value and how its dimensions are made."""

    name: str
    value: Form
    items: tuple[Item, ...]
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Update:
    """A buffer's value after the call. Reads see the value before it."""

    buffer: Leaf
    value: Form
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Require:
    """A predicate over sizes that a call must satisfy."""

    predicate: Form
    span: Span | None = None


@dataclass(frozen=True, eq=False)
class Program:
    """One mixer with its static arguments given and its mode chosen.

    `names` are the author's statement names, in order: cosmetic, never part of equality. `fixed`
    are header sizes (`z=3`). `str()` is the text spelling; equality is that of the canonical form.
    """

    name: str
    inputs: tuple[Declaration, ...]
    outputs: tuple[Output, ...]
    statics: tuple[tuple[str, Scalar | str], ...] = ()
    fixed: tuple[tuple[Axis, int], ...] = ()
    names: tuple[tuple[str, Form], ...] = ()
    parameters: tuple[Declaration, ...] = ()
    buffers: tuple[Declaration, ...] = ()
    draws: tuple[Declaration, ...] = ()
    updates: tuple[Update, ...] = ()
    requires: tuple[Require, ...] = ()
    mode: str = "eval"
    doc: str = ""
    span: Span | None = None

    def __str__(self) -> str:
        return _printers[0](self) if _printers else object.__repr__(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Program):
            return NotImplemented
        return self is other or _canonical[0](self) == _canonical[0](other)

    def __hash__(self) -> int:
        return hash(_canonical[0](self))

    @property
    def roots(self) -> tuple[Form, ...]:
        """Every value that the program must compute: outputs, then updates."""
        return (*(output.value for output in self.outputs), *(update.value for update in self.updates))

    @property
    def declarations(self) -> tuple[Declaration, ...]:
        return (*self.inputs, *self.parameters, *self.buffers, *self.draws)

    @cached_property
    def forms(self) -> tuple[Form, ...]:
        """Every form of the program once, operands before users."""
        return tuple(walk((*self.roots, *(require.predicate for require in self.requires))))


_printers: list[Callable[[Program], str]] = []
_canonical: list[Callable[[Program], str]] = []


def set_printer(show: Callable[[Program], str]) -> None:
    """`dsl.printing.show` sits above this module; it gives `str(program)` here."""
    _printers[:] = [show]


def set_canonical(canonical: Callable[[Program], str]) -> None:
    """`dsl.canonical` gives the text that decides equality."""
    _canonical[:] = [canonical]


_OPERANDS: dict[type[Form], Callable[[Any], tuple[Form, ...]]] = {
    Map: lambda form: form.args,
    Library: lambda form: form.args,
    When: lambda form: (form.predicate, form.value),
    Otherwise: lambda form: (form.value, form.fallback),
    AsIf: lambda form: (form.value, form.surrogate),
    At: lambda form: (form.value, *[index for _, index in form.indices]),
    Place: lambda form: (form.value, *[index for _, index in form.indices]),
    Reduce: lambda form: tuple([piece.value for piece in form.pieces]),
    Scan: lambda form: (
        *[part for each in form.carries for part in (each.previous, each.init, each.step)],
        *(() if form.until is None else (form.until,)),
    ),
    OnGradient: lambda form: (form.value, form.cotangent, form.rule),
    Jvp: lambda form: (form.value, *form.at, *form.tangents),
    Vjp: lambda form: (form.value, form.at, form.cotangent),
}


def children(form: Form) -> tuple[Form, ...]:
    """The operands of a form, in a fixed order. Every pass asks this of every form: a `match` would try its
    cases one after another."""
    operands = _OPERANDS.get(type(form))
    return operands(form) if operands is not None else ()


def walk(roots: Iterable[Form], operands: Callable[[Form], tuple[Form, ...]] = children) -> Iterator[Form]:
    """Every form below the roots once, operands before users. Iterative: depth is no limit. Bytes hash faster."""
    seen: set[bytes] = set()
    for root in roots:
        if root.digest in seen:
            continue
        seen.add(root.digest)
        stack: list[tuple[Form, Iterator[Form]]] = [(root, iter(operands(root)))]
        while stack:
            form, rest = stack[-1]
            for child in rest:
                if child.digest not in seen:
                    seen.add(child.digest)
                    below = operands(child)
                    if below:
                        stack.append((child, iter(below)))
                        break
                    yield child
            else:
                stack.pop()
                yield form

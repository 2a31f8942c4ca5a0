"""Expressions of the canonical text: operators with as few parentheses as their levels allow.

`Spelling` holds the names that are given; what has none is spelled out where it stands. The caller
names enough forms that the recursion stays shallow.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from ..constructors import build
from ..errors import CompilerFault, PlaitError
from ..ops import (
    LEVEL_AND,
    LEVEL_COMPARE,
    LEVEL_NOT,
    LEVEL_OR,
    LEVEL_POWER,
    LEVEL_PRODUCT,
    LEVEL_SIGN,
    LEVEL_SUM,
    OPS,
)
from ..program import (
    AsIf,
    At,
    Axis,
    Carry,
    Const,
    Coordinate,
    Form,
    Indices,
    Jvp,
    Leaf,
    Library,
    Map,
    OnGradient,
    Otherwise,
    Place,
    Scan,
    Size,
    Vjp,
    When,
)
from ..words import CONSTANTS, axis_name, is_plain, quoted, tensor_name
from .sugar import Cat, Domain, Fold, Plain, Sugar, Zeros
from .written import Known, reading

LEVEL_OTHERWISE = 0
LEVEL_POSTFIX = LEVEL_POWER + 1

LOOSE, PRODUCTS, ALL = range(3)
"""Which arithmetic is written without spaces: none; products and powers; sums too."""


@dataclass(slots=True)
class Spelling:
    """The names of a program's text, and expressions spelled with them.

    `values` are the forms that have names, `axes` the names of axes; `both` are names of a value and
    of an axis, `sugar` what prints shorter, `fixed` the sizes that are numbers, `inits` the first
    values of `previous` variables, `together` the scans whose carries are named by one statement,
    `words` what constants may be written with.
    """

    values: Mapping[Form, str]
    axes: Mapping[Axis, str]
    both: frozenset[str]
    sugar: Mapping[Form, Sugar]
    fixed: Mapping[Axis, int]
    inits: Mapping[Leaf, Form]
    together: Collection[Form]
    words: Mapping[str, Known]
    raw: bool = False
    """Whether operations on constants stand for themselves, as in the spelling of a constant."""
    constants: dict[tuple[Form, str | None], Form | None] = field(
        default_factory=dict[tuple[Form, "str | None"], "Form | None"]
    )

    # --- names

    def named(self, name: str) -> str:
        """A value by its name."""
        return quoted(name) if name in self.both else tensor_name(name)

    def axis(self, axis: Axis) -> str:
        """An axis in a list of axes."""
        return axis_name(self.axes[axis])

    def listed(self, axes: Iterable[Axis]) -> str:
        return ", ".join(map(self.axis, axes))

    def _index(self, axis: Axis) -> str:
        """An axis as a value."""
        name = self.axes[axis]
        if name == "..." or (is_plain(name) and name not in self.both):
            return name
        return f"index({axis_name(name)})"

    # --- expressions

    def text(self, form: Form, level: int = LEVEL_OTHERWISE, tight: int = LOOSE) -> str:
        """The expression, in parentheses where its operator binds looser than `level`."""
        name = self.values.get(form)
        if name is not None:
            return self.named(name)
        return self.spelled(form, level, tight)

    def spelled(self, form: Form, level: int = LEVEL_OTHERWISE, tight: int = LOOSE) -> str:
        """The same, spelled out even where the form has a name."""
        found = self.sugar.get(form)
        if found is not None:
            return self._sugared(found)
        match form:
            case Const():
                return self._constant(form, level, tight)
            case Size(axis=axis):
                plain = f"size({self.axis(axis)})"
                return (
                    plain
                    if self.raw or (build.size(axis) == form and axis not in self.fixed)
                    else f"unfolded({plain})"
                )
            case Coordinate(axis=axis):
                return self._index(axis)
            case Leaf(name=name):
                return self.named(name)
            case Map():
                return self._map(form, level, tight)
            case Otherwise(value=value, fallback=fallback):
                left = self.text(value, LEVEL_OTHERWISE, tight)
                right = self.text(fallback, LEVEL_OTHERWISE + 1, tight)
                return _wrapped(f"{left} otherwise {right}", LEVEL_OTHERWISE, level)
            case At(value=value, indices=indices):
                return self._read(form, value, indices)
            case _:
                return self._call(form)

    def _call(self, form: Form) -> str:
        match form:
            case When(predicate=predicate, value=value):
                return f"when({self._all((predicate, value))})"
            case AsIf(value=value, surrogate=surrogate):
                return f"as_if({self._all((value, surrogate))})"
            case Vjp(value=value, at=at, cotangent=cotangent):
                return f"vjp({self._all((value, at, cotangent))})"
            case Jvp(value=value, at=at, tangents=tangents):
                pairs = [f"{self.text(x)}: {self.text(t)}" for x, t in zip(at, tangents, strict=True)]
                return f"jvp({', '.join((self.text(value), *pairs))})"
            case OnGradient(value=value, cotangent=cotangent, rule=rule):
                return f"on_gradient({self.text(value)}, {self.text(cotangent)}: {self.text(rule)})"
            case Place():
                return self._place(form)
            case Library(op=op, args=args, over=over, new=new):
                return f"{op}[{self.listed(over)} -> {self.listed(new)}]({self._all(args)})"
            case Scan():
                return self._scan(form)
            case _:
                raise CompilerFault("show", f"{type(form).__name__} is no form that it knows")

    def _all(self, forms: Iterable[Form]) -> str:
        return ", ".join(map(self.text, forms))

    # --- operators

    def _map(self, form: Map, level: int, tight: int) -> str:
        folds = not self.raw and all(isinstance(arg, Const) for arg in form.args)
        if folds and build.apply(form.op, *form.args) != form:
            return f"unfolded({self._operation(form, LEVEL_OTHERWISE, LOOSE)})"
        return self._operation(form, level, tight)

    def _operation(self, form: Map, level: int, tight: int) -> str:
        row = OPS[form.op]
        if not row.symbol:
            return f"{form.op}({self._all(form.args)})"
        if row.arity == 1:
            least = LEVEL_SIGN if row.level == LEVEL_SIGN else LEVEL_POSTFIX
            return _wrapped(f"{row.symbol}{self.text(form.args[0], least, tight)}", row.level, level)
        inner = max(tight, PRODUCTS) if row.level in (LEVEL_SUM, LEVEL_COMPARE) else tight
        least_left, least_right = _least(row.level)
        left = self.text(form.args[0], least_left, inner)
        right = self.text(form.args[1], least_right, inner)
        close = tight == ALL if row.level == LEVEL_SUM else tight >= PRODUCTS and row.level >= LEVEL_PRODUCT
        symbol = row.symbol if close else f" {row.symbol} "
        return _wrapped(f"{left}{symbol}{right}", row.level, level)

    # --- constants

    def _constant(self, const: Const, level: int, tight: int) -> str:
        """As it was written, where that gives this value; else the number."""
        if const.written is not None:
            key = (const, const.written)
            if key not in self.constants:
                self.constants[key] = reading(const, self.words)
            written = self.constants[key]
            if isinstance(written, Const):
                word = written.written
                if word is None:
                    return self._number(written, level)
                return word if word in CONSTANTS else self.named(word)
            if written is not None:
                return replace(self, raw=True, values={}, sugar={}).text(written, level, tight)
        return self._number(const, level)

    def _number(self, const: Const, level: int) -> str:
        value = const.value
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, complex):
            return _complex(value, level)
        negative = math.copysign(1, value) < 0 and value == value
        return _wrapped(repr(value), LEVEL_SIGN if negative else LEVEL_POSTFIX, level)

    # --- reads and places

    def _read(self, form: At, value: Form, indices: Indices) -> str:
        shown = self.text(value, LEVEL_POSTFIX)
        items = [index for _, index in indices]
        try:
            by_axis = build.subscript(value, items) == form
        except PlaitError:
            by_axis = False
        if by_axis:
            return f"{shown}[{', '.join(self.text(item, tight=ALL) for item in items)}]"
        plain = f"{shown}[{self._pairs(indices)}]"
        return plain if build.at(value, dict(indices)) == form else f"unfolded({plain})"

    def _pairs(self, indices: Indices) -> str:
        return ", ".join(f"{self.axis(axis)}: {self.text(index, tight=ALL)}" for axis, index in indices)

    def _place(self, form: Place) -> str:
        usual = build.place(form.value, dict(form.indices)) == form
        kept = "" if usual else f"[{self.listed(form.keep)}]"
        pairs = self._pairs(form.indices)
        return f"place{kept}({self.text(form.value)}{', ' if pairs else ''}{pairs})"

    # --- scans

    def _scan(self, form: Scan) -> str:
        flags = ("last " if form.last else "") + ("reverse " if form.reverse else "")
        chosen = form.carries[form.component].previous
        together = form in self.together or len(form.carries) == 1
        which = "" if together else f": {self.text(chosen)}"
        until = f" until {self.text(form.until)}" if form.until is not None else ""
        carries = ", ".join(map(self._carry, form.carries))
        return f"scan[{flags}{self.axis(form.axis)}{which}{until}]({carries})"

    def _carry(self, carry: Carry) -> str:
        usual = self.inits.get(carry.previous) == carry.init
        init = "" if usual else f" from {self.text(carry.init)}"
        return f"{self.text(carry.previous)}: {self.text(carry.step)}{init}"

    # --- sugar

    def _sugared(self, found: Sugar) -> str:
        match found:
            case Fold(word=word, domains=domains, args=args, which=which):
                listed = "; ".join(map(self._domain, domains))
                return f"{word}[{listed}{self._which(domains, which)}]({self._all(args)})"
            case Plain(word=word, args=args):
                return f"{word}({self._all(args)})"
            case Zeros(axes=axes):
                return f"zeros({', '.join(map(self.axis, axes))})"
            case Cat(over=over, new=new, args=args):
                return f"cat[{self.listed(over)} -> {self.axis(new)}]({self._all(args)})"

    def _domain(self, domain: Domain) -> str:
        axes = self.listed(domain.axes)
        return axes if domain.where is None else f"{axes} | {self.text(domain.where)}".lstrip()

    def _which(self, domains: Iterable[Domain], which: int | None) -> str:
        if which is None:
            return ""
        axes = [axis for domain in domains for axis in domain.axes]
        return f": {self.axis(axes[which]) if axes.count(axes[which]) == 1 else which}"


def _least(level: int) -> tuple[int, int]:
    """How tightly the operands left and right of an operator must bind to stand without parentheses."""
    if level == LEVEL_POWER:
        return LEVEL_POSTFIX, LEVEL_SIGN
    if level in (LEVEL_OR, LEVEL_AND):
        return level, level + 1
    return (level + 1, level + 1) if level in (LEVEL_COMPARE, LEVEL_NOT) else (level, level + 1)


def _wrapped(text: str, own: int, least: int) -> str:
    return f"({text})" if own < least else text


def _complex(value: complex, level: int) -> str:
    """`2.0j`, `1.0 + 2.0j`, and for what these cannot say `complex(-0.0, nan)`."""
    real, imaginary = value.real, value.imag
    if math.isfinite(imaginary) and math.copysign(1, imaginary) > 0:
        if real == 0 and math.copysign(1, real) > 0:
            return f"{imaginary!r}j"
        if math.isfinite(real) and real != 0:
            sign = LEVEL_SUM
            return _wrapped(f"{real!r} + {imaginary!r}j", sign, level)
    return f"complex({real!r}, {imaginary!r})"

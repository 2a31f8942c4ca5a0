"""Index expressions as polynomials with bounds.

A size is 1 + symbol, a coordinate lowest + symbol; `//`, `%`, minimum, maximum and values with a range
become symbols with facts. `dsl.proofs.inequalities` then answers what is at least 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ..constructors.build import low
from ..program import (
    AsIf,
    At,
    Axis,
    Const,
    Coordinate,
    Form,
    Map,
    OnGradient,
    Otherwise,
    Reduce,
    Size,
    When,
    walk,
)
from ..shapes.polynomial import ONE, Polynomial, TooHard, as_polynomial, symbol_of
from .inequalities import Facts, Inequalities, Option
from .presence import index_axis

Environment = Mapping[Axis, Polynomial]
"""What stands for the coordinate of an axis, where it is not the coordinate itself."""

MOST_POWER = 6
MOST_NESTED = 40

ARITHMETIC = (
    "add", "sub", "mul", "neg", "pow", "floordiv", "mod", "minimum", "maximum", "abs",
    "floor", "ceil", "round", "trunc", "to_int", "precise",
)  # fmt: skip


@dataclass(slots=True)
class Bounds(Inequalities):
    """The sizes and indices of one program as polynomials. Axes have at least one index, but for those
    that `may_be_empty`: an index of such an axis says nothing of its size."""

    extents: dict[Axis, Polynomial] = field(default_factory=dict[Axis, Polynomial])
    coordinates: dict[Axis, Polynomial] = field(default_factory=dict[Axis, Polynomial])
    may_be_empty: set[Axis] = field(default_factory=set[Axis])
    exact: set[tuple[Polynomial, Polynomial]] = field(default_factory=set[tuple[Polynomial, Polynomial]])
    _made: dict[object, Polynomial] = field(default_factory=dict[object, Polynomial])
    _nested: int = 0

    # --- symbols

    def extent(self, axis: Axis) -> Polynomial:
        """The size of an axis, at least 1."""
        if axis not in self.extents:
            size = axis.size
            self.extents[axis] = self.symbol() + 1 if size is None else self.number(size, {})
        return self.extents[axis]

    def coordinate(self, axis: Axis) -> Polynomial:
        """The index of an axis that nothing binds or replaces."""
        if axis not in self.coordinates:
            self.coordinates[axis] = self.variable(axis)
        return self.coordinates[axis]

    def variable(self, axis: Axis, of: Iterable[Polynomial] = ()) -> Polynomial:
        """A new index in the range of an axis."""
        offset = self.symbol(of=of)
        if axis not in self.may_be_empty:
            self.learn(self.extent(axis) - 1 - offset)
        return self.number(low(axis), {}) + offset

    # --- from forms

    def number(self, form: Form, environment: Environment) -> Polynomial:
        """The value of an integer form where it is present. Iterative along arithmetic."""
        values: dict[Form, Polynomial] = {}
        for part in walk((form,), _operands):
            self.spend()
            values[part] = self._number(part, values, environment)
        return values[form]

    def _number(self, form: Form, values: Mapping[Form, Polynomial], environment: Environment) -> Polynomial:
        match form:
            case Const(value=int() as value):
                return as_polynomial(int(value))
            case Size(axis=axis):
                return self.extent(axis)
            case Coordinate(axis=axis):
                return environment[axis] if axis in environment else self.coordinate(axis)
            case Map(op=op, args=args) if _operands(form):
                return self._arithmetic(op, [values[arg] for arg in args]) or self._unknown(form, environment)
            case At(value=value, indices=indices):
                moved = {axis: self._deeper(index, environment) for axis, index in indices}
                return self._deeper(value, {**environment, **moved})
            case When(value=value) | AsIf(value=value) | OnGradient(value=value):
                return self._deeper(value, environment)
            case Otherwise(value=value, fallback=fallback):
                parts = (*self._choices(value, environment), *self._choices(fallback, environment))
                return self._choice(parts)
            case _:
                return self._unknown(form, environment)

    def _deeper(self, form: Form, environment: Environment) -> Polynomial:
        if self._nested >= MOST_NESTED:
            raise TooHard
        self._nested += 1
        try:
            return self.number(form, environment)
        finally:
            self._nested -= 1

    def _choices(self, form: Form, environment: Environment) -> Iterator[Option]:
        """The value of one side of an `otherwise`, with what its `when` says."""
        given: Facts = ()
        while isinstance(form, When):
            given += tuple(self.guards(form.predicate, environment))
            form = form.value
        yield Option(self._deeper(form, environment), given)

    def guards(self, predicate: Form, environment: Environment) -> Iterator[Polynomial]:
        """What a predicate that holds says of integers."""
        waiting = [predicate]
        while waiting:
            part = waiting.pop()
            if isinstance(part, Map) and part.op == "and":
                waiting += part.args
            else:
                yield from self.literal(part, environment) or ()

    def literal(self, form: Form, environment: Environment, holds: bool = True) -> Facts | None:
        """The facts that are together the comparison (or its opposite), if it is one of integers and
        no disjunction."""
        if isinstance(form, Map) and form.op == "not":
            return self.literal(form.args[0], environment, not holds)
        if not isinstance(form, Map) or form.op not in OPPOSITE or not _whole(form):
            return None
        op = form.op if holds else OPPOSITE[form.op]
        if op == "ne":
            return None
        left, right = (self._side(arg, op, environment, arg is form.args[0]) for arg in form.args)
        match op:
            case "lt":
                return (right - left - 1,)
            case "le":
                return (right - left,)
            case "gt":
                return (left - right - 1,)
            case "ge":
                return (left - right,)
            case _:
                return (left - right, right - left)

    def _side(self, form: Form, op: str, environment: Environment, left: bool) -> Polynomial:
        """One side of a comparison; a broken constant is moved to the integer that says the same."""
        if not (isinstance(form, Const) and isinstance(form.value, float)):
            return self.number(form, environment)
        up = op in (("gt", "le") if left else ("lt", "ge"))
        return as_polynomial(-int(-form.value // 1) if up else int(form.value // 1))

    def _arithmetic(self, op: str, args: list[Polynomial]) -> Polynomial | None:
        a, b = args[0], args[-1]
        match op:
            case "add":
                return a + b
            case "sub":
                return a - b
            case "mul":
                return a * b
            case "neg":
                return -a
            case "floordiv":
                return self.quotient(a, b)
            case "mod":
                quotient = self.quotient(a, b)
                return quotient and a - b * quotient
            case "minimum":
                return -self._larger(-a, -b)
            case "maximum":
                return self._larger(a, b)
            case "abs":
                return self._larger(a, -a)
            case "pow":
                return self._power(a, b.number)
            case _:
                return a

    def _power(self, base: Polynomial, power: int | None) -> Polynomial | None:
        if power is None or not 0 <= power <= MOST_POWER:
            return None
        product = ONE
        for _ in range(power):
            product = product * base
        return product

    def quotient(self, a: Polynomial, b: Polynomial) -> Polynomial | None:
        """a // b, if b is surely positive."""
        if not self.nonnegative(b - 1):
            return None
        whole, rest = a.divide(b)
        if rest == as_polynomial(0) or (self.nonnegative(rest) and self.nonnegative(b - 1 - rest)):
            return whole
        key = ("quotient", rest, b)
        if key not in self._made:
            part = self._made[key] = self.symbol(self.nonnegative(rest), of=(rest, b))
            self.learn(rest - b * part)
            self.learn(b * part + b - 1 - rest)
            for top in self._tops(rest):
                most, over = top.divide(b)
                if self.nonnegative(b - 1 - over):
                    self.learn(most - part)
            if (rest, b) in self.exact:
                self.learn(b * part - rest)
        return whole + self._made[key]

    def _tops(self, value: Polynomial) -> Iterator[Polynomial]:
        """What a symbol is at most, by the facts that say so: a coordinate ends before its size. The quotient of
        that bounds the quotient of the symbol where the size is a multiple; no sum of facts shows it."""
        if len(value.terms) != 1 or value not in map(symbol_of, value.symbols):
            return
        (symbol,) = value.symbols
        for fact in self.facts.get(symbol, ()):
            line = fact.line_in(symbol)
            if line is not None and line[0] == as_polynomial(-1):
                yield line[1]

    def divides(self, a: Polynomial, b: Polynomial) -> None:
        """Note that b divides a."""
        self.exact.add((a, b))
        if ("quotient", a, b) in self._made:
            self.learn(b * self._made["quotient", a, b] - a)

    def _larger(self, a: Polynomial, b: Polynomial) -> Polynomial:
        if self.nonnegative(a - b):
            return a
        if self.nonnegative(b - a):
            return b
        key = ("larger", *sorted((a, b), key=repr))
        if key not in self._made:
            larger = self._choice((Option(a, (a - b,)), Option(b, (b - a,))))
            self._made[key] = larger
            for fact in (larger - a, larger - b, larger * 2 - a - b):
                self.learn(fact)
        return self._made[key]

    def _choice(self, parts: tuple[Option, ...]) -> Polynomial:
        """A symbol that is one of the options."""
        if len({option.value for option in parts}) == 1:
            return parts[0].value
        key = ("choice", parts)
        if key not in self._made:
            made = self.symbol(
                all(self.nonnegative(option.value, option.given) for option in parts),
                of=(p for option in parts for p in (option.value, *option.given)),
            )
            self._made[key] = made
            self.options[next(iter(made.symbols))] = parts
        return self._made[key]

    def _unknown(self, form: Form, environment: Environment) -> Polynomial:
        """A value that no arithmetic gives; the range of its axis bounds it."""
        key = self.key(form, environment)
        if key not in self._made:
            axis = index_axis(form)
            if axis is not None:
                self._made[key] = self.variable(
                    axis, of=[environment[a] for a in form.axes if a in environment]
                )
            else:
                truth = isinstance(form, Map) and form.op == "to_int"
                counted = isinstance(form, Reduce) and form.op == "count"
                read = [environment[axis] for axis in form.axes if axis in environment]
                self._made[key] = self.symbol(truth or counted, of=read)
                if truth:
                    self.learn(ONE - self._made[key])
        return self._made[key]

    def key(self, form: Form, environment: Environment) -> object:
        """What decides the value of a form that is looked at from outside only."""
        moved = ((axis, environment[axis]) for axis in form.axes if axis in environment)
        return ("form", form, tuple((a.key, v) for a, v in moved if v != self.coordinates.get(a)))


OPPOSITE = {"lt": "ge", "ge": "lt", "gt": "le", "le": "gt", "eq": "ne", "ne": "eq"}


def _operands(form: Form) -> tuple[Form, ...]:
    if isinstance(form, Map) and form.op in ARITHMETIC and all(arg.kind == "int" for arg in form.args):
        return form.args
    return ()


def _whole(form: Map) -> bool:
    """Whether a comparison is one of integers, or of an integer with a broken constant."""
    kinds = [arg.kind for arg in form.args]
    if kinds == ["int", "int"]:
        return True
    broken = [isinstance(a, Const) and isinstance(a.value, float) and abs(a.value) < 1e15 for a in form.args]
    return form.op not in ("eq", "ne") and "int" in kinds and any(broken)

"""Integer index forms as polynomials over coordinates, sizes and opaque terms.

An index form is read as a sum of monomials with integer coefficients. The atoms of a monomial are
coordinates, sizes, and whatever is no sum or product (`//`, `%`, `minimum`, data), which is opaque.
Two forms of one polynomial have one value wherever both are present. Cancelling must not make a
value present in more places (`x - x` is not 0, language.md section 4), so a sum in which an atom that
may be absent cancels is opaque as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from ...dsl.constructors.build import apply, low, size
from ...dsl.program import Axis, Const, Coordinate, Form, Map, Size, walk
from ...dsl.proofs.bounds import OPPOSITE, Bounds
from ...dsl.shapes.polynomial import TooHard
from ...dsl.shapes.size_forms import is_batch

Monomial = tuple[Form, ...]
"""Atoms in the order of `_order`, repeated for powers; () is the constant."""

Polynomial = Mapping[Monomial, int]
"""Without zero coefficients. {} is 0."""

MOST_TERMS = 64
"""A product that would have more monomials is opaque."""


@dataclass(frozen=True, slots=True)
class Affine:
    """sum of coefficient * coordinate, plus rest. Coefficients are without axes; `rest` may have any
    axes, also those of the coefficients, where they occur in an opaque term or a product."""

    coefficients: Mapping[Axis, Form]
    rest: Form


def affine(form: Form) -> Affine | None:
    """The affine reading of an index form; None for what is no integer."""
    if form.kind != "int":
        return None
    coefficients: dict[Axis, dict[Monomial, int]] = {}
    rest: dict[Monomial, int] = {}
    for monomial, factor in polynomial(form).items():
        axes = [atom.axis for atom in monomial if isinstance(atom, Coordinate)]
        if len(axes) == 1 and sum(len(atom.axes) for atom in monomial) == 1:
            others = tuple(atom for atom in monomial if not isinstance(atom, Coordinate))
            coefficients.setdefault(axes[0], {})[others] = factor
        else:
            rest[monomial] = factor
    return Affine(
        {axis: from_polynomial(terms) for axis, terms in coefficients.items()}, from_polynomial(rest)
    )


def combination(coefficients: Mapping[Axis, Form], rest: Form) -> Form:
    """The index form of an affine reading, as `normal` spells it."""
    result = rest
    for axis, coefficient in coefficients.items():
        result = apply("add", apply("mul", coefficient, Coordinate(axis)), result)
    return normal(result)


# --- polynomials


def polynomial(form: Form, expand_sizes: bool = False) -> Polynomial:
    """The polynomial of an integer form. `expand_sizes`: an axis with a size of its own counts as that
    size (`Size(oh)` as `(Size(h) + 1) // 2`), so that bounds can be compared."""

    def operands(each: Form) -> tuple[Form, ...]:
        if isinstance(each, Map) and each.op in _ARITHMETIC and each.kind == "int":
            return each.args
        if expand_sizes and isinstance(each, Size) and each.axis.size is not None:
            return (each.axis.size,)
        return ()

    made: dict[Form, dict[Monomial, int]] = {}
    for each in walk((form,), operands):
        made[each] = _combined(each, [made[below] for below in operands(each)])
    kept = made[form]
    if any(factor == 0 and not all(map(_is_plain, monomial)) for monomial, factor in kept.items()):
        return {(form,): 1}
    return {monomial: factor for monomial, factor in kept.items() if factor}


def _combined(form: Form, below: list[dict[Monomial, int]]) -> dict[Monomial, int]:
    """Zero factors stay: `polynomial` judges what was cancelled."""
    match form:
        case Const(value=int() as value) if form.kind == "int":
            return {(): value}
        case Size() if below:
            return below[0]
        case Map(op="mul") if below and len(below[0]) * len(below[1]) > MOST_TERMS:
            return {(form,): 1}
        case Map(op=op) if below:
            return _ARITHMETIC[op](*below)
        case _:
            return {(form,): 1}


@lru_cache(maxsize=4096)
def _is_plain(atom: Form) -> bool:
    """Whether an atom is a number at every index: made of sizes and coordinates by what is total."""
    match atom:
        case Const() | Size() | Coordinate():
            return atom.kind == "int"
        case Map(op="floordiv" | "mod", args=(number, divisor)):
            return is_positive(divisor) and _is_plain(number)
        case Map(op="add" | "sub" | "mul" | "neg" | "minimum" | "maximum", args=args):
            return all(map(_is_plain, args))
        case _:
            return False


def _add(a: Polynomial, b: Polynomial) -> dict[Monomial, int]:
    result = dict(a)
    for monomial, factor in b.items():
        result[monomial] = result.get(monomial, 0) + factor
    return result


def _negative(a: Polynomial) -> dict[Monomial, int]:
    return {monomial: -factor for monomial, factor in a.items()}


def _subtract(a: Polynomial, b: Polynomial) -> dict[Monomial, int]:
    return _add(a, _negative(b))


def _multiply(a: Polynomial, b: Polynomial) -> dict[Monomial, int]:
    result: dict[Monomial, int] = {}
    for one, first in a.items():
        for other, second in b.items():
            monomial = tuple(sorted((*one, *other), key=_order))
            result[monomial] = result.get(monomial, 0) + first * second
    return result


_ARITHMETIC: Mapping[str, Callable[..., dict[Monomial, int]]] = {
    "add": _add,
    "sub": _subtract,
    "neg": _negative,
    "mul": _multiply,
}


def _order(atom: Form) -> tuple[int, int, str]:
    match atom:
        case Coordinate(axis=axis):
            return (0, axis.serial, axis.name)
        case Size(axis=axis):
            return (1, axis.serial, axis.name)
        case _:
            return (2, 0, atom.digest.hex())


def from_polynomial(terms: Polynomial) -> Form:
    """The form of a polynomial: coordinates first, then sizes, then opaque terms, then the constant;
    a sum starts with a term that is added where there is one."""

    def rank(monomial: Monomial) -> tuple[bool, bool, tuple[tuple[int, int, str], ...]]:
        return (
            not monomial,
            not any(isinstance(a, Coordinate) for a in monomial),
            tuple(map(_order, monomial)),
        )

    ordered = sorted((m for m, factor in terms.items() if factor), key=rank)
    positive = next((m for m in ordered if terms[m] > 0), None)
    if positive is not None:
        ordered.remove(positive)
        ordered.insert(0, positive)
    result: Form | None = None
    for monomial in ordered:
        factor = terms[monomial]
        term = _term(monomial, abs(factor))
        if result is None:
            result = term if factor > 0 else apply("neg", term)
        else:
            result = apply("add" if factor > 0 else "sub", result, term)
    return Const(0) if result is None else result


def _term(monomial: Monomial, factor: int) -> Form:
    atoms = [*([Const(factor)] if factor != 1 or not monomial else []), *monomial]
    result = atoms[0]
    for atom in atoms[1:]:
        result = apply("mul", result, atom)
    return result


def normal(form: Form) -> Form:
    """The form of the polynomial of an integer form: one spelling for what is equal by arithmetic, quotients and
    remainders of what is seen to be a multiple and a rest among it. May lack axes that cancel. Anything but an
    integer is returned as it is."""
    return from_polynomial(_rejoined(polynomial(_divided_through(form)))) if form.kind == "int" else form


def _divided_through(form: Form) -> Form:
    """(s*n + r) // s as n and (s*n + r) % s as r, where r is in 0 .. s, inside an integer."""
    made: dict[Form, Form] = {}
    for each in walk((form,), lambda each: each.args if isinstance(each, Map) and each.kind == "int" else ()):
        match each:
            case Map(op=op, args=args) if each.kind == "int":
                same = all(made[arg] is arg for arg in args)
                made[each] = _digit(each if same else apply(op, *(made[arg] for arg in args)))
            case _:
                made[each] = each
    return made[form]


def _digit(form: Form) -> Form:
    match form:
        case Map(op="floordiv" | "mod" as op, args=(number, by)) if is_positive(by):
            terms, step = polynomial(number), polynomial(by)
        case _:
            return form
    made = _rest(form, op, terms, step, by)
    if made is form and op == "mod":
        return _rest(form, op, _unturned(terms, by), step, by)
    return made


def _rest(form: Form, op: str, terms: Polynomial, step: Polynomial, by: Form) -> Form:
    """The quotient or the remainder of the terms, where what is no multiple is seen to lie in 0 .. by; else the
    form."""
    whole = {m: factor for m, factor in terms.items() if divided({m: factor}, step) is not None}
    rest = {m: factor for m, factor in terms.items() if m not in whole}
    left, lost = (rest, whole) if op == "mod" else (divided(whole, step) or {}, rest)
    kept = all(_is_plain(atom) for monomial in lost for atom in monomial)
    return from_polynomial(left) if kept and _less(rest, by) else form


def unturned(form: Form, by: Form) -> Form:
    """An integer that leaves the same rest, of a positive number or size: (a % n + b) % n is (a + b) % n."""
    return from_polynomial(_unturned(polynomial(form), by))


def _unturned(terms: Polynomial, by: Form) -> Polynomial:
    """Nothing that may be absent cancels."""
    for monomial, factor in terms.items():
        match monomial:
            case (Map(op="mod", args=(number, divisor)),) if divisor == by:
                inner = {m: each * factor for m, each in polynomial(number).items()}
                made = _add({m: each for m, each in terms.items() if m != monomial}, inner)
                if all(each or all(map(_is_plain, m)) for m, each in made.items()):
                    return _unturned({m: each for m, each in made.items() if each}, by)
            case _:
                continue
    return terms


def _less(rest: Polynomial, by: Form) -> bool:
    """Whether a sum is seen to lie in 0 .. by."""
    match from_polynomial(rest):
        case Const(value=int() as number):
            return number == 0 or (isinstance(by, Const) and 0 < number < by.value.real)
        case Map(op="mod", args=(_, divisor)):
            return divisor == by
        case Coordinate(axis=axis):
            return low(axis) == Const(0) and size(axis) == by
        case _:
            return False


def _rejoined(terms: Polynomial) -> Polynomial:
    """s*(x // s) + x % s is x."""
    for monomial, factor in terms.items():
        match monomial:
            case (Map(op="mod", args=(number, by)),) if len(polynomial(by)) == 1:
                ((atoms, times),) = polynomial(by).items()
                other = tuple(sorted((*atoms, Map("floordiv", (number, by))), key=_order))
                if terms.get(other) == factor * times:
                    left = {m: each for m, each in terms.items() if m not in (monomial, other)}
                    whole = {m: each * factor for m, each in polynomial(number).items()}
                    return _rejoined({m: each for m, each in _add(left, whole).items() if each})
            case _:
                continue
    return terms


def divided(terms: Polynomial, divisor: Polynomial) -> Polynomial | None:
    """terms / divisor where the divisor is one monomial with a positive factor and goes evenly."""
    if len(divisor) != 1:
        return None
    ((below, factor),) = divisor.items()
    result: dict[Monomial, int] = {}
    for monomial, times in terms.items():
        left = list(monomial)
        for atom in below:
            if atom not in left:
                return None
            left.remove(atom)
        if factor <= 0 or times % factor:
            return None
        result[tuple(left)] = times // factor
    return result


# --- proofs


def is_positive(form: Form) -> bool:
    """Whether a form is a positive number or a size of at least 1."""
    if isinstance(form, Const):
        return form.kind == "int" and form.value.real > 0
    return isinstance(form, Size) and not is_batch(form.axis)


PROOF_WORK = 2_000
"""What a proof may cost, in steps of `dsl.proofs.bounds`."""


@lru_cache(maxsize=4096)
def known(predicate: Form) -> bool:
    """Whether a comparison of indices and sizes is proved true wherever it is present, for all sizes of
    at least 1 (the batch: 0). False proves nothing."""
    if isinstance(predicate, Const):
        return predicate.value is True
    if not isinstance(predicate, Map) or predicate.op not in OPPOSITE:
        return False
    bounds = Bounds(work=PROOF_WORK)
    for each in walk((predicate,)):
        if isinstance(each, Size) and is_batch(each.axis):
            bounds.extents[each.axis] = bounds.symbol()
    try:
        facts = bounds.literal(predicate, {})
        return facts is not None and all(map(bounds.nonnegative, facts))
    except TooHard:
        return False

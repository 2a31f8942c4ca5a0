"""The budget of one call, entry by entry: how far rounding may take each result from its meaning.

`errors` writes, beside a program, the program of its errors to first order (N. J. Higham, Accuracy and
Stability of Numerical Algorithms, 2002, section 1.6 and chapters 3 and 4): an operation hands on each
error of an argument times the size of its partial derivative there, and adds its own rounding, which
`budget.py` grants. So the conditioning of a program at its data is part of the bound, for gradients and
their gradients too, which are programs like any other. Predicates and integers have no error: a program
whose choices hang on rounded numbers has no bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..compiler.fusion.contraction import is_product
from ..compiler.gradient.derive_rules import NO_DERIVATIVE, PULLBACKS
from ..compiler.meaning.interpret import interpret
from ..compiler.meaning.memory import not_yet
from ..dsl.constructors.batch import expand_batch
from ..dsl.constructors.build import apply, otherwise, present, select, size, when
from ..dsl.memo import Memo
from ..dsl.program import (
    BATCH,
    AsIf,
    At,
    Axis,
    Const,
    Form,
    Jvp,
    Library,
    Map,
    OnGradient,
    Otherwise,
    Output,
    Piece,
    Place,
    Program,
    Reduce,
    Scan,
    Vjp,
    When,
    walk,
)
from ..dsl.shapes.size_forms import Extent
from ..dsl.shapes.sizes import bind_sizes
from .budget import OPERATION, POWER, SPREAD, computed, unit

ZERO = Const(0.0)
LSE_OPERATIONS = 3.0
"""Those inside a log-sum-exp whose errors do not shrink with it: exp, the last sum, log."""

EXACT = ("abs", "neg", "maximum", "minimum", "real", "imag", "conj", "precise")
"""Operations that round nothing, and hand on the error of an argument as it is."""


def allowed(
    program: Program,
    tensors: Mapping[str, Tensor],
    dtype: torch.dtype,
    sizes: Mapping[Axis, Extent] | None = None,
    *,
    matrix_units: bool = False,
) -> dict[str, Tensor]:
    """How far each entry of each result of `dtype` may be from what `interpret` gives for these very
    tensors and sizes. Where nothing can be said (a zero under a root, a number that `dtype` lacks) it is
    infinite; integers and truth values have 0. On `matrix_units` a factor of a sum of products is rounded to the
    16 bits of the results."""
    wide = {name: _wide(tensor) for name, tensor in tensors.items()}
    if sizes is None:
        sizes = bind_sizes(program, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    batch = sizes.get(BATCH, ())
    assert isinstance(batch, tuple)
    meant = interpret(program, wide, sizes)
    flat = {axis: extent for axis, extent in sizes.items() if axis != BATCH}
    flat |= {Axis(f"..{i}"): extent for i, extent in enumerate(batch)}
    factor = unit(dtype) if matrix_units and dtype != computed(dtype) else 0.0
    known, key = _errors(program), (len(batch), computed(dtype), factor)
    if key not in known:
        known[key] = errors(expand_batch(program, len(batch)), computed(dtype), factor)
    found = interpret(known[key], wide, flat)
    return {name: _stored(found[name], meant[name], dtype) for name in meant}


_errors: Memo[dict[object, Program]] = Memo(lambda program: {})
"""The programs of errors of a program that were asked for: at other tensors, at every result of a sweep."""


def _stored(error: Tensor, meant: Tensor, dtype: torch.dtype) -> Tensor:
    """The bound of a result that is rounded once more where it is stored in fewer bits."""
    if not (meant.is_floating_point() or meant.is_complex()):
        return torch.zeros(meant.shape, dtype=torch.float64)
    limits = torch.finfo(dtype)
    bound = error.double() + limits.smallest_normal * limits.eps
    if dtype != computed(dtype):
        bound = bound + unit(dtype) * (meant.abs() + bound)
    known = bound.isfinite() & (meant.abs() + bound < limits.max)
    return torch.where(known, bound, torch.inf)


def _wide(tensor: Tensor) -> Tensor:
    if tensor.is_complex():
        return tensor.to(torch.complex128)
    return tensor.double() if tensor.is_floating_point() else tensor


def errors(program: Program, real: torch.dtype, factor: float = 0.0) -> Program:
    """The program whose results are the bounds of those of `program`, which has no `...`, when it is computed
    in `real`, float32 or float64, and the factors of sums of products to within `factor` of them."""
    writer = Writer(real, factor)
    for form in walk(program.roots):
        found = writer.error(form)
        if found is not None:
            writer.made[form] = found
    items = {each.leaf: each.items for each in program.buffers}
    updated = (
        Output(f"update:{each.buffer.name}", each.value, items[each.buffer]) for each in program.updates
    )
    outputs = tuple(replace(each, value=writer.of(each.value)) for each in (*program.outputs, *updated))
    return replace(program, outputs=outputs, updates=(), names=(), requires=())


@dataclass(slots=True)
class Writer:
    """`made` holds the error of each form that has one: present where the form is, over the same axes."""

    real: torch.dtype
    factor: float = 0.0
    made: dict[Form, Form] = field(default_factory=dict[Form, Form])

    @property
    def own(self) -> float:
        """The unit; twice that in float64, which the meaning is computed in too."""
        return unit(self.real) * (2 if self.real == torch.float64 else 1)

    def of(self, form: Form) -> Form:
        return self.made.get(form) or nothing(form)

    def error(self, form: Form) -> Form | None:
        """None where there is none. The errors of what the form is made of are known."""
        made = self.made
        match form:
            case Const(value=value) if form.kind in ("real", "complex"):
                stored = torch.tensor(value, dtype=self.real if form.kind == "real" else None).item()
                return None if stored == value else Const(self.own * abs(value))
            case When(predicate=predicate, value=value):
                return when(predicate, made[value]) if value in made else None
            case Otherwise(value=value, fallback=fallback):
                exact = value not in made and fallback not in made
                return None if exact else otherwise(self.of(value), self.of(fallback))
            case At(value=value, indices=indices):
                return At(made[value], indices) if value in made else None
            case AsIf(value=value) | OnGradient(value=value):
                return made.get(value)
            case Map() if form.kind in ("real", "complex"):
                return self.map(form)
            case Reduce() if form.kind in ("real", "complex"):
                return self.reduction(form)
            case Place() if form.kind in ("real", "complex"):
                return self.placed(form)
            case Scan() | Library() | Jvp() | Vjp():
                raise not_yet(form)
            case _:
                return None

    def map(self, form: Map) -> Form | None:
        given = [(place, self.made[arg]) for place, arg in enumerate(form.args) if arg in self.made]
        if form.op in NO_DERIVATIVE or (form.op in EXACT and not given):
            return None
        if form.op in EXACT:
            worst = given[0][1] if len(given) == 1 else apply("maximum", given[0][1], given[1][1])
            return plus(nothing(form), worst)
        least = Const(torch.finfo(self.real).smallest_normal * self.own)
        units = OPERATION * (POWER if form.op == "pow" else 1)
        rounding = plus(least, apply("mul", Const(units * self.own), magnitude(form)))
        return plus(rounding, *(handed_on(form, place, error) for place, error in given))

    def reduction(self, form: Reduce) -> Form | None:
        pieces = form.pieces
        handed = tuple(Piece(self.made[each.value], each.axes) for each in pieces if each.value in self.made)
        match form.op:
            case "sum":
                sizes = tuple(Piece(magnitude(each.value), each.axes) for each in pieces)
                factor = Const(self.factor if is_product(form, ()) else 0.0)
                rounding = apply("mul", plus(self.grown(terms(pieces)), factor), Reduce("sum", sizes))
                return plus(rounding, *over("sum", handed))
            case "max" | "min":
                return plus(nothing(form), *over("max", handed)) if handed else None
            case "lse":
                last = plus(Const(LSE_OPERATIONS), magnitude(form))
                steps = plus(self.grown(terms(pieces)), apply("mul", Const(OPERATION * self.own), last))
                return plus(steps, *over("max", handed))
            case _:
                return self.product(form)

    def product(self, form: Reduce) -> Form:
        """Relative errors add up; a factor with its error is at least as large as it is."""
        larger: list[Piece] = []
        relative: list[Piece] = []
        for piece in form.pieces:
            high = plus(magnitude(piece.value), self.of(piece.value))
            larger.append(Piece(high, piece.axes))
            error = self.of(piece.value)
            share = select(apply("gt", error, ZERO), apply("div", error, high), ZERO)
            relative.append(Piece(share, piece.axes))
        rounding = apply("mul", Const(OPERATION * self.own), terms(form.pieces))
        total = plus(rounding, Reduce("sum", tuple(relative)))
        return apply("mul", Reduce("prod", tuple(larger)), total)

    def placed(self, form: Place) -> Form:
        value = form.value
        gone = tuple(axis for axis in value.axes if axis not in form.axes)
        count = terms((Piece(value, (*gone, *(axis for axis, _ in form.indices if axis in value.axes))),))
        rounding = apply("mul", self.grown(count), replace(form, value=magnitude(value)))
        return plus(rounding, replace(form, value=self.made[value])) if value in self.made else rounding

    def grown(self, count: Form) -> Form:
        """What a sum of so many terms may be off by beside their sizes, as in `budget`."""
        most = apply("minimum", count, apply("mul", Const(SPREAD), apply("sqrt", count)))
        return apply("mul", Const(self.own), most)


def magnitude(form: Form) -> Form:
    """At least the absolute value."""
    if form.kind == "complex":
        return plus(apply("abs", apply("real", form)), apply("abs", apply("imag", form)))
    return apply("abs", form)


def nothing(form: Form) -> Form:
    """0 where the form is present, over its axes."""
    return when(present(form), ZERO)


def plus(first: Form, *others: Form) -> Form:
    for other in others:
        first = apply("add", first, other)
    return first


def over(op: str, pieces: tuple[Piece, ...]) -> list[Form]:
    """What a reduction of errors adds: nothing where there are none, 0 where none is present."""
    return [otherwise(Reduce(op, pieces), ZERO)] if pieces else []


def terms(pieces: tuple[Piece, ...]) -> Form:
    """How many entries there are at most."""
    total: Form = ZERO
    for piece in pieces:
        count: Form = Const(1.0)
        for axis in piece.axes:
            count = apply("mul", count, size(axis))
        total = plus(total, count)
    return total


def handed_on(form: Map, place: int, error: Form) -> Form:
    """What an error of one argument does to the result."""
    if form.op == "sqrt" and form.kind == "real":  # the slope at 0 would say nothing
        larger = apply("maximum", form.args[0], error)
        return select(apply("gt", error, ZERO), apply("div", error, apply("sqrt", larger)), ZERO)
    pullback = PULLBACKS[form.op][place]
    slope = pullback(Const(1.0), form) if pullback else None
    return ZERO if slope is None else apply("mul", magnitude(slope), error)

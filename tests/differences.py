"""Gradients held against finite differences of the interpreter, along random directions.

The law of a difference, stated here only. Let L be the sum of a program's results times weights, and D(h) =
(L(+h) - L(-h)) / 2h. Where L is smooth D(h) = L' + c h^2 + O(h^4), so it is off by a third of D(2h) - D(h), of
which the whole is granted. Rounding adds what `backends/rounding.py` computes for both L, in float64, over 2h;
the sums that make L of the results; and half a unit of each number that is moved, times the slope there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from plait.backends.budget import budget, unit
from plait.backends.rounding import allowed
from plait.compiler.gradient.derive import gradient
from plait.compiler.meaning.interpret import interpret
from plait.compiler.meaning.partial import Sizes
from plait.compiler.meaning.storage import stored_shape
from plait.dsl.program import Declaration, Form, Item, Leaf, Output, Place, Program, walk
from plait.dsl.python.value import Value

Tensors = Mapping[str, Tensor]
STEP = 2.0**-17
"""Near the cube root of float64's unit, where h^2 weighs as much as the unit over h."""

DIRECTIONS = 2


def program_of(
    outputs: Mapping[str, Value], layouts: Mapping[str, tuple[Item, ...]] | None = None
) -> Program:
    """A program of these outputs whose inputs and parameters are their leaves, stored axis by axis where
    `layouts` says nothing else."""
    forms = [form for form in walk(value.form for value in outputs.values()) if isinstance(form, Leaf)]
    leaves = sorted((form for form in forms if form.role != "bound"), key=lambda leaf: leaf.name)

    def layout(name: str, form: Form) -> tuple[Item, ...]:
        return (layouts or {}).get(name) or tuple((axis,) for axis in form.axes)

    tensors = {leaf: Declaration(leaf, layout(leaf.name, leaf)) for leaf in leaves}
    return Program(
        "test",
        tuple(each for leaf, each in tensors.items() if leaf.role == "input"),
        tuple(Output(name, value.form, layout(name, value.form)) for name, value in outputs.items()),
        parameters=tuple(each for leaf, each in tensors.items() if leaf.role == "parameter"),
    )


def random_tensors(
    program: Program, sizes: Sizes, seed: int = 0, given: Tensors | None = None
) -> dict[str, Tensor]:
    """A random tensor for every real or complex declaration; the others come from `given`."""
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, Tensor] = {}
    for each in program.declarations:
        kind = each.leaf.kind
        data = torch.randn(
            stored_shape(each.items, sizes),
            generator=generator,
            dtype=torch.complex128 if kind == "complex" else torch.float64,
        )
        found[each.leaf.name] = data if kind in ("real", "complex") else data.round().to(torch.int64)
    return {**found, **(given or {})}


def places(program: Program) -> int:
    return sum(isinstance(form, Place) for form in program.forms)


def with_cotangents(
    program: Program, derived: Program, tensors: Tensors, sizes: Sizes, seed: int = 1
) -> dict[str, Tensor]:
    """The tensors of a gradient program: random cotangents beside the program's own."""
    added = derived.inputs[len(program.inputs) :]
    return {**tensors, **random_tensors(Program("cot", added, ()), sizes, seed)}


def dot(one: Tensor, other: Tensor) -> float:
    """Re <one, other>: how L moves along `other` where its derivative is `one`."""
    return float((one.conj() * other).real.sum() if one.is_complex() else (one * other).sum())


def noise(program: Program, tensors: Tensors, weights: Tensors, sizes: Sizes | None = None) -> float:
    """How far rounding may take the sum of the results times `weights`, in float64."""
    bounds, results = allowed(program, tensors, torch.float64, sizes), interpret(program, tensors, sizes)
    count = sum(each.numel() for each in weights.values())
    summed = budget(torch.float64, count, operations=2)
    found = sum(
        float((weight.abs() * (bounds[name] + summed * results[name].abs())).sum())
        for name, weight in weights.items()
    )
    assert math.isfinite(found), "nothing would be held"
    return found


def check_slope(
    program: Program,
    tensors: Tensors,
    way: Tensors,
    weights: Tensors,
    gradients: Tensors,
    rounding: float,
    sizes: Sizes | None = None,
) -> None:
    """Assert that the sum of the results times `weights` moves along `way` as its `gradients` say; `rounding` is
    its `noise`."""

    def loss(step: float) -> float:
        moved = {name: each + step * way[name] if name in way else each for name, each in tensors.items()}
        results = interpret(program, moved, sizes)
        return sum(dot(weight, results[name]) for name, weight in weights.items())

    narrow, wide = ((loss(step) - loss(-step)) / (2 * step) for step in (STEP, 2 * STEP))
    slope = sum(dot(gradients[name], way[name]) for name in way)
    moved = sum(float((gradients[name] * tensors[name]).abs().sum()) for name in way)
    within = abs(narrow - wide) + (rounding + unit(torch.float64) * moved) / STEP
    assert abs(narrow - slope) <= within, (list(way), narrow, slope, within)


def check_gradient(program: Program, tensors: Tensors, sizes: Sizes) -> tuple[Program, dict[str, Tensor]]:
    """Assert that the gradient is the derivative of sum(cot * out) along random directions. Returns the
    gradient program and its tensors, for the next order."""
    derived = gradient(program)
    given = with_cotangents(program, derived, tensors, sizes)
    gradients = interpret(derived, given, sizes)
    assert gradients, "something has a gradient"
    names = [each.name for each in program.outputs if f"cot.{each.name}" in given]
    weights = {name: given[f"cot.{name}"] for name in names}
    rounding = noise(program, tensors, weights, sizes)

    generator = torch.Generator().manual_seed(2)
    for name, found in gradients.items():
        of = name.removeprefix("grad.")
        x = tensors[of]
        assert found.shape == x.shape and found.dtype == x.dtype
        for _ in range(DIRECTIONS):
            way = torch.randn(x.shape, generator=generator, dtype=x.dtype)
            check_slope(program, tensors, {of: way}, weights, {of: found}, rounding, sizes)
    return derived, given

"""Gradients held against finite differences of the interpreter, along random directions."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from plait.compiler.gradient.derive import gradient
from plait.compiler.meaning.interpret import interpret
from plait.compiler.meaning.partial import Sizes
from plait.compiler.meaning.storage import stored_shape
from plait.dsl.program import Declaration, Form, Item, Leaf, Output, Place, Program, walk
from plait.dsl.value import Value

Tensors = Mapping[str, Tensor]
STEP = 1e-5
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


def check_gradient(
    program: Program, tensors: Tensors, sizes: Sizes, tolerance: float = 1e-6
) -> tuple[Program, dict[str, Tensor]]:
    """Assert that the gradient is the derivative of sum(cot * out) along random directions. Returns the
    gradient program and its tensors, for the next order."""
    derived = gradient(program)
    given = with_cotangents(program, derived, tensors, sizes)
    gradients = interpret(derived, given, sizes)
    assert gradients, "something has a gradient"

    def loss(moved: Tensors) -> float:
        outputs = interpret(program, moved, sizes)
        return sum(dot(given[f"cot.{n}"], x) for n, x in outputs.items() if f"cot.{n}" in given)

    generator = torch.Generator().manual_seed(2)
    for name, found in gradients.items():
        of = name.removeprefix("grad.")
        x = tensors[of]
        assert found.shape == x.shape and found.dtype == x.dtype
        for _ in range(DIRECTIONS):
            way = torch.randn(x.shape, generator=generator, dtype=x.dtype)
            higher, lower = (loss({**tensors, of: x + sign * STEP * way}) for sign in (1, -1))
            expected, actual = (higher - lower) / (2 * STEP), dot(found, way)
            assert abs(expected - actual) <= tolerance * (1 + abs(expected)), (name, expected, actual)
    return derived, given

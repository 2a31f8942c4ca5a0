"""torch's own gradcheck and gradgradcheck on generated programs: what autograd gives through the C++ kernels in
float64, to the second order, against differences of the calls themselves.

Reals come from a shuffled lattice: no two entries are equal and none is 0, so that no comparison of inputs is at
its corner. A program whose derivative jumps there all the same (`x - x` under a maximum) is left out, which the
interpreter tells: such programs have a derivative by convention, that no difference shows. So have those whose author
says what it is (`as_if`).
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from agreement import SHORT, derivative
from compositions import compositions
from kernel_families import FAMILIES
from plait.backends.autograd import Differentiable
from plait.backends.compiled import Compiled
from plait.compiler.gradient.derive import gradient
from plait.compiler.gradient.tangent import apart
from plait.compiler.meaning.interpret import interpret
from plait.dsl.mistakes import NotYet
from plait.dsl.program import AsIf, OnGradient
from strategies import Example, drawn, examples

PROGRAMS = st.one_of(examples(), compositions(), *FAMILIES.values())

COUNT = 3
"""Programs of a run of every change; as many times more in `make test-all` as its profile says."""

AWAY = 1e-4
"""How far inputs are moved to see whether a derivative jumps near them."""


def on_a_lattice(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of these shapes whose reals are all different, between -1 and 1 and not 0."""
    count = sum(tensor.numel() for tensor in tensors.values() if tensor.is_floating_point())
    order = torch.randperm(count, generator=torch.Generator().manual_seed(count)).double()
    points = list(((2 * order + 1) / max(count, 1) - 1 + 0.2 / max(count, 1)).split_with_sizes(
        [tensor.numel() for tensor in tensors.values() if tensor.is_floating_point()]
    ))  # fmt: skip
    return {
        name: points.pop(0).view(tensor.shape) if tensor.is_floating_point() else tensor.contiguous()
        for name, tensor in tensors.items()
    }


def is_smooth(example: Example, tensors: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> bool:
    """Whether the derivative by the interpreter changes by little around the tensors, and all is finite."""
    wanted = [name for name, tensor in tensors.items() if tensor.is_floating_point()]

    def at(step: float) -> list[Tensor]:
        generator = torch.Generator().manual_seed(5)
        moved = {
            name: x + step * torch.rand(x.shape, generator=generator, dtype=x.dtype)
            if x.is_floating_point()
            else x
            for name, x in tensors.items()
        }
        derived, given = derivative(example.program, moved, wanted, weights)
        return list(interpret(derived, given).values())

    for here, before, after in zip(at(0.0), at(-AWAY), at(AWAY), strict=True):
        if not all(bool(each.isfinite().all()) for each in (here, before, after)):
            return False
        size = 1 + here.abs().max() if here.numel() else 1
        if any(((each - here).abs() > 100 * AWAY * size).any() for each in (before, after)):
            return False
    return True


def check(example: Example) -> bool:
    """Whether the program was fit to be checked; then its derivatives are right."""
    if any(isinstance(form, AsIf | OnGradient) for form in example.program.forms):
        return False
    tensors = on_a_lattice(example.tensors)
    call = Differentiable(Compiled(example.program, backend="cpp", on_unfused="quiet"))
    wanted = [name for name, tensor in tensors.items() if tensor.is_floating_point()]
    leaves = tuple(tensors[name].requires_grad_() for name in wanted)
    made = call(tensors)
    results = [name for name in call.smooth if made[name].requires_grad]
    weights = {name: torch.ones_like(made[name]) for name in results}
    plain = {name: tensor.detach() for name, tensor in tensors.items()}
    if not results or not wanted or not is_smooth(example, plain, weights):
        return False

    def run(*given: Tensor) -> tuple[Tensor, ...]:
        values = call(tensors | dict(zip(wanted, given, strict=True)))
        return tuple(values[name] for name in results)

    assert gradcheck(run, leaves, fast_mode=True)
    if len(apart(gradient(example.program)).forms) <= SHORT:
        assert gradgradcheck(run, leaves, fast_mode=True)
    return True


def test_generated_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAIT_CXX_LEVEL", "-O0")
    seen = 0

    def one(example: Example) -> None:
        nonlocal seen
        try:
            seen += check(example)
        except NotYet:
            return

    count = COUNT * max(1, settings().max_examples // 50)
    drawn(PROGRAMS, COUNT, one)
    assert seen >= max(1, count // 4), f"{seen} of {count} programs were fit to be checked"

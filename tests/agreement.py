"""What a backend makes of an example, held against the interpreter: values and first gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from plait.backends.autograd import Differentiable
from plait.backends.budget import unit
from plait.backends.compiled import BackendName, Compiled
from plait.compiler.derive import gradient
from plait.compiler.interpret import interpret
from plait.dsl.program import Map, Program, Reduce
from strategies import Example

STEP = 1e-5
BOUNDS = {torch.float32: 1e-4, torch.float64: 1e-9}
"""How far a result may be from the interpreter's, beside the largest entry of it or 1."""
BOUNDS |= {narrow: BOUNDS[torch.float32] + unit(narrow) for narrow in (torch.bfloat16, torch.float16)}

Placing = Callable[[Tensor], Tensor]
"""Where a tensor of a call lies: the same numbers in the same strides, perhaps on another device."""


def here(tensor: Tensor) -> Tensor:
    return tensor


def run_on(backend: BackendName, program: Program, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The results by name."""
    return Compiled(program, backend=backend, on_unfused="quiet").run(tensors)


def agree(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], real: torch.dtype) -> None:
    """Equal names, shapes and integers; reals within the bound of their dtype."""
    assert list(found) == list(expected)
    for name, value in expected.items():
        got = found[name].cpu()
        assert got.shape == value.shape, (name, got.shape, value.shape)
        if not value.is_floating_point():
            assert torch.equal(got, value), name
            continue
        assert got.dtype == real, (name, got.dtype)
        finite = value[value.isfinite()]
        scale = max(1.0, finite.abs().max().item() if finite.numel() else 1.0)
        wrong = (got.double() - value).abs().nan_to_num(0)
        assert torch.allclose(got.double(), value, rtol=0, atol=BOUNDS[real] * scale, equal_nan=True), (
            f"{name}: off by {wrong.max().item():.3g} of {scale:.3g} at {(wrong == wrong.max()).nonzero()[0].tolist()}"
        )


def real_of(example: Example) -> torch.dtype:
    reals = (tensor.dtype for tensor in example.tensors.values() if tensor.is_floating_point())
    return next(reals, torch.float32)


def check_values(example: Example, backend: BackendName = "cpp", place: Placing = here) -> None:
    found = run_on(backend, example.program, {name: place(each) for name, each in example.tensors.items()})
    agree(found, interpret(example.program, example.tensors), real_of(example))


def check_gradients(example: Example, backend: BackendName = "cpp", place: Placing = here) -> None:
    """Of a sum of the outputs with random weights, for every real tensor."""
    program, real = example.program, real_of(example)
    call = Differentiable(Compiled(program, backend=backend, on_unfused="quiet"))
    leaves = {
        name: place(tensor).detach().requires_grad_() if tensor.is_floating_point() else place(tensor)
        for name, tensor in example.tensors.items()
    }
    made = call(leaves)
    generator = torch.Generator().manual_seed(7)
    weights = {
        name: torch.randn(made[name].shape, generator=generator, dtype=torch.float32).to(real)
        for name in call.smooth
        if made[name].requires_grad
    }
    if not weights:
        return
    wanted = [name for name, leaf in leaves.items() if leaf.requires_grad]
    found = torch.autograd.grad(
        [made[name] for name in weights], [leaves[name] for name in wanted],
        [place(weight) for weight in weights.values()],
        allow_unused=True, materialize_grads=True,
    )  # fmt: skip
    expected = expected_gradients(example, wanted, weights)
    agree(dict(zip(wanted, found, strict=True)), expected, real)


def expected_gradients(
    example: Example, wanted: Sequence[str], weights: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """By the derived program, interpreted in float64; where no law about equal entries is needed, that
    is also held against differences of the program's own values."""
    tensors = {name: as_double(each) for name, each in example.tensors.items()}
    derived = gradient(example.program, tuple(wanted))
    cotangents = {f"cot.{name}": weight.double() for name, weight in weights.items()}
    names = {each.leaf.name for each in derived.declarations}
    given = {name: each for name, each in (tensors | cotangents).items() if name in names}
    made = interpret(derived, given)
    found = {name: made[f"grad.{name}"] for name in wanted}
    if not _has_corners(example.program):
        _check_differences(example.program, tensors, found, weights)
    return found


def _check_differences(
    program: Program,
    tensors: Mapping[str, Tensor],
    found: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
) -> None:
    """Along one random direction of all tensors at once."""
    generator = torch.Generator().manual_seed(3)
    ways = {
        name: torch.randn(each.shape, generator=generator, dtype=each.dtype) for name, each in found.items()
    }

    def loss(step: float) -> float:
        moved = {name: each + step * ways[name] if name in ways else each for name, each in tensors.items()}
        made = interpret(program, moved)
        return float(sum((made[name] * weight.double()).sum() for name, weight in weights.items()))

    expected = (loss(STEP) - loss(-STEP)) / (2 * STEP)
    actual = float(sum((each * ways[name]).sum() for name, each in found.items()))
    size = 1 + sum(float((each * ways[name]).abs().sum()) for name, each in found.items())
    assert abs(expected - actual) <= 1e-6 * size, (expected, actual)


def as_double(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def _has_corners(program: Program) -> bool:
    corners = ("maximum", "minimum", "max", "min", "abs", "sign", "argmax", "lt", "gt", "le", "ge")
    return any(isinstance(form, Map | Reduce) and form.op in corners for form in program.forms)

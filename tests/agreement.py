"""What a backend makes of an example, held against the interpreter: values and first gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import reduce

import torch
from torch import Tensor

from differences import check_slope, noise
from plait.backends.autograd import Differentiable
from plait.backends.budget import budget
from plait.backends.compiled import BackendName, Compiled
from plait.backends.rounding import allowed
from plait.compiler.gradient.derive import gradient
from plait.compiler.gradient.tangent import apart
from plait.compiler.meaning.interpret import interpret
from plait.compiler.meaning.partial import Sizes
from plait.dsl.program import AsIf, Map, OnGradient, Program, Reduce
from strategies import Example

SHORT = 120
"""Forms of a gradient that is derived once more."""

Placing = Callable[[Tensor], Tensor]
"""Where a tensor of a call lies: the same numbers in the same strides, perhaps on another device."""


def here(tensor: Tensor) -> Tensor:
    return tensor


def run_on(backend: BackendName, program: Program, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The results by name."""
    return Compiled(program, backend=backend, on_unfused="quiet").run(tensors)


def agree(
    found: Mapping[str, Tensor],
    program: Program,
    tensors: Mapping[str, Tensor],
    real: torch.dtype,
    backend: BackendName = "cpp",
) -> None:
    """What the interpreter gives: equal names, shapes and integers; reals of the dtype (or of the wider one that
    torch promotes it to beside a complex tensor), each entry within the budget of the program at these tensors."""
    expected = interpret(program, tensors)
    widest = reduce(torch.promote_types, (each.dtype for each in tensors.values()), real).to_real()
    within = allowed(program, tensors, real, matrix_units=backend == "triton")
    assert list(found) == list(expected)
    for name, value in expected.items():
        got = found[name].cpu()
        assert got.shape == value.shape, (name, got.shape, value.shape)
        if not (value.is_floating_point() or value.is_complex()):
            assert torch.equal(got, value), name
            continue
        assert got.is_complex() or got.dtype in (real, widest), (name, got.dtype)
        close(got.to(value.dtype), value, within[name], name)


def close(got: Tensor, value: Tensor, within: Tensor, name: str) -> None:
    """Each entry within its bound; what is infinite or not a number is equal, unless its bound is infinite."""
    same = (got == value) | (got.isnan() & value.isnan())
    wrong = torch.where(same | within.isinf(), 0.0, ((got - value).abs() / within).nan_to_num(torch.inf))
    if wrong.numel() and not wrong.max() <= 1:
        at = tuple((wrong == wrong.max()).nonzero()[0].tolist())
        found, meant = got[at].item(), value[at].item()
        raise AssertionError(
            f"{name}{list(at)}: {found} for {meant}, {wrong.max().item():.3g} times what rounding may do"
        )


def beside(
    found: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    program: Program,
    tensors: Mapping[str, Tensor],
    sizes: Sizes | None = None,
) -> None:
    """Two computations of one meaning, `found` by a backend and `wanted` in float64, perhaps by torch: no entry
    is further from the other one than both may be from the meaning."""
    assert list(found) == list(wanted)
    own = {name: each.dtype.to_real() for name, each in found.items() if each.is_floating_point()}
    bounds = {real: allowed(program, tensors, real, sizes) for real in {*own.values(), torch.float64}}
    for name, value in wanted.items():
        got = found[name].detach().cpu()
        assert got.shape == value.shape, (name, got.shape, value.shape)
        within = bounds[own.get(name, torch.float64)][name] + bounds[torch.float64][name]
        close(got.to(value.dtype), value.detach(), within, name)


def nearly(found: Tensor, wanted: Tensor, length: int | None = None, operations: int = 8) -> None:
    """Two computations of one function, of which there is no program: beside the largest entry, or 1, the budget
    of so many operations and of sums of `length` terms, as many as there are entries if nothing is said."""
    assert found.shape == wanted.shape, (found.shape, wanted.shape)
    if not found.is_floating_point() or not found.numel():
        assert torch.equal(found, wanted)
        return
    terms = length or max(found.numel(), wanted.numel())
    within = sum(budget(each.dtype, terms, operations) for each in (found, wanted))
    wrong = (found.detach().cpu().double() - wanted.detach().cpu().double()).abs().max().item()
    largest = max(1.0, wanted.detach().abs().max().item())
    assert wrong <= within * largest, f"off by {wrong:.3g} of {largest:.3g}, and {within:.3g} is allowed"


def agree_gradients(
    found: Mapping[str, Tensor],
    program: Program,
    tensors: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    real: torch.dtype,
    backend: BackendName = "cpp",
) -> None:
    """`found` are the gradients, by the names of their tensors, of the sum of the outputs times `weights`: each
    entry within the budget of the derived program."""
    derived, given = derivative(program, tensors, tuple(found), weights)
    agree({f"grad.{name}": each for name, each in found.items()}, derived, given, real, backend)


def real_of(example: Example) -> torch.dtype:
    reals = (tensor.dtype for tensor in example.tensors.values() if tensor.is_floating_point())
    return next(reals, torch.float32)


def check_values(example: Example, backend: BackendName = "cpp", place: Placing = here) -> None:
    found = run_on(backend, example.program, {name: place(each) for name, each in example.tensors.items()})
    agree(found, example.program, example.tensors, real_of(example), backend)


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
        name: random_like(made[name], real, generator) for name in call.smooth if made[name].requires_grad
    }
    if not weights:
        return
    wanted = [name for name, leaf in leaves.items() if leaf.requires_grad]
    found = torch.autograd.grad(
        [made[name] for name in weights], [leaves[name] for name in wanted],
        [place(weight) for weight in weights.values()],
        allow_unused=True, materialize_grads=True,
    )  # fmt: skip
    derived, given = derivative(program, example.tensors, wanted, weights)
    by_name = {f"grad.{name}": each for name, each in zip(wanted, found, strict=True)}
    agree(by_name, derived, given, real, backend)
    if not has_corners(program):
        doubles = {name: as_double(each) for name, each in example.tensors.items()}
        _check_differences(program, doubles, interpret(derived, given), weights)


def random_like(tensor: Tensor, real: torch.dtype, generator: torch.Generator) -> Tensor:
    """Random numbers of its shape: of the dtype `real`, or complex ones that go with it."""
    if tensor.is_complex():
        wide = torch.complex128 if real == torch.float64 else torch.complex64
        return torch.randn(tensor.shape, generator=generator, dtype=torch.complex64).to(wide)
    return torch.randn(tensor.shape, generator=generator, dtype=torch.float32).to(real)


def check_second(example: Example) -> None:
    """The gradient of the gradient, along random cotangents: the interpreter's against differences of the first
    one, and the C++ kernels' against it."""
    first = apart(gradient(example.program))
    if len(first.forms) > SHORT or not first.outputs:
        return
    tensors = dict(example.tensors)
    generator = torch.Generator().manual_seed(11)
    bare = Example(first, tensors, example.sizes)
    for each in first.inputs:
        if each.leaf.name not in tensors:
            name = each.leaf.name.removeprefix("cot.")
            like = interpret(example.program, example.tensors)[name]
            tensors[each.leaf.name] = random_like(like, real_of(example), generator)
    tensors = {each.leaf.name: tensors[each.leaf.name] for each in first.declarations}
    check_gradients(replace(bare, tensors=tensors))


def derivative(
    program: Program, tensors: Mapping[str, Tensor], wanted: Sequence[str], weights: Mapping[str, Tensor]
) -> tuple[Program, dict[str, Tensor]]:
    """The derived program, and its tensors in float64."""
    derived = gradient(program, tuple(wanted))
    cotangents = {f"cot.{name}": weight.cpu() for name, weight in weights.items()}
    given = {name: as_double(each.detach()) for name, each in (dict(tensors) | cotangents).items()}
    return derived, {each.leaf.name: given[each.leaf.name] for each in derived.declarations}


def _check_differences(
    program: Program,
    tensors: Mapping[str, Tensor],
    found: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
) -> None:
    """Along one random direction of all tensors at once; where no law about equal entries is needed."""
    generator = torch.Generator().manual_seed(3)
    found = {name.removeprefix("grad."): each for name, each in found.items()}
    ways = {
        name: torch.randn(each.shape, generator=generator, dtype=each.dtype) for name, each in found.items()
    }
    doubles = {name: as_double(weight).cpu() for name, weight in weights.items()}
    check_slope(program, tensors, ways, doubles, found, noise(program, tensors, doubles))


def as_double(tensor: Tensor) -> Tensor:
    if tensor.is_complex():
        return tensor.to(torch.complex128)
    return tensor.double() if tensor.is_floating_point() else tensor


CORNERS = ("maximum", "minimum", "max", "min", "abs", "sign", "argmax")
"""Operations at whose corners differences and the conventions of derivatives do not agree."""

COMPARED = ("lt", "gt", "le", "ge", "eq", "ne")
"""Operations that show a jump, if they compare reals."""


def has_corners(program: Program) -> bool:
    """Whether differences may say something else than derivatives do: near a corner, or since the author says
    so."""
    return any(
        isinstance(form, AsIf | OnGradient)
        or (isinstance(form, Map | Reduce) and form.op in CORNERS)
        or (isinstance(form, Map) and form.op in COMPARED and any(arg.kind == "real" for arg in form.args))
        for form in program.forms
    )

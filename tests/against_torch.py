"""A layer held against PyTorch: values, all gradients and buffers on each backend, with the official state."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from plait import Mixer, compile
from plait.backends.budget import budget
from plait.backends.compiled import BackendName

RUNS: tuple[tuple[BackendName, torch.dtype], ...] = (
    ("reference", torch.float64),
    ("cpp", torch.float64),
    ("cpp", torch.float32),
)
"""Each backend with a dtype: the meaning, and the kernels in both widths."""

DEVICE = torch.device("cpu")
"""Where the backends run; the official one runs on the CPU, in float64."""

Official = nn.Module | Callable[..., Tensor | tuple[Tensor, ...]]


def random(*shape: int, seed: int = 0) -> Tensor:
    """Numbers that float32 holds exactly, in float64."""
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator).double()


def agree(
    layer: Mixer,
    official: Official,
    *inputs: Tensor,
    train: bool = False,
    kernels: bool = True,
    draws: Mapping[str, Tensor] | None = None,
    **given: Any,
) -> None:
    """The layer gives what the official one gives, which has its keys and shapes: outputs, gradients of a
    random combination of them for every input and parameter, and the buffers after a call.

    `kernels=False` asks the reference only: for the further settings of a layer whose kernels others build.
    """
    if isinstance(official, nn.Module):
        stirred(official)
    expected = dict(measured(official, inputs, train))
    for backend, dtype in RUNS if kernels else RUNS[:1]:
        net = layer.module(backend=backend, on_unfused="quiet", **given).to(DEVICE, dtype)
        if isinstance(official, nn.Module):
            net.load_state_dict(official.state_dict())
        drawn = {name: keep.to(DEVICE, dtype) for name, keep in (draws or {}).items()}
        given_inputs = [x.to(DEVICE, dtype if x.is_floating_point() else x.dtype) for x in inputs]
        found = dict(measured(net, given_inputs, train, drawn))
        assert sorted(found) == sorted(expected)
        length = max(value.numel() for value in (*expected.values(), *inputs))
        for name, value in expected.items():
            close(found[name], value, budget(dtype, length), f"{name} on {backend}")
            assert not value.is_floating_point() or found[name].dtype == dtype, name


def meaning(layer: Mixer, *inputs: Tensor) -> Tensor:
    """The one output of a layer without parameters, as the reference computes it."""
    made = compile(layer, backend="reference")(*inputs)
    assert isinstance(made, Tensor)
    return made


def stirred(official: nn.Module) -> None:
    """Its real state set to random numbers, so that a factor of 1 or a bias of 0 hides nothing; those of a
    matrix so that sums stay as large as their terms."""
    official.double()
    with torch.no_grad():
        for number, tensor in enumerate(official.state_dict().values()):
            if tensor.is_floating_point():
                numbers = random(*tensor.shape, seed=number)
                fan_in = tensor[0].numel() if tensor.dim() > 1 else 0
                tensor.copy_((numbers / fan_in**0.5 if fan_in else 1 + 0.5 * numbers.tanh()).float())


def measured(
    call: Official,
    inputs: Sequence[Tensor],
    train: bool,
    draws: Mapping[str, Tensor] | None = None,
) -> Iterator[tuple[str, Tensor]]:
    """What one call gives, by name."""
    call = copy.deepcopy(call).train(train) if isinstance(call, nn.Module) else call
    leaves = [x.clone().requires_grad_(x.is_floating_point()) for x in inputs]
    owned = dict(call.named_parameters()) if isinstance(call, nn.Module) else {}
    made = call(*leaves, **(draws or {}))
    made = made if isinstance(made, tuple) else (made,)
    yield from ((f"output {number}", y.detach()) for number, y in enumerate(made))
    if isinstance(call, nn.Module):
        yield from ((f"buffer {name}", each) for name, each in call.named_buffers())
    wanted = {**{f"input {n}": x for n, x in enumerate(leaves) if x.requires_grad}, **owned}
    totals = [(y * random(*y.shape, seed=9).to(y)).sum() for y in made]
    back = torch.autograd.grad(totals, list(wanted.values()), allow_unused=True, materialize_grads=True)
    yield from ((f"gradient of {name}", each) for name, each in zip(wanted, back, strict=True))


def close(found: Tensor, expected: Tensor, within: float, what: str) -> None:
    """Equal shapes and integers; reals within the budget of their largest entry."""
    assert found.shape == expected.shape, what
    found = found.cpu()
    if not expected.is_floating_point():
        assert torch.equal(found, expected), what
        return
    if not expected.numel():
        return
    wrong = (found.double() - expected).abs().max().item()
    scale = max(1.0, expected.abs().max().item())
    assert wrong <= within * scale, f"{what}: off by {wrong:.2g} of {scale:.2g}"

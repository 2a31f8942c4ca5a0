"""A layer held against PyTorch: values, all gradients and buffers on each backend, with the official state."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from plait import Mixer

RUNS = (("reference", torch.float64), ("cpp", torch.float64), ("cpp", torch.float32))
"""Each backend with a dtype: the meaning, and the kernels in both widths."""

MEANING = RUNS[:1]
"""For the further settings of a layer whose kernels other settings build."""

Official = nn.Module | Callable[..., Tensor]


def budget(dtype: torch.dtype, length: int) -> float:
    """The relative error that rounding explains: a few units in the last place for every operation of a
    chain and for every eight terms of a sum."""
    return torch.finfo(dtype).eps * (8 + length / 8)


def random(*shape: int, seed: int = 0) -> Tensor:
    """Numbers that float32 holds exactly, in float64."""
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator).double()


def agree(
    layer: Mixer,
    official: Official,
    *inputs: Tensor,
    train: bool = False,
    runs: tuple[tuple[str, torch.dtype], ...] = RUNS,
    draws: Mapping[str, Tensor] | None = None,
    **given: object,
) -> None:
    """The layer gives what the official one gives, which has its keys and shapes: outputs, gradients of a
    random combination of them for every input and parameter, and the buffers after a call."""
    if isinstance(official, nn.Module):
        stirred(official)
    expected = dict(measured(official, inputs, train))
    for backend, dtype in runs:
        net = layer.module(backend=backend, on_unfused="quiet", **given).to(dtype)
        if isinstance(official, nn.Module):
            net.load_state_dict(official.state_dict())
        found = dict(
            measured(net, [x.to(dtype) if x.is_floating_point() else x for x in inputs], train, draws)
        )
        assert sorted(found) == sorted(expected)
        length = max(value.numel() for value in (*expected.values(), *inputs))
        for name, value in expected.items():
            close(found[name], value, dtype, length, f"{name} on {backend}")


def stirred(official: nn.Module) -> None:
    """Its real state set to random numbers, so that a factor of 1 or a bias of 0 hides nothing."""
    official.double()
    with torch.no_grad():
        for number, tensor in enumerate(official.state_dict().values()):
            if tensor.is_floating_point():
                tensor.copy_(1 + 0.5 * random(*tensor.shape, seed=number).tanh())


def measured(
    call: Official,
    inputs: tuple[Tensor, ...] | list[Tensor],
    train: bool,
    draws: Mapping[str, Tensor] | None = None,
) -> Iterator[tuple[str, Tensor]]:
    """What one call gives, by name."""
    call = copy.deepcopy(call).train(train) if isinstance(call, nn.Module) else call
    leaves = [x.clone().requires_grad_(x.is_floating_point()) for x in inputs]
    made = call(*leaves, **(draws or {}))
    made = made if isinstance(made, tuple) else (made,)
    owned = dict(call.named_parameters()) if isinstance(call, nn.Module) else {}
    wanted = {**{f"input {n}": x for n, x in enumerate(leaves) if x.requires_grad}, **owned}
    total = sum((y * random(*y.shape, seed=9).to(y.dtype)).sum() for y in made)
    gradients = torch.autograd.grad(total, list(wanted.values()), allow_unused=True, materialize_grads=True)
    yield from ((f"output {number}", y.detach()) for number, y in enumerate(made))
    yield from ((f"gradient of {name}", each) for name, each in zip(wanted, gradients, strict=True))
    if isinstance(call, nn.Module):
        yield from ((f"buffer {name}", each) for name, each in call.named_buffers())


def close(found: Tensor, expected: Tensor, dtype: torch.dtype, length: int, what: str) -> None:
    """Equal shapes and integers; reals of the dtype and within the budget of their largest entry."""
    assert found.shape == expected.shape, what
    if not expected.is_floating_point():
        assert torch.equal(found, expected), what
        return
    assert found.dtype == dtype, what
    if not expected.numel():
        return
    wrong = (found.double() - expected).abs().max().item()
    scale = max(1.0, expected.abs().max().item())
    assert wrong <= budget(dtype, length) * scale, f"{what}: off by {wrong:.2g} of {scale:.2g}"

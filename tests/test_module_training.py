"""Training with modules: accumulation, checkpoints, hooks, sequences, ties, what the graph and caches keep."""

from __future__ import annotations

import copy
import gc
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian, jvp, vmap
from torch.utils.checkpoint import checkpoint

import plait
from module_block import close

TEXT = """
mixer mixed(x[b, h, c]) -> y[b, h, c]:
  near dh: 1
  like j: c
  param w[c, 1, dh] = "dwconv.weight" init normal(0.0, 0.5)
  param m[c, j] = "fc.weight"
  param bias[c] = "fc.bias"
  buffer scale[c] = "scale" init 2
  v = sum[dh](w * x[h+dh]) * scale
  y = x + tanh(sum[j](m * v[c: j]) + bias)
"""


class Mixed(nn.Module):
    """The same by torch's own layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv1d(width, width, 3, padding=1, groups=width, bias=False)
        self.fc = nn.Linear(width, width)
        self.register_buffer("scale", torch.full((width,), 2.0))

    def forward(self, x: Tensor) -> Tensor:
        v = self.dwconv(x.transpose(1, 2)).transpose(1, 2) * self.scale
        return x + torch.tanh(self.fc(v))


mixer = plait.parse(TEXT)


def twins(seed: int = 0, width: int = 5) -> tuple[nn.Module, Mixed]:
    torch.manual_seed(seed)
    ours, torchs = mixer.module(c=width).double(), Mixed(width).double()
    torchs.load_state_dict(ours.state_dict())
    return ours, torchs


def tokens(count: int = 2, length: int = 7, seed: int = 1) -> Tensor:
    return torch.randn(count, length, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {name: each.grad.clone() for name, each in module.named_parameters() if each.grad is not None}


def alike(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(found) == list(expected) and found
    for name, each in expected.items():
        assert close(found[name], each), name


def test_buffers_that_nothing_updates_are_state() -> None:
    ours, torchs = twins()
    assert set(ours.state_dict()) == {"dwconv.weight", "fc.weight", "fc.bias", "scale"}
    with torch.no_grad():
        ours.get_buffer("scale").fill_(0.5)
        torchs.get_buffer("scale").fill_(0.5)
    assert close(ours.train()(tokens()), torchs(tokens())) and close(ours.eval()(tokens()), torchs(tokens()))
    assert torch.equal(ours.get_buffer("scale"), torch.full((5,), 0.5, dtype=torch.float64))
    assert ours.float().get_buffer("scale").dtype == torch.float32


def test_gradients_accumulate() -> None:
    pair = twins()
    for seed in range(3):
        for module in pair:
            (module(tokens(seed=seed)).pow(2).mean() / 3).backward()
    alike(gradients(pair[0]), gradients(pair[1]))


@pytest.mark.parametrize("way", ["SGD", "AdamW"])
def test_optimisers_walk_the_same_way(way: str) -> None:
    pair = twins()
    options: dict[str, Any] = {"lr": 0.1, "momentum": 0.9} if way == "SGD" else {"lr": 0.01}
    for module in pair:
        optimiser = getattr(torch.optim, way)(module.parameters(), **options)

        def loss(module: nn.Module = module, optimiser: Any = optimiser) -> Tensor:
            optimiser.zero_grad()
            value = (module(tokens()) - 1).pow(2).mean()
            value.backward()
            return value

        for _ in range(3):
            optimiser.step(loss)
    alike(pair[0].state_dict(), pair[1].state_dict())


@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpoints(reentrant: bool) -> None:
    pair = twins()
    leaves = [tokens().requires_grad_() for _ in pair]
    calls: list[int] = []
    pair[0].register_forward_pre_hook(lambda *_: calls.append(1))
    for module, leaf in zip(pair, leaves, strict=True):
        out = checkpoint(module, leaf, use_reentrant=reentrant)
        assert out is not None
        out.pow(2).sum().backward()
    assert close(leaves[0].grad, leaves[1].grad) and len(calls) == 2
    alike(gradients(pair[0]), gradients(pair[1]))


def test_hooks_are_called() -> None:
    ours, _ = twins()
    seen: list[str] = []
    ours.register_forward_pre_hook(lambda module, args: seen.append("before") or (args[0] * 2,))
    ours.register_forward_hook(lambda module, args, out: seen.append("after") or out + 1)
    ours.register_full_backward_hook(lambda module, inner, outer: seen.append("backward"))
    ours.get_parameter("fc.bias").register_post_accumulate_grad_hook(lambda each: seen.append("grad"))
    ours.get_parameter("fc.weight").register_hook(lambda each: each * 0)
    x = tokens().requires_grad_()
    bare, _ = twins()
    out = ours(x)
    assert close(out, bare(2 * x) + 1)
    out.sum().backward()
    assert seen[:2] == ["before", "after"] and sorted(seen[2:]) == ["backward", "grad"]
    weight = ours.get_parameter("fc.weight").grad
    assert weight is not None and not weight.any()


def test_sequences_and_ties_between_modules() -> None:
    """One weight in two modules: one parameter of the whole, with the sum of both gradients."""
    stacks = [
        nn.Sequential(*(twins(seed)[place] for seed in range(3)), nn.Linear(5, 2).double())
        for place in (0, 1)
    ]
    stacks[1][3].load_state_dict(stacks[0][3].state_dict())
    for stack in stacks:
        stack[2].get_submodule("fc").weight = stack[0].get_submodule("fc").weight
    again = copy.deepcopy(stacks[0])
    assert again[2].get_submodule("fc").weight is again[0].get_submodule("fc").weight
    for stack in (*stacks, again):
        assert "2.fc.weight" not in dict(stack.named_parameters())
        stack(tokens()).pow(2).sum().backward()
        optimiser = torch.optim.SGD(stack.parameters(), lr=0.01)
        optimiser.step()
    alike(gradients(stacks[0]), gradients(stacks[1]))
    alike(gradients(again), gradients(stacks[1]))
    alike(dict(stacks[0].state_dict()), dict(stacks[1].state_dict()))


def test_second_derivatives() -> None:
    """A gradient penalty, as it is trained with, and the Hessian of one parameter."""
    pair = twins()
    leaves = [tokens().requires_grad_() for _ in pair]
    for module, leaf in zip(pair, leaves, strict=True):
        (first,) = torch.autograd.grad(module(leaf).pow(2).sum(), leaf, create_graph=True)
        first.pow(2).sum().backward()
    alike(gradients(pair[0]), gradients(pair[1]))
    assert close(leaves[0].grad, leaves[1].grad)

    x = tokens()

    def curvature(module: nn.Module) -> Tensor:
        def loss(bias: Tensor) -> Tensor:
            return functional_call(module, {"fc.bias": bias}, (x,)).pow(2).sum()

        return hessian(loss)(module.get_parameter("fc.bias").detach())

    assert close(curvature(pair[0]), curvature(pair[1]), order=2)


def test_transforms_of_functional_calls() -> None:
    """vmap over an ensemble of states, per-sample gradients, forward mode."""
    pair, x = twins(), tokens()
    states = [
        {name: torch.stack([each, 2 * each, -each]) for name, each in module.state_dict().items()}
        for module in pair
    ]
    ensembles = [
        vmap(lambda state, module=module: functional_call(module, state, (x,)))(state)
        for module, state in zip(pair, states, strict=True)
    ]
    assert ensembles[0].shape == (3, 2, 7, 5) and close(*ensembles)

    def loss(weight: Tensor, x: Tensor, module: nn.Module) -> Tensor:
        return functional_call(module, {"fc.weight": weight}, (x[None],)).pow(2).sum()

    samples = [
        vmap(grad(loss), in_dims=(None, 0, None))(
            module.get_parameter("fc.weight").detach(), tokens(), module
        )
        for module in pair
    ]
    assert samples[0].shape == (2, 5, 5) and close(*samples)
    pushed = [jvp(module, (tokens(),), (tokens(seed=2),)) for module in pair]
    assert close(pushed[0][0], pushed[1][0]) and close(pushed[0][1], pushed[1][1])


def test_no_grad_and_inference_mode() -> None:
    ours, torchs = twins()
    with torch.no_grad():
        assert not ours(tokens()).requires_grad
    with torch.inference_mode():
        found = ours(tokens())
        assert found.is_inference() and close(found, torchs(tokens()))
    x = tokens().requires_grad_()
    ours(x).sum().backward()
    assert x.grad is not None
    for each in ours.parameters():
        each.requires_grad_(False)
    assert not ours(tokens()).requires_grad


# --- what is kept


def test_the_graph_is_freed() -> None:
    ours, _ = twins()
    x = tokens().requires_grad_()
    out = ours(x)
    kept = weakref.ref(out.grad_fn)
    out.sum().backward()
    with pytest.raises(RuntimeError, match="second time"):
        out.sum().backward()
    del out
    assert kept() is None


def test_modules_die() -> None:
    """A module and what was compiled for it are freed with it, also after a call, a backward and a copy."""
    fresh = plait.parse(TEXT.replace("tanh", "0.5*tanh"))
    ours = fresh.module(c=5).double()
    ours(tokens()).sum().backward()
    copy.deepcopy(ours)
    plans: Any = ours._plans
    kept = [
        weakref.ref(ours),
        weakref.ref(plans.made),
        weakref.ref(ours.get_parameter("fc.weight")),
    ]
    del ours, plans, fresh
    gc.collect()
    assert [each() for each in kept] == [None, None, None]


def test_many_sizes_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is remembered a shape of call is bounded, and holds no tensor."""
    monkeypatch.setattr("plait.backends.compiled.MOST_PREPARED", 16)
    ours, torchs = twins()
    plans: Any = ours._plans
    compiled = plans.plan("train").call.compiled

    def walk(lengths: range) -> int:
        for length in lengths:
            x = tokens(1, length).requires_grad_()
            ours(x).sum().backward()
        gc.collect()
        return sum(isinstance(each, Tensor) for each in gc.get_objects())

    before = walk(range(1, 20))
    assert walk(range(20, 220)) <= before
    assert len(compiled._prepared) <= 16 and len(compiled._executables) == 1
    assert close(ours(tokens(1, 500)), torchs(tokens(1, 500)))


def test_what_the_face_shows() -> None:
    """A module of the face: its header, its program as text that reads back, the report of its kernels."""
    ours, _ = twins()
    shown: Any = ours
    assert repr(ours).splitlines()[:2] == ["PlaitModule(", "  mixed(x[b, h, c=5]) -> y[b, h, c]"]
    assert plait.parse(str(shown.program)).program() == shown.program
    ours(tokens())
    report = str(shown.explain())
    assert report.startswith("mixed: ") and "kernel" in report and "operations" in report

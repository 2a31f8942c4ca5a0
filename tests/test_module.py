"""Modules: the parameters of a mixer in an ordinary nn.Module, in training and out of it."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from module_block import Block, block, close, gated, make_pair, pictures
from plait.backends.module import PlaitModule, make_module
from plait.dsl.constructors.initialisers import bernoulli, gumbel, trunc_normal
from plait.dsl.elaboration.declarations import buffer, draw, mode, param, update
from plait.dsl.elaboration.mixer import Mixer, mixer
from plait.dsl.elaboration.text_mixers import parse_mixers
from plait.dsl.mistakes import (
    DuplicateParameter,
    InvalidArgument,
    InvalidSize,
    UnknownArgument,
    WrongDtype,
)
from plait.dsl.python.functions import axes, axis, near, select

b, c, e, m = axes("b c e m")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What runs without a kernel is not the subject here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*reference operation", category=UserWarning)
        yield


@pytest.fixture
def pair() -> tuple[PlaitModule, Block]:
    return make_pair()


KEYS = {
    "gamma": (6,), "dwconv.weight": (6, 1, 3, 3), "dwconv.bias": (6,), "norm.weight": (6,), "norm.bias": (6,),
    "norm.running_mean": (6,), "norm.running_var": (6,), "norm.num_batches_tracked": (), "fc.weight": (6, 6),
    "tied.weight": (6, 6),
}  # fmt: skip


# --- tensors


def test_tensors_lie_under_their_official_keys(pair) -> None:
    ours, _ = pair
    assert {name: tuple(each.shape) for name, each in ours.state_dict().items()} == KEYS
    assert ours.dwconv.weight is dict(ours.named_parameters())["dwconv.weight"]
    assert ours.norm.num_batches_tracked.dtype == torch.int64
    assert [name for name, each in ours.named_parameters() if not each.requires_grad] == ["gamma"]
    assert sorted(name for name, _ in ours.named_buffers()) == [
        "norm.num_batches_tracked", "norm.running_mean", "norm.running_var",
    ]  # fmt: skip


def test_one_parameter_under_two_keys(pair) -> None:
    ours, _ = pair
    assert ours.fc.weight is ours.tied.weight
    assert [name for name, _ in ours.named_parameters()].count("tied.weight") == 0
    for module in (copy.deepcopy(ours), ours.float(), pickle.loads(pickle.dumps(ours))):
        assert module.fc.weight is module.tied.weight


def test_packed_dimensions_and_derived_sizes() -> None:
    @mixer("x[b, m] -> y[b, m, e]")
    def packed(x):
        i, u = axis("i", 2 * m.size), near("u", 1)
        weight = param("weight", (i, m), 1, (e, u))
        return (weight * x).sum(u, i)

    module: Any = make_module(packed, given={"m": 3, "e": 2})
    assert module.state_dict()["weight"].shape == (18, 1, 6)
    x = torch.randn(4, 3)
    weight = module.weight.detach().reshape(6, 3, 2, 3)
    assert close(module(x), (weight.sum((0, 3)) * x[:, :, None]))


def test_how_tensors_begin() -> None:
    @mixer("x[b, c] -> y[b, c]")
    def begun(x):
        o = c.like("o")
        total = x
        for name, how in {"zeros": 0, "halves": 0.5, "cut": trunc_normal(0.02)}.items():
            total = total + param(name, c, init=how)
        matrix, scale, shift = param("m.weight", c, o), param("n.weight", c), param("n.bias", c)
        count, flag = buffer("count", kind="int", init=3), buffer("flag", kind="bool", init=1)
        return total * scale + shift + select(flag, count, 0) + (matrix * x[{c: o}]).sum(o)

    torch.manual_seed(0)
    state = make_module(begun, given={"c": 100}).state_dict()
    assert torch.equal(state["zeros"], torch.zeros(100)) and torch.equal(
        state["halves"], torch.full((100,), 0.5)
    )
    assert 0.015 < state["cut"].std() < 0.025
    assert state["m.weight"].abs().max() <= 0.1 and state["m.weight"].std() > 0.05
    assert torch.equal(state["n.weight"], torch.ones(100)) and torch.equal(state["n.bias"], torch.zeros(100))
    assert state["count"].item() == 3 and state["flag"].item() is True
    again = make_module(begun, given={"c": 100}).state_dict()
    assert not torch.equal(state["m.weight"], again["m.weight"])


def test_initialisers_are_those_of_torch() -> None:
    """One seed gives one tensor, whoever draws it."""
    expected = {
        "normal(0.5, 2.0)": lambda t: nn.init.normal_(t, 0.5, 2.0),
        "uniform(-1.0, 3.0)": lambda t: nn.init.uniform_(t, -1.0, 3.0),
        "trunc_normal(0.1)": lambda t: nn.init.trunc_normal_(t, 0.0, 0.1),
        "xavier_uniform(2.0)": lambda t: nn.init.xavier_uniform_(t, 2.0),
        "xavier_normal()": lambda t: nn.init.xavier_normal_(t),
        "kaiming_uniform(0.1)": lambda t: nn.init.kaiming_uniform_(t, 0.1),
        "kaiming_normal()": lambda t: nn.init.kaiming_normal_(t, 0),
        "orthogonal(3.0)": lambda t: nn.init.orthogonal_(t, 3.0),
        "1.5": lambda t: nn.init.constant_(t, 1.5),
    }
    for text, fill in expected.items():
        torch.manual_seed(3)
        linear = f"mixer f(x[b, c]) -> y[b, e]:\n  param weight[e, c] init {text}\n  y = sum[c](weight * x)\n"
        state = make_module(parse_mixers(linear, "<test>", Mixer), given={"c": 8, "e": 12}).state_dict()
        torch.manual_seed(3)
        assert torch.equal(state["weight"], fill(torch.empty(12, 8))), text


def test_a_vector_has_no_fan() -> None:
    scaled = "mixer f(x[b, c]) -> y[b, c]:\n  param weight[c] init kaiming_normal()\n  y = weight * x\n"
    with pytest.raises(InvalidArgument, match=r"`weight` has 1 dimensions, and `kaiming_normal\(\)` needs"):
        make_module(parse_mixers(scaled, "<test>", Mixer), given={"c": 4})


def test_sizes_of_parameters_must_be_known() -> None:
    with pytest.raises(InvalidSize) as caught:
        make_module(block)
    assert "parameter `dwconv.weight` of `block` is over `c`, whose size a module must know" in str(
        caught.value
    )
    assert "help: give it: `.module(c=...)`" in str(caught.value)
    assert len(caught.value.others) >= 5


def test_keys_that_no_module_can_hold() -> None:
    @mixer("x[b, c] -> y[b, c]")
    def keyed(x, *, key: str):
        return x * param(key, c)

    for key in ("forward", "train.weight", "program", "a..b"):
        with pytest.raises(InvalidArgument, match=f"under the key `{key}`"):
            make_module(keyed, given={"c": 2, "key": key})

    @mixer("x[b, c] -> y[b, c]")
    def both(x):
        return x * param("a", c) * param("a.b", c)

    with pytest.raises(InvalidArgument, match=r"under the key `a\.b`"):
        make_module(both, given={"c": 2})


def test_one_key_with_two_shapes() -> None:
    @mixer("x[b, c] -> y[b, c]")
    def changing(x):
        return x * (param("scale", c) if mode() == "train" else param("scale"))

    with pytest.raises(
        DuplicateParameter, match=r"has shape \(\) in one of its programs and \(2,\) in another"
    ):
        make_module(changing, given={"c": 2})


# --- calls


def test_eval_is_that_of_torch(pair) -> None:
    ours, torchs = (each.eval() for each in pair)
    x = pictures()
    with torch.no_grad():
        assert close(ours(x), torchs(x))
        assert not ours(x=x).requires_grad


def test_training_is_that_of_torch(pair) -> None:
    """Outputs, gradients and buffers, over three steps of an optimiser."""
    ours, torchs = (each.train() for each in pair)
    optimisers = [torch.optim.SGD(each.parameters(), lr=0.1) for each in pair]
    for step in range(3):
        x, keep = pictures(seed=step), torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=torch.float64)
        leaves = [x.clone().requires_grad_() for _ in pair]
        outs = [ours(leaves[0], keep=keep), torchs(leaves[1], keep)]
        assert close(*outs)
        for out, optimiser in zip(outs, optimisers, strict=True):
            optimiser.zero_grad()
            out.pow(2).mean().backward()
        assert close(leaves[0].grad, leaves[1].grad)
        for name, each in torchs.named_parameters():
            found = ours.get_parameter(name).grad
            assert (found is None) == (each.grad is None), name
            assert found is None or close(found, each.grad), name
        for optimiser in optimisers:
            optimiser.step()
        for name, each in torchs.state_dict().items():
            assert close(ours.state_dict()[name].double(), each.double()), name
    assert ours.norm.num_batches_tracked.item() == 3


def test_draws_come_from_torchs_generator(pair) -> None:
    ours, _ = pair
    x = pictures()
    kept = set()
    for seed in range(8):
        torch.manual_seed(seed)
        first = ours(x)
        torch.manual_seed(seed)
        assert torch.equal(ours(x), first)
        kept.add(tuple((first != x).flatten(1).any(1).tolist()))
    assert len(kept) > 1
    ours.eval()
    assert torch.equal(ours(x), ours(x))


def test_distributions_of_draws() -> None:
    @mixer("x[b, c] -> y[b, c], z[b, c]")
    def noisy(x):
        return x + draw("g", b, c, dist=gumbel(1.0, 2.0)), x + draw("k", b, c, dist=bernoulli(0.3))

    torch.manual_seed(0)
    x = torch.zeros(400, 100, dtype=torch.float64)
    noise, kept = make_module(noisy)(x)
    assert abs(noise.mean() - (1.0 + 2.0 * 0.5772156649)) < 0.05
    assert abs(noise.var() - (torch.pi * 2.0) ** 2 / 6) < 0.15
    assert abs(kept.mean() - 0.3) < 0.02 and set(kept.unique().tolist()) == {0.0, 1.0}


def test_an_optional_input_may_be_left_out() -> None:
    module: Any = make_module(gated, given={"c": 3})
    assert sorted(module.state_dict()) == ["other", "scale"]
    with torch.no_grad():
        module.scale.fill_(2)
        module.other.fill_(3)
    x, g = torch.randn(4, 3), torch.randn(4)
    for each in (module, pickle.loads(pickle.dumps(module)), copy.deepcopy(module)):
        y, total = each(x)
        assert torch.equal(y, 2 * x) and close(total, y.sum(1))
        for y, _ in (each(x, g), each(g=g, x=x)):
            assert close(y, 3 * x * g[:, None])
        assert torch.equal(each(x, None)[0], 2 * x)


def test_mistakes_of_calls(pair) -> None:
    ours, _ = pair
    x = pictures()
    with pytest.raises(UnknownArgument, match="`block` takes 1 input, and 2 were given"):
        ours(x, x)
    with pytest.raises(UnknownArgument, match="`block` needs the input `x`"):
        ours()
    with pytest.raises(UnknownArgument, match="`block` has no input `y`"):
        ours(x, y=x)
    with pytest.raises(UnknownArgument, match="input `x` is given twice"):
        ours(x, x=x)
    with pytest.raises(WrongDtype, match="have one dtype"):
        ours(x.float())
    for wrong in (x.numpy(), x.tolist(), 1.0):
        with pytest.raises(InvalidArgument, match=r"input `x` of `block` is a \w+, not a tensor"):
            ours(wrong)


def test_a_buffer_that_is_read_and_updated_keeps_its_gradient() -> None:
    """Autograd must not find the new value where the old one was read."""

    @mixer("x[b] -> y[b]")
    def running(x):
        scale = buffer("scale", init=2)
        if mode() == "train":
            update(scale, scale + 1)
        return x * x * scale

    module: Any = make_module(running)
    x = torch.tensor([1.0, 3.0], requires_grad=True)
    out = module(x)
    module(x)
    out.sum().backward()
    assert x.grad is not None and torch.equal(x.grad, 2 * 2 * x.detach())
    assert module.scale.item() == 4


def test_a_module_shows_which_inputs_are_optional() -> None:
    @mixer("x[h], gain[h]? -> y[h]")
    def scaled(x, gain):
        return x if gain is None else x * gain

    assert str(scaled_module := make_module(scaled)) == "PlaitModule(scaled(x[h], gain[h]?) -> y[h])"
    assert scaled_module(torch.ones(2)).tolist() == [1.0, 1.0]

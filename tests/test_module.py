"""Modules: the parameters of a mixer in an ordinary nn.Module, in training and out of it."""

from __future__ import annotations

import copy
import io
import multiprocessing
import pickle
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.parallel import DistributedDataParallel

from plait.backends.module import PlaitModule, make_module
from plait.dsl.declarations import buffer, draw, mode, param, update
from plait.dsl.functions import axes, axis, near, select
from plait.dsl.initialisers import bernoulli, gumbel, trunc_normal
from plait.dsl.mistakes import (
    DuplicateParameter,
    InvalidArgument,
    InvalidSize,
    NotYet,
    UnknownArgument,
    WrongDtype,
)
from plait.dsl.mixer import Mixer, mixer
from plait.dsl.pointwise import sqrt
from plait.dsl.text_mixers import parse_mixers

b, c, e, h, m, w = axes("b c e h m w")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What runs without a kernel is not the subject here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*reference operation", category=UserWarning)
        yield


@mixer("x[b, h, w, c] -> o[b, h, w, c]")
def block(x, *, radius: int = 1, drop: float = 0.25):
    """A depthwise convolution, a batch norm and a linear layer, with dropped samples."""
    dh, dw = near("dh dw", radius)
    u = (param("dwconv.weight", c, 1, dh, dw, init=trunc_normal(0.02)) * x[h + dh, w + dw]).sum(dh, dw)
    u = u + param("dwconv.bias", c)
    mean, variance = buffer("norm.running_mean", c), buffer("norm.running_var", c, init=1)
    steps = buffer("norm.num_batches_tracked", kind="int")
    if mode() == "train":
        here, n = u.mean(b, h, w), u.count(b, h, w)
        spread = ((u - here) ** 2).mean(b, h, w)
        update(mean, 0.9 * mean + 0.1 * here)
        update(variance, 0.9 * variance + 0.1 * spread * n / (n - 1))
        update(steps, steps + 1)
        mean, variance = here, spread
    z = (u - mean) / sqrt(variance + 1e-5) * param("norm.weight", c) + param("norm.bias", c)
    j = c.like("j")
    z = (param("fc.weight", c, j, also=("tied.weight",)) * z[{c: j}]).sum(j)
    z = z * param("gamma", c, init=0.5, grad=False)
    if mode() == "train" and drop:
        z = z * draw("keep", b, dist=bernoulli(1 - drop)) / (1 - drop)
    return x + z


class Block(nn.Module):
    """The same by torch's own layers."""

    def __init__(self, width: int, drop: float = 0.25) -> None:
        super().__init__()
        self.drop = drop
        self.gamma = nn.Parameter(torch.full((width,), 0.5), requires_grad=False)
        self.dwconv = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, width, bias=False)
        self.tied = self.fc

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        z = self.norm(self.dwconv(x.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)
        z = self.fc(z) * self.gamma
        return x + (z if keep is None else z * keep[:, None, None, None] / (1 - self.drop))


KEYS = {
    "gamma": (6,), "dwconv.weight": (6, 1, 3, 3), "dwconv.bias": (6,), "norm.weight": (6,), "norm.bias": (6,),
    "norm.running_mean": (6,), "norm.running_var": (6,), "norm.num_batches_tracked": (), "fc.weight": (6, 6),
    "tied.weight": (6, 6),
}  # fmt: skip


@pytest.fixture
def pair() -> tuple[PlaitModule, Block]:
    """The module and its twin with the same weights, in float64."""
    torch.manual_seed(0)
    ours = make_module(block, given={"c": 6}, dtype=torch.float64)
    torchs = Block(6).double()
    torchs.load_state_dict(ours.state_dict())
    return ours, torchs


def pictures(count: int = 4, dtype: torch.dtype = torch.float64, seed: int = 1) -> Tensor:
    return torch.randn(count, 5, 7, 6, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def close(found: Tensor | None, expected: Tensor | None, rtol: float = 1e-10) -> bool:
    assert found is not None and expected is not None
    return torch.allclose(found, expected, rtol=rtol, atol=rtol)


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
    assert close(module(x), (weight.sum((0, 3)) * x[:, :, None]), 1e-5)


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


@mixer("x[b, c], g[b]? -> y[b, c], total[b]")
def gated(x, g=None):
    y = x * param("scale", c) if g is None else x * g * param("other", c)
    return y, y.sum(c)


def test_an_optional_input_may_be_left_out() -> None:
    module: Any = make_module(gated, given={"c": 3})
    assert sorted(module.state_dict()) == ["other", "scale"]
    with torch.no_grad():
        module.scale.fill_(2)
        module.other.fill_(3)
    x, g = torch.randn(4, 3), torch.randn(4)
    for each in (module, pickle.loads(pickle.dumps(module)), copy.deepcopy(module)):
        y, total = each(x)
        assert torch.equal(y, 2 * x) and close(total, y.sum(1), 1e-5)
        for y, _ in (each(x, g), each(g=g, x=x)):
            assert close(y, 3 * x * g[:, None], 1e-5)
        assert torch.equal(each(x, None)[0], 2 * x)


def test_mistakes_of_calls(pair) -> None:
    ours, _ = pair
    x = pictures()
    with pytest.raises(UnknownArgument, match="`block` takes 1 inputs, and 2 were given"):
        ours(x, x)
    with pytest.raises(UnknownArgument, match="`block` needs the input `x`"):
        ours()
    with pytest.raises(UnknownArgument, match="`block` has no input `y`"):
        ours(x, y=x)
    with pytest.raises(UnknownArgument, match="input `x` is given twice"):
        ours(x, x=x)
    with pytest.raises(WrongDtype, match="have one dtype"):
        ours(x.float())
    with pytest.raises(WrongDtype, match="float16"):
        ours.half()(x.half())


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


# --- what torch does with modules


def test_state_dicts_are_strict(pair) -> None:
    ours, torchs = pair
    other = make_module(block, given={"c": 6})
    other.load_state_dict(torchs.state_dict())
    assert close(other.double().eval()(pictures()), torchs.eval()(pictures()), 1e-6)
    state = ours.state_dict()
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict({name: each for name, each in state.items() if name != "fc.weight"})
    with pytest.raises(RuntimeError, match="Unexpected key"):
        other.load_state_dict({**state, "more": torch.zeros(1)})
    with pytest.raises(RuntimeError, match="size mismatch"):
        make_module(block, given={"c": 5}).load_state_dict(state)


def test_copies_are_apart(pair) -> None:
    ours, _ = pair
    x = pictures()
    expected = ours.eval()(x)
    other = copy.deepcopy(ours)
    with torch.no_grad():
        other.fc.weight.mul_(2)
    assert torch.equal(ours(x), expected) and not torch.equal(other(x), expected)
    assert other.training is ours.training


def test_pickles_hold_programs_as_text(pair) -> None:
    ours, _ = pair
    x = pictures()
    data = pickle.dumps(ours)
    assert b'param dwconv.weight[c, 1, dh, dw]' in data
    file = io.BytesIO()
    torch.save(ours, file)
    file.seek(0)
    for other in (pickle.loads(data), torch.load(file, weights_only=False)):
        assert torch.equal(other.eval()(x), ours.eval()(x)) and other.program == ours.program
        keep = torch.ones(4, dtype=torch.float64)
        assert torch.equal(other.train()(x, keep=keep), copy.deepcopy(ours).train()(x, keep=keep))
        assert other.program == ours.train().program and repr(other) == repr(ours)


def test_a_pickle_is_read_by_another_process(pair, tmp_path: Path) -> None:
    ours, _ = pair
    x = pictures()
    torch.save({"module": ours.eval(), "x": x, "y": ours(x)}, tmp_path / "saved")
    code = (
        "import torch, sys; saved = torch.load(sys.argv[1], weights_only=False)\n"
        "module, x, y = saved['module'], saved['x'], saved['y']\n"
        "assert torch.equal(module(x), y), (module(x) - y).abs().max()\n"
        "x.requires_grad_(); module(x).sum().backward(); assert x.grad is not None\n"
        "print(type(module).__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "saved")], capture_output=True, text=True, check=False
    )
    assert done.stdout == "PlaitModule\n", done.stderr


def _in_child(module: nn.Module, x: Tensor, results: Any) -> None:
    torch.set_num_threads(1)
    results.put(module(x).detach().numpy())


def test_a_forked_process_calls_the_module(pair) -> None:
    ours, _ = pair
    ours.eval()
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    child = context.Process(target=_in_child, args=(ours, pictures(), results))
    child.start()
    try:
        found = torch.from_numpy(results.get(timeout=60))
    finally:
        child.join(10)
        if child.is_alive():
            child.kill()
    assert close(found, ours(pictures()).detach())


def test_devices_and_dtypes(pair) -> None:
    ours, _ = pair
    ours.eval()
    double = ours(pictures())
    single = ours.float()(pictures().float())
    assert single.dtype == torch.float32 and close(single.double(), double, 1e-5)
    meta = copy.deepcopy(ours).to("meta")
    assert meta(pictures().float().to("meta")).shape == double.shape
    assert ours.norm.num_batches_tracked.dtype == torch.int64


def test_autocast(pair) -> None:
    ours = pair[0].float().train()
    x, keep = pictures(dtype=torch.float32).bfloat16(), torch.ones(4)
    expected = copy.deepcopy(ours)(x.float(), keep=keep)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = ours(x, keep=keep)
        drawn = ours(x)
    assert out.dtype == drawn.dtype == torch.float32 and torch.equal(out, expected)
    out.sum().backward()
    assert ours.fc.weight.grad is not None and ours.fc.weight.grad.dtype == torch.float32


def test_torch_compile(pair) -> None:
    torch._dynamo.reset()
    ours, _ = pair
    twin = copy.deepcopy(ours)
    keep = torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    function = torch.compile(ours, fullgraph=True, backend="aot_eager")
    for step in range(2):
        leaves = [pictures(seed=step).requires_grad_() for _ in range(2)]
        outs = [function(leaves[0], keep=keep), twin(leaves[1], keep=keep)]
        assert close(*outs)
        for out in outs:
            out.pow(2).sum().backward()
        assert close(leaves[0].grad, leaves[1].grad)
    for name, each in twin.named_parameters():
        assert each.grad is None or close(ours.get_parameter(name).grad, each.grad), name
    for name, each in twin.named_buffers():
        assert close(ours.get_buffer(name).double(), each.double()), name
    torch.manual_seed(0)
    dropped = [(function(pictures()) != pictures()).flatten(1).any(1).tolist() for _ in range(6)]
    assert len(set(map(tuple, dropped))) > 1
    twin.load_state_dict(ours.state_dict())
    twin.eval()
    ours.eval()
    assert close(function(pictures()), twin(pictures()))


def test_torch_compile_with_and_without_an_optional_input() -> None:
    torch._dynamo.reset()
    module = pickle.loads(pickle.dumps(make_module(gated, given={"c": 3})))
    x, g = torch.randn(4, 3), torch.randn(4)

    def both(x: Tensor, g: Tensor) -> Tensor:
        return module(x)[0] + module(x, g)[1][:, None]

    found = torch.compile(both, fullgraph=True, backend="aot_eager")(x, g)
    assert torch.equal(found, both(x, g))


def test_per_sample_gradients(pair) -> None:
    """The parameters of a call are whatever torch.func puts in their place."""
    ours, torchs = (each.eval() for each in pair)
    x = pictures(3)

    def gradients(module: nn.Module) -> dict[str, Tensor]:
        state = {name: each.detach() for name, each in module.state_dict().items() if name != "tied.weight"}
        learnt = {name: state.pop(name) for name in ("fc.weight", "dwconv.bias")}

        def loss(learnt: dict[str, Tensor], x: Tensor) -> Tensor:
            return functional_call(module, {**learnt, **state}, (x.unsqueeze(0),)).pow(2).sum()

        return vmap(grad(loss), in_dims=(None, 0))(learnt, x)

    expected = gradients(torchs)
    for name, each in gradients(ours).items():
        assert each.shape[0] == 3 and close(each, expected[name]), name


def test_replicas_and_distributed_training(pair, tmp_path: Path) -> None:
    ours, torchs = (each.eval() for each in pair)
    replica = ours._replicate_for_data_parallel()
    for name, container in ours.named_children():
        other = container._replicate_for_data_parallel()
        for key, each in container.named_parameters():
            setattr(other, key, each.detach() * 1)
        replica._modules[name] = other
    replica.gamma = ours.gamma.detach() * 1
    assert close(replica(pictures()), torchs(pictures()))
    torch.distributed.init_process_group("gloo", f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        wrapped = DistributedDataParallel(ours.train())
        keep = torch.ones(4, dtype=torch.float64)
        wrapped(pictures(), keep=keep).sum().backward()
        torchs.train()(pictures(), keep).sum().backward()
        assert close(ours.fc.weight.grad, torchs.fc.weight.grad)
    finally:
        torch.distributed.destroy_process_group()


def test_what_a_module_shows(pair) -> None:
    ours, _ = pair
    assert repr(ours).splitlines()[1] == "  block(x[b, h, w, c=6]; radius = 1, drop = 0.25) -> o[b, h, w, c]"
    assert ours.train().program.mode == "train" and len(ours.program.updates) == 3
    assert ours.eval().program.mode == "eval" and not ours.program.updates
    with pytest.raises(NotYet, match="has no deploy form"):
        ours.deploy()
    with pytest.raises(NotYet, match="without a report"):
        ours.explain()
    shown = make_module(block, given={"c": 6}, explainer=_named)
    assert shown.explain() == "the report of block" == pickle.loads(pickle.dumps(shown)).explain()


def _named(compiled: Any) -> str:
    return f"the report of {compiled.program.name}"


def test_a_program_serves_both_modes() -> None:
    module = make_module(block.program(c=6))
    x = pictures(dtype=torch.float32)
    assert torch.equal(module.train()(x), module.eval()(x))
    with pytest.raises(UnknownArgument, match="is a program already"):
        make_module(block.program(c=6), given={"c": 6})

"""`Module.deploy()`: the module whose weights are what another one makes of its own. That it computes the same is
attacked by drawn programs too (`deploying.py`)."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import nn

import plait
from agreement import agree, nearly
from deploying import wider
from plait import parse, stdlib
from plait.backends.module import PlaitModule
from plait.backends.rounding import allowed
from plait.compiler.algorithms.merge import merge
from plait.dsl.mistakes import InvalidArgument, NotYet

b, c, h, w = plait.axes("b c h w")


@plait.mixer("x[b, c, h, w] -> y[b, c, h, w]")
def block(x: Any) -> Any:
    """RepVGG (arXiv 2101.03697): a 3 x 3, a 1 x 1 and the identity, each with a batch-norm."""
    three = stdlib.convolution(x, c, c, (h, w), 3, bias=False, name="three")
    one = stdlib.convolution(x, c, c, (h, w), 1, bias=False, name="one")
    branches = enumerate((three, one, x))
    return stdlib.relu(sum(stdlib.batch_norm(y, c, (b, h, w), name=f"norm{i}") for i, y in branches))


X = torch.randn(2, 5, 6, 7, generator=torch.Generator().manual_seed(1))
KEYS = ["deployed.0", "deployed.1"]


@pytest.fixture(scope="module")
def trained() -> PlaitModule:
    made: Any = block.module(c=5)
    torch.manual_seed(4)
    with torch.no_grad():
        for each in (*made.parameters(), *made.buffers()):
            each.copy_(0.2 + torch.rand(each.shape))
    return made


@pytest.fixture
def deployed(trained: PlaitModule) -> PlaitModule:
    return trained.deploy()


def test_one_convolution_is_left(trained: PlaitModule, deployed: PlaitModule) -> None:
    """With the weights of the other form by keys of its own, and the same values within the budget of both."""
    assert str(deployed.program).splitlines()[1:6] == [
        "  like c_: c",
        "  span dh, dw: -1, 2",
        "  param deployed.0[c, c_, dh, dw]",
        "  param deployed.1[c]",
        "  v1 = sum[c_, dh, dw](deployed.0 * x[c: c_, h: h+dh, w: w+dw])",
    ]
    assert list(deployed.state_dict()) == KEYS and not deployed.training
    program, tensors = trained.eval().program, {"x": X, **trained.state_dict()}
    tensors = {each.leaf.name: tensors[each.leaf.name] for each in program.declarations}
    found = deployed(X).double()
    meant = plait.compile(program, backend="reference")(
        *(tensors[each.leaf.name].double() for each in program.inputs),
        **{name: tensors[name].double() for name in tensors if name != "x"},
    )
    within = wider(*(allowed(each, tensors, torch.float32) for each in (program, merge(program).program)))
    assert ((found - meant).abs() <= within["y"]).all()


def test_what_it_is_made_of_is_shown(deployed: PlaitModule) -> None:
    lines = [line.strip() for line in repr(deployed).splitlines()]
    assert lines[2].startswith("deployed.0: of three.weight, one.weight, norm0.weight")
    assert lines[3].startswith("deployed.1: of norm0.weight, norm0.bias")


def test_training_mode_is_the_same(deployed: PlaitModule) -> None:
    state = copy.deepcopy(deployed.state_dict())
    assert torch.equal(deployed.train()(X), deployed.eval()(X))
    assert all(torch.equal(each, state[name]) for name, each in deployed.state_dict().items())


def test_it_learns_where_it_is_asked_to(trained: PlaitModule, deployed: PlaitModule) -> None:
    """Its own weights, which are no longer those of the module that it comes from."""
    assert not any(each.requires_grad for each in deployed.parameters())
    assert not deployed(X).requires_grad
    before = trained.eval()(X)
    deployed.requires_grad_()
    deployed(X).sum().backward()
    weight, bias = (deployed.get_parameter(key).detach().requires_grad_() for key in KEYS)
    torch.relu(nn.functional.conv2d(X, weight, bias, padding=1)).sum().backward()
    for key, twin in zip(KEYS, (weight, bias), strict=True):
        found = deployed.get_parameter(key).grad
        assert found is not None and twin.grad is not None
        nearly(found, twin.grad, X.numel())
    torch.optim.SGD(deployed.parameters(), 0.1).step()
    assert torch.equal(trained(X), before) and not torch.equal(deployed(X), before)


def test_it_is_made_anew_after_training(trained: PlaitModule, deployed: PlaitModule) -> None:
    other: Any = copy.deepcopy(trained)
    with torch.no_grad():
        other.one.weight.mul_(2)
    before = deployed(X)
    assert torch.equal(trained.deploy()(X), before)
    deployed.load_state_dict(other.deploy().state_dict())
    assert torch.equal(deployed(X), other.deploy()(X)) and not torch.equal(deployed(X), before)


def test_copies_pickles_and_files(deployed: PlaitModule) -> None:
    file = io.BytesIO()
    torch.save(deployed, file)
    file.seek(0)
    for other in (
        copy.deepcopy(deployed),
        pickle.loads(pickle.dumps(deployed)),
        torch.load(file, weights_only=False),
    ):
        assert other.program == deployed.program and repr(other) == repr(deployed)
        assert torch.equal(other(X), deployed(X))
        assert list(other.state_dict()) == KEYS


def test_deploying_again_changes_nothing(deployed: PlaitModule) -> None:
    again = deployed.deploy()
    assert again.program == deployed.program and repr(again) == repr(deployed)
    assert torch.equal(again(X), deployed(X))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_weights_are_rounded_once(trained: PlaitModule, dtype: torch.dtype) -> None:
    """To the dtype of what they are made of, from float64."""
    other = copy.deepcopy(trained).to(dtype)
    exact = copy.deepcopy(other).double().deploy().state_dict()
    found = other.deploy()
    for name, each in found.state_dict().items():
        assert each.dtype == dtype and torch.equal(each, exact[name].to(dtype)), name
    assert found(X.to(dtype)).dtype == dtype
    assert found.to("meta")(X.to("meta", dtype)).shape == X.shape


def test_on_the_reference(trained: PlaitModule) -> None:
    module: Any = block.module(c=5, backend="reference").double()
    module.load_state_dict(trained.state_dict())
    made = module.deploy()
    agree({"y": made(X.double())}, made.program, {"x": X.double(), **made.state_dict()}, torch.float64)
    nearly(made(X.double()), module.eval()(X.double()))


def test_under_torch_compile_and_export(deployed: PlaitModule) -> None:
    expected = deployed(X)
    torch._dynamo.reset()
    fast = torch.compile(deployed, backend="aot_eager", fullgraph=True)
    assert torch.equal(fast(X), expected)
    exported = torch.export.export(deployed, (X,))
    assert sorted(exported.state_dict) == KEYS
    assert torch.equal(exported.module()(X), expected)


# --- what it is made of


def module_of(text: str, **sizes: Any) -> Any:
    torch.manual_seed(3)
    made: Any = parse(text).module(**sizes)
    with torch.no_grad():
        for each in (*made.parameters(), *made.buffers()):
            each.uniform_(0.5, 1.5)
    return made


def test_what_has_nothing_to_deploy_keeps_its_program() -> None:
    module = module_of('mixer f(x[c]) -> y[c]:\n  param w[c] also "tied.w"\n  y = w * x\n', c=3)
    made = module.deploy()
    assert made.program == module.program and list(made.state_dict()) == list(module.state_dict())
    assert made.w is made.tied.w and made.w.data_ptr() != module.w.data_ptr()


def test_values_of_buffers_are_buffers() -> None:
    module = module_of(
        "mixer f(x[c]) -> y[c]:\n  param w[c]\n  buffer m[c]\n  buffer seen[c]\n"
        "  y = w * (x * exp(m) + seen)\n  update seen = 0.5 * seen\n",
        c=3,
    )
    made, x = module.deploy(), torch.ones(3)
    assert dict(made.named_parameters()).keys() == {"w"}
    assert dict(made.named_buffers()).keys() == {"seen", "deployed.0"}
    nearly(made(x), module.eval()(x))
    nearly(made.seen, module.seen)
    nearly(made(x), module(x))


def test_inputs_that_may_be_left_out() -> None:
    """What both programs need is one tensor."""

    @plait.mixer("x[c], g[c]? -> y[c]")
    def gated(x: Any, g: Any) -> Any:
        gate = 0 if g is None else g * plait.exp(plait.param("v", c))
        return gate + x * plait.exp(plait.param("w", c))

    module: Any = gated.module(c=3)
    with torch.no_grad():
        for each in module.parameters():
            each.normal_()
    made: Any = module.deploy()
    x, g = torch.ones(3), torch.full((3,), 2.0)
    assert sorted(made.state_dict()) == KEYS
    for inputs in ((x, g), (x,)):
        nearly(made(*inputs), module.eval()(*inputs))
        assert torch.equal(pickle.loads(pickle.dumps(made))(*inputs), made(*inputs))


def module_made(scaled: plait.Mixer) -> PlaitModule:
    made = scaled.module(c=3)
    assert isinstance(made, PlaitModule)
    return made


def test_parameters_that_only_training_reads_are_gone() -> None:
    @plait.mixer("x[c] -> y[c]")
    def scaled(x: Any) -> Any:
        weight, more = plait.param("weight", c), plait.param("more", c)
        return x * plait.exp(weight) * (more if plait.mode() == "train" else 1)

    assert list(module_made(scaled).deploy().state_dict()) == ["deployed.0"]


def test_a_form_that_the_author_declared_is_not_replaced() -> None:
    @plait.mixer("x[c] -> y[c]")
    def scaled(x: Any) -> Any:
        return x * plait.exp(plait.param("weight", c))

    assert list(module_made(scaled).deploy().state_dict()) == ["deployed.0"]

    @scaled.deploy
    def merged(weight: Any) -> Any:
        return {"scale": plait.exp(weight)}, scaled

    with pytest.raises(
        NotYet, match="`scaled` declares a deploy form, and plait makes no module of these yet"
    ):
        module_made(scaled).deploy()


def test_a_key_that_is_taken() -> None:
    module = module_of(
        "mixer f(x[c]) -> y[c]:\n  param deployed[c]\n  param w[c]\n  y = deployed * x * exp(w)\n", c=3
    )
    with pytest.raises(InvalidArgument, match=r"`deployed\.0`"):
        module.deploy()

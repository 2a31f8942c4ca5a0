"""What torch does with modules: state, copies, compilation, transforms, wrappers."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.parallel import DistributedDataParallel

from module_block import Block, block, close, gated, make_pair, pictures
from plait.backends.module import PlaitModule, make_module
from plait.dsl.mistakes import (
    NotYet,
    UnknownArgument,
)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What runs without a kernel is not the subject here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*reference operation", category=UserWarning)
        yield


@pytest.fixture
def pair() -> tuple[PlaitModule, Block]:
    return make_pair()


# --- what torch does with modules


def test_state_dicts_are_strict(pair) -> None:
    ours, torchs = pair
    other = make_module(block, given={"c": 6})
    other.load_state_dict(torchs.state_dict())
    assert close(other.double().eval()(pictures()).float(), torchs.eval()(pictures()))
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
    assert b"param dwconv.weight[c, 1, dh, dw]" in data
    file = io.BytesIO()
    torch.save(ours, file)
    file.seek(0)
    for other in (pickle.loads(data), torch.load(file, weights_only=False)):
        assert torch.equal(other.eval()(x), ours.eval()(x)) and other.program == ours.program
        keep = torch.ones(4, dtype=torch.float64)
        assert torch.equal(other.train()(x, keep=keep), copy.deepcopy(ours).train()(x, keep=keep))
        assert other.program == ours.train().program and repr(other) == repr(ours)


def test_devices_and_dtypes(pair) -> None:
    ours, _ = pair
    ours.eval()
    double = ours(pictures())
    single = ours.float()(pictures().float())
    assert single.dtype == torch.float32 and close(single, double)
    meta = copy.deepcopy(ours).to("meta")
    assert meta(pictures().float().to("meta")).shape == double.shape
    assert ours.norm.num_batches_tracked.dtype == torch.int64


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_modules_in_16_bits(pair, dtype: torch.dtype) -> None:
    """Stored in 16 bits, computed in float32: as near to the same numbers in float64 as one rounding allows."""
    ours = pair[0].to(dtype).train()
    x, keep = pictures().to(dtype), torch.ones(4, dtype=dtype)
    twin = copy.deepcopy(ours).double()
    leaves = [x.clone().requires_grad_(), x.double().requires_grad_()]
    outs = [ours(leaves[0], keep=keep), twin(leaves[1], keep=keep.double())]
    for out in outs:
        out.sum().backward()
    assert outs[0].dtype == ours.norm.running_mean.dtype == dtype
    assert ours.norm.num_batches_tracked.dtype == torch.int64
    assert close(*outs)
    for found, expected in (
        (leaves[0].grad, leaves[1].grad),
        (ours.fc.weight.grad, twin.fc.weight.grad),
        (ours.norm.running_var, twin.norm.running_var),
    ):
        assert found is not None and expected is not None and found.dtype == dtype
        assert close(found, expected)


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


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_tracer_of_torchscript_is_told_what_to_use_instead(pair) -> None:
    ours, _ = pair
    with pytest.raises(NotYet, match=r"torch\.jit\.trace records(.|\n)*torch\.export\.export"):
        torch.jit.trace(ours.eval(), pictures())


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

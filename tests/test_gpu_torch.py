"""What torch does around a call on a GPU: modules, compilation, autocast, streams, captured graphs, offsets of
more than 32 bits. Nothing here can be interpreted."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import plait
import precisions
from devices import DEVICE, placed
from module_block import Block, close, make_pair, pictures
from plait.backends.module import PlaitModule
from plait.dsl.mistakes import WrongDevice

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(DEVICE.type != "cuda", reason="torch sees no CUDA device"),
]
KEEP = (1.0, 0.0, 1.0, 1.0)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What runs without a kernel is not the subject here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*reference operation", category=UserWarning)
        yield


@pytest.fixture
def pair() -> tuple[PlaitModule, Block]:
    """The module on the device, its twin of torch layers on the CPU, both in float64."""
    ours, torchs = make_pair()
    return ours.to(DEVICE), torchs


def same(found: Tensor | None, expected: Tensor | None) -> None:
    assert found is not None
    assert found.device.type == DEVICE.type
    assert close(found.cpu(), expected)


def attention(scale: int = 1) -> tuple[plait.Mixer, list[Tensor]]:
    """Window attention, and tensors on the device."""
    generator = torch.Generator().manual_seed(scale)
    tensors = [torch.randn(2, 9 * scale, 7 * scale, 16, generator=generator) for _ in "qkv"]
    return plait.parse(precisions.ATTENTION), [placed(each) for each in tensors]


# --- modules


def test_a_module_trains_as_its_twin(pair: tuple[PlaitModule, Block]) -> None:
    ours, torchs = pair
    x, keep = pictures(), torch.tensor(KEEP, dtype=torch.float64)
    for step in range(2):
        leaves = [placed(x).requires_grad_(), x.clone().requires_grad_()]
        outs = [ours.train()(leaves[0], keep=placed(keep)), torchs.train()(leaves[1], keep)]
        same(outs[0].detach(), outs[1].detach())
        for out in outs:
            out.square().sum().backward()
        same(leaves[0].grad, leaves[1].grad)
        for one in (ours, torchs):
            optimizer = torch.optim.SGD([each for each in one.parameters() if each.requires_grad], 0.01)
            optimizer.step()
            optimizer.zero_grad()
        x = pictures(seed=step + 5)
    for name, tensor in torchs.state_dict().items():
        same(ours.state_dict()[name], tensor)
    same(ours.eval()(placed(x)).detach(), torchs.eval()(x).detach())


def test_a_module_comes_back_from_the_gpu(pair: tuple[PlaitModule, Block]) -> None:
    """One module, kernels of the device that it is on."""
    ours, _ = pair
    there = ours.eval()(placed(pictures())).cpu()
    assert close(ours.cpu()(pictures()), there)
    with pytest.raises(WrongDevice, match="the tensors of one call lie on different devices"):
        ours.cuda()(pictures())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_modules_in_16_bits(pair: tuple[PlaitModule, Block], dtype: torch.dtype) -> None:
    ours = pair[0].to(dtype).train()
    x, keep = pictures().to(dtype), torch.tensor(KEEP, dtype=dtype)
    twin = copy.deepcopy(ours).cpu().double()
    leaves = [placed(x).requires_grad_(), x.double().requires_grad_()]
    outs = [ours(leaves[0], keep=placed(keep)), twin(leaves[1], keep=keep.double())]
    for out in outs:
        out.sum().backward()
    same(outs[0].detach(), outs[1].detach())
    weights = (each.get_parameter("fc.weight").grad for each in (ours, twin))
    for found, wanted in ((leaves[0].grad, leaves[1].grad), tuple(weights)):
        assert found is not None and wanted is not None and found.dtype == dtype
        same(found, wanted)


def test_autocast_changes_no_result(pair: tuple[PlaitModule, Block]) -> None:
    ours = pair[0].float().train()
    x, keep = placed(pictures(dtype=torch.float32).bfloat16()), placed(torch.tensor(KEEP))
    wanted = copy.deepcopy(ours)(x.float(), keep=keep)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        out = ours(x, keep=keep)
        mixed = nn.functional.linear(out.flatten(1), torch.ones(3, out[0].numel(), device=DEVICE))
    assert out.dtype == torch.float32 and torch.equal(out, wanted)
    assert mixed.dtype == torch.bfloat16
    mixed.float().sum().backward()
    learnt = ours.get_parameter("fc.weight").grad
    assert learnt is not None and learnt.dtype == torch.float32


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_torch_compile(pair: tuple[PlaitModule, Block], backend: str) -> None:
    torch._dynamo.reset()
    ours, twin = pair[0], copy.deepcopy(pair[0])
    keep = placed(torch.tensor(KEEP, dtype=torch.float64))
    function = torch.compile(ours, fullgraph=True, backend=backend)
    for step in range(2):
        leaves = [placed(pictures(seed=step)).requires_grad_() for _ in range(2)]
        outs = [function(leaves[0], keep=keep), twin(leaves[1], keep=keep)]
        same(outs[0].detach(), outs[1].detach().cpu())
        for out in outs:
            out.pow(2).sum().backward()
        same(leaves[0].grad, None if leaves[1].grad is None else leaves[1].grad.cpu())


# --- streams and graphs


def test_a_call_runs_on_the_stream_of_its_caller() -> None:
    """The inputs are filled late, on that stream: whoever does not wait for it reads zeros."""
    mixer, tensors = attention(2)
    call = plait.compile(mixer)
    wanted = call(*tensors)
    late = [torch.zeros_like(each) for each in tensors]
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(200_000_000)
        for each, tensor in zip(late, tensors, strict=True):
            each.copy_(tensor)
        found = call(*late)
        before = stream.query()
    stream.synchronize()
    assert not before, "the call waited for the device"
    assert torch.equal(found, wanted)


def test_a_call_is_captured_in_a_graph() -> None:
    mixer, tensors = attention()
    call = plait.compile(mixer)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call(*tensors)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = call(*tensors)
    others = attention(3)[1]
    for tensor, other in zip(tensors, others, strict=True):
        tensor.copy_(other[:, :9, :7])
    graph.replay()
    assert torch.equal(out, call(*tensors))


def test_a_step_of_training_is_captured_in_a_graph() -> None:
    mixer, tensors = attention()
    call = plait.compile(mixer, on_unfused="quiet")
    leaves = [each.requires_grad_() for each in tensors]
    weight = torch.randn_like(tensors[0])

    def step() -> tuple[Tensor, ...]:
        return torch.autograd.grad(call(*leaves), leaves, weight)

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = step()
    with torch.no_grad():
        weight.normal_()
    graph.replay()
    assert all(torch.equal(*each) for each in zip(found, step(), strict=True))


def test_the_same_call_gives_the_same_bits() -> None:
    mixer, tensors = attention(3)
    call = plait.compile(mixer, on_unfused="quiet")
    leaves = [each.requires_grad_() for each in tensors]
    weight = torch.randn_like(tensors[0])
    runs = []
    for _ in range(3):
        out = call(*leaves)
        runs.append((out, *torch.autograd.grad(out, leaves, weight)))
    assert all(torch.equal(*each) for run in runs[1:] for each in zip(runs[0], run, strict=True))


# --- more than 2**31 elements


@pytest.mark.parametrize("shape", [(2**16 + 1, 2**15 + 3), (2**31 + 100,)], ids=["offsets", "coordinates"])
def test_more_than_32_bits(shape: tuple[int, ...]) -> None:
    """Doubling is exact in bfloat16, and a neighbour's place shows what went wrong where."""
    if torch.cuda.mem_get_info()[0] < 24 * 2**30:
        pytest.skip("less than 24 GiB of GPU memory are free")
    axes = "t, c" if len(shape) == 2 else "c"
    mixer = plait.parse(f"mixer big(x[{axes}]) -> y[{axes}]:\n  y = 2 * (x[c-1] otherwise 0)\n")
    x = torch.empty(shape, dtype=torch.bfloat16, device=DEVICE).normal_()
    y = plait.compile(mixer, on_unfused="error")(x)
    assert torch.equal(y[..., 1:], 2 * x[..., :-1])
    assert not y[..., 0].any()

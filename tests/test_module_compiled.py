"""Modules under torch.compile and torch.export: whole graphs, sizes that change, wrappers, what is saved."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.export import Dim
from torch.utils.checkpoint import checkpoint

from module_block import close
from test_module_training import alike, gradients, mixer, tokens, twins


@pytest.fixture(autouse=True)
def fresh() -> None:
    torch._dynamo.reset()
    counters.clear()


def test_one_graph_for_all_sizes() -> None:
    """Forward and backward; the sizes are symbols in the graph."""
    ours, torchs = twins()
    function = torch.compile(ours, fullgraph=True, dynamic=True, backend="aot_eager")
    for count, length in ((3, 7), (2, 9), (3, 33), (5, 2)):
        leaves = [tokens(count, length).requires_grad_() for _ in range(2)]
        outs = [function(leaves[0]), torchs(leaves[1])]
        assert close(*outs)
        for out in outs:
            out.pow(2).sum().backward()
        assert close(leaves[0].grad, leaves[1].grad)
    alike(gradients(ours), gradients(torchs))
    assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.slow
def test_inductor_around_a_stack() -> None:
    """What stands around the modules is compiled; their kernels are calls in its graph."""
    stacks = [nn.Sequential(twins(0)[place], nn.GELU(), twins(1)[place]) for place in (0, 1)]
    function = torch.compile(stacks[0], fullgraph=True)
    leaves = [tokens().requires_grad_() for _ in range(2)]
    outs = [function(leaves[0]) * 2, stacks[1](leaves[1]) * 2]
    assert close(*outs)
    for out in outs:
        out.sum().backward()
    assert close(leaves[0].grad, leaves[1].grad)
    alike(gradients(stacks[0]), gradients(stacks[1]))


def test_checkpoints_and_buffers_in_a_graph() -> None:
    ours, torchs = twins()

    def loss(module: nn.Module, x: Tensor) -> Tensor:
        out: Any = checkpoint(module, x, use_reentrant=False)
        return out.pow(2).mean()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for seed in range(2):
        values = [compiled(ours, tokens(seed=seed)), loss(torchs, tokens(seed=seed))]
        assert close(values[0], values[1])
        for value in values:
            value.backward()
        with torch.no_grad():
            ours.get_buffer("scale").mul_(0.5)
            torchs.get_buffer("scale").mul_(0.5)
    alike(gradients(ours), gradients(torchs))


@pytest.mark.parametrize("strict", [False, True])
def test_exported_programs(strict: bool) -> None:
    """One operator of plait in the graph, for every length; saved and loaded."""
    ours, torchs = twins()
    shapes = ({0: Dim("count", min=1), 1: Dim("length", min=1)},)
    exported = torch.export.export(ours, (tokens(),), dynamic_shapes=(shapes,), strict=strict)
    called = [str(node.target) for node in exported.graph.nodes if node.op == "call_function"]
    assert [name.split(".")[:2] for name in called if "plait" in name] == [
        ["plait", called[-1].split(".")[1]]
    ]
    file = io.BytesIO()
    torch.export.save(exported, file)
    file.seek(0)
    for program in (exported, torch.export.load(file)):
        for length in (2, 7, 34):
            assert close(program.module()(tokens(3, length)), torchs(tokens(3, length)))


def test_a_compiled_module_is_copied_and_saved() -> None:
    ours, torchs = twins()
    function: Any = torch.compile(ours, backend="aot_eager")
    function(tokens())
    file = io.BytesIO()
    torch.save(ours.state_dict(), file)
    file.seek(0)
    other = mixer.module(c=5).double()
    other.load_state_dict(torch.load(file, weights_only=True))
    assert close(other(tokens()), torchs(tokens()))
    assert {name.removeprefix("_orig_mod.") for name in function.state_dict()} == set(ours.state_dict())

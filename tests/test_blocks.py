"""Blocks of papers: how many kernels they take, and that these give what PyTorch gives, gradients too."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import blocks
import on_triton
from against_torch import close, measured, random, stirred
from interpreting import Interpreting
from noted import clear
from phases_of import phased
from plait import Mixer
from plait.backends.budget import budget
from plait.compiler.fusion.plan import Plan
from plait.compiler.gradient.derive import gradient
from plait.compiler.gradient.residuals import from_kept, keep
from plait.compiler.kernels.phases import Phased
from plait.compiler.pipeline import plan_program
from plait.dsl.program import Program
from plait.dsl.shapes.sizes import expand_batch
from plait.stdlib.papers.convnext import convnext_block


@dataclass(frozen=True, slots=True)
class Block:
    """A mixer with its PyTorch form, inputs of these shapes, and sizes; the most kernels that a forward call may
    take, and its gradient."""

    mixer: Mixer
    official: nn.Module
    shapes: tuple[tuple[int, ...], ...]
    sizes: Mapping[str, Any]
    forward: int
    backward: int


IMAGE = (2, 8, 5, 9)

BLOCKS = {
    "gnconv": Block(blocks.gnconv, blocks.GnConv(4, 3), ((2, 4, 5, 9),), {"c": 4, "window": 3}, 2, 19),
    "squeeze and excitation": Block(blocks.excited, blocks.Excited(8), (IMAGE,), {"c": 8}, 3, 11),
    "channel attention": Block(
        blocks.channel_attention, blocks.ChannelAttention(8), (IMAGE,), {"c": 8}, 5, 17
    ),
    "GRN": Block(blocks.responsive, blocks.ResponseNorm(5), ((2, 3, 9, 5),), {"c": 5}, 3, 7),
    "ConvNeXt V2": Block(
        blocks.responsive_block, blocks.ResponsiveBlock(5), ((2, 5, 4, 9),), {"c": 5}, 3, 23
    ),
    "joint norm": Block(blocks.joint_norm, nn.GroupNorm(1, 5), ((2, 5, 4, 9),), {"c": 5}, 3, 7),
    "Hopfield": Block(blocks.hopfield, blocks.Hopfield(6), ((2, 5, 6), (2, 9, 6)), {"c": 6}, 9, 44),
}

every_block = pytest.mark.parametrize("name", BLOCKS)


def planned(program: Program, batch: int = 0) -> tuple[Plan, Plan]:
    """The plans of the forward call and of the gradient."""
    program = expand_batch(program, batch)
    _, kept = keep(program, "auto")
    reverse = from_kept(gradient(program), kept)
    return plan_program(program).plan, plan_program(reverse).plan


@every_block
def test_kernels(name: str) -> None:
    """Phases, that is: a reduction over an image needs all of it before its first reader."""
    block = BLOCKS[name]
    forward, backward = planned(block.mixer.program(**block.sizes))
    assert not [each for each in (*forward.groups, *backward.groups) if each.family == "reference"]
    assert len(forward.groups) <= block.forward
    assert len(backward.groups) <= block.backward


PHASES = {
    "gnconv": [2],
    "squeeze and excitation": [3],
    "channel attention": [5],
    "GRN": [3],
    "ConvNeXt V2": [3],
    "joint norm": [3],
    "Hopfield": [1, 1, 3, 1],
}
"""The phases of every launch on a CPU, at 64 channels."""


@every_block
def test_blocks_with_a_global_reduction_are_one_kernel_of_phases(name: str) -> None:
    found = phased(BLOCKS[name].mixer.program(c=64)).units
    assert [len(unit.phases) if isinstance(unit, Phased) else 1 for _, unit in found] == PHASES[name]


@pytest.mark.parametrize("order", [1, 2, 5])
def test_kernels_of_gating_chains(order: int) -> None:
    """The first linear map, which a window reads; then the window and the whole chain."""
    assert len(planned(blocks.gnconv.program(c=64, order=order))[0].groups) == 2


def test_kernels_of_a_convnext_block_and_of_clear() -> None:
    forward, backward = planned(convnext_block.program(c=96))
    assert len(forward.groups) == 1
    assert len(backward.groups) <= 11
    assert len(planned(clear.program(), 1)[0].groups) == 2, "one for image tokens, one for text tokens"


def test_means_of_an_image_are_not_made_inside_a_gate() -> None:
    """There the tiles would be as few as the images, and channels and places whole in each: 19 times slower."""
    forward, _ = planned(blocks.excited.program(c=96))
    assert [[a.name for a in each.result.axes] for each in forward.groups[:2]] == [["b", "c"], ["c", "b"]]


@every_block
def test_values_and_gradients(name: str) -> None:
    block = BLOCKS[name]
    official = copy.deepcopy(block.official)
    stirred(official)
    inputs = [random(*shape, seed=i) for i, shape in enumerate(block.shapes)]
    net = block.mixer.module(backend="cpp", on_unfused="error", **block.sizes).double()
    net.load_state_dict(official.state_dict())
    found = dict(measured(net, inputs, False))
    expected = dict(measured(official, inputs, False))
    assert sorted(found) == sorted(expected)
    within = budget(torch.float64, max(each.numel() for each in (*expected.values(), *inputs)))
    for key, value in expected.items():
        close(found[key], value, within, key)


@every_block
def test_values_on_triton(name: str, triton: Interpreting) -> None:
    block = BLOCKS[name]
    official = copy.deepcopy(block.official)
    stirred(official)
    program = block.mixer.program(**block.sizes)
    inputs = [random(1, *shape[1:], seed=i) for i, shape in enumerate(block.shapes)]
    names = [each.leaf.name for each in program.declarations if each.leaf.role == "input"]
    tensors: dict[str, Tensor] = dict(zip(names, inputs, strict=True)) | official.state_dict()
    found = triton.call(on_triton.run, str(program), tensors)
    expected = official(*inputs)
    close(found["out"], expected, budget(torch.float64, max(each.numel() for each in inputs)), name)

"""What the schedule and the storage of a GPU do with tiles: read off the kernels, no GPU is needed."""

from __future__ import annotations

import torch

import plait
from plait.backends.assemble import Assembler
from plait.backends.precision import uniform
from plait.compiler.kernels.kernel import Kernel, Stream
from plait.dsl.program import Program
from plait.dsl.shapes.sizes import bind_sizes

MAPS = """mixer maps(x[t, c]) -> y[t, o]:
  axis e = 96
  param u[e, c]
  param v[o, e]
  a = tanh(sum[c](u * x))
  y = sum[e](v * a)
"""
SHAPES = {"x": (40, 64), "u": (96, 64), "v": (48, 96)}


def kernels(program: Program, shapes: dict[str, tuple[int, ...]], dtype: torch.dtype) -> dict[str, Kernel]:
    """The kernels of a program for a GPU, by the value that each makes."""
    sizes = {axis: size for axis, size in bind_sizes(program, shapes).items() if isinstance(size, int)}
    written = Assembler(program, "triton", uniform(program, dtype)).written(sizes)
    return {name: each.kernel for name, each in written.items()}


def test_what_is_rounded_wherever_it_is_read_is_stored_rounded() -> None:
    """The hidden units of two maps in bfloat16: the second map gives them to matrix units in 16 bits."""
    found = kernels(plait.parse(MAPS).program(), SHAPES, torch.bfloat16)
    assert found["a"].buffer("a").real == found["y"].buffer("a").real == "bfloat16"


def test_what_something_else_reads_is_stored_whole() -> None:
    text = MAPS.replace("-> y[t, o]", "-> y[t, o], r[t]") + "  r = max[e](a)\n"
    found = kernels(plait.parse(text).program(), SHAPES, torch.bfloat16)
    assert {found[name].buffer("a").real for name in ("a", "y", "r")} == {"float32"}


def test_contractions_have_tiles_for_matrix_units() -> None:
    """128 rows by 128 outputs; a chunk of float32 is held in registers, one of bfloat16 in shared memory."""
    for dtype, chunk in ((torch.bfloat16, 64), (torch.float32, 16)):
        kernel = kernels(plait.parse(MAPS).program(), SHAPES, dtype)["y"]
        assert sorted(axis.tile for axis in kernel.grid) == [128, 128]
        (stream,) = (each for each in kernel.body if isinstance(each, Stream))
        assert [axis.step for axis in stream.axes] == [chunk]


def test_float32_tensors_are_stored_whole() -> None:
    found = kernels(plait.parse(MAPS).program(), SHAPES, torch.float32)
    assert {buffer.real for kernel in found.values() for buffer in kernel.buffers} == {"float32"}

"""A whole kernel printed for Triton, circular attention: sizes, strides, tiles, what is not a number."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interpreting import Interpreting
from kernel_sketches import (
    Case,
    circular,
)
from plait.compiler.kernels.kernel import RealType
from triton_cases import close, dense, half, launched


@pytest.mark.parametrize("real", ["float32", "float64"])
@pytest.mark.parametrize(
    ("sizes", "tile", "step"),
    [
        ((1, 1, 1), (8, 8), (8, 8)),
        ((2, 7, 11), (8, 8), (8, 8)),
        ((1, 9, 17), (8, 8), (8, 8)),
        ((1, 5, 9), (4, 8), (1, 32)),
        ((1, 5, 7), (3, 5), (2, 3)),
        ((1, 2, 3), (1, 1), (1, 1)),
    ],
)
def test_circular_attention(
    triton: Interpreting,
    sizes: tuple[int, int, int],
    tile: tuple[int, int],
    step: tuple[int, int],
    real: RealType,
) -> None:
    case = circular(sizes, 16, 4, tile, step, real)
    (found,) = triton.call(launched, case)
    close(found, dense(case, 4), 64)


@settings(max_examples=8)
@given(
    sizes=st.tuples(*[st.integers(1, 7)] * 2),
    tile=st.tuples(*[st.integers(1, 5)] * 2),
    step=st.tuples(*[st.integers(1, 9)] * 2),
    channels=st.integers(1, 20),
    radius=st.integers(1, 6),
)
def test_circular_attention_anyhow(
    triton: Interpreting,
    sizes: tuple[int, int],
    tile: tuple[int, int],
    step: tuple[int, int],
    channels: int,
    radius: int,
) -> None:
    tile = (max(tile[0], sizes[0] // 2), max(tile[1], sizes[1] // 2))  # few programs
    step = (max(step[0], 2), max(step[1], 2))  # of few chunks
    case = circular((1, *sizes), channels, radius, tile, step)
    (found,) = triton.call(launched, case)
    close(found, dense(case, radius), 64)


def test_any_strides(triton: Interpreting) -> None:
    case = circular((2, 5, 9))
    shape = case.tensors[0].shape
    generator = torch.Generator().manual_seed(3)
    whole = torch.randn(9, 16, 5, 4, generator=generator)
    case.tensors[0] = whole[:, :, :, ::2].permute(3, 2, 0, 1)  # transposed and sliced
    case.tensors[1] = torch.randn(5, 1, 16, generator=generator).expand(shape)  # the same in all columns
    case.tensors[2] = torch.randn(2, 5, 9, 32, generator=generator)[..., 3:19]  # rows that are not aligned
    case.tensors[3] = torch.full((16, 9, 5, 2), 777.0).permute(3, 2, 1, 0)
    (found,) = triton.call(launched, case)
    close(found, dense(case, 4), 64)


def test_what_is_not_a_number_stays_where_it_is_read(triton: Interpreting) -> None:
    """The row of a broken query, and the rows that see a broken key; the others as if it were not there."""
    case = circular((1, 9, 9), radius=3)
    case.tensors[0][0, 8, 8] = float("nan")
    case.tensors[1][0, 0, 0] = float("nan")
    (found,) = triton.call(launched, case)
    at = torch.arange(9)
    broken = at[:, None] ** 2 + at**2 < 9
    broken[8, 8] = True
    assert torch.equal(found[0].isnan().all(-1), broken)
    assert torch.equal(found[0].isnan().any(-1), broken)
    case.tensors[0][0, 8, 8] = case.tensors[1][0, 0, 0] = 0.0
    close(found[0][~broken], dense(case, 3)[0][~broken], 64)


def test_nothing_is_launched_for_an_empty_grid(triton: Interpreting) -> None:
    case = circular((2, 0, 5))
    (found,) = triton.call(launched, case)
    assert found.shape == (2, 0, 5, 16)


def in_parts(case: Case, most: int) -> list[Tensor]:
    """The outputs where a launch takes few programs only. Runs in the interpreting process."""
    from plait.backends.triton import launch

    before, launch.MOST_PROGRAMS = launch.MOST_PROGRAMS, most
    try:
        return launched(case)
    finally:
        launch.MOST_PROGRAMS = before


def test_a_grid_larger_than_a_launch(triton: Interpreting) -> None:
    case = circular((3, 9, 9))
    (found,) = triton.call(in_parts, case, 5)
    close(found, dense(case, 4), 64)


def test_bfloat16(triton: Interpreting) -> None:
    case = half(circular((1, 5, 9)))
    (found,) = triton.call(launched, case)
    assert found.dtype == torch.bfloat16
    close(found, dense(case, 4))

"""Statements printed for Triton mean what the Kernel language says: values under Triton's interpreter."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from interpreting import Interpreting
from kernel_corners import CORNERS
from kernel_sketches import (
    FOLDED,
    Case,
    depthwise,
    folded,
    streamed_outputs,
    total,
)
from kernel_sketches import product as matrix_product
from plait.backends.triton.options import Options
from plait.backends.triton.printer import print_triton
from plait.compiler.kernels.kernel import RealType
from plait.dsl.errors import CompilerFault
from plait.dsl.ops import Kind
from triton_cases import agrees, launched


@pytest.mark.parametrize("kernel", CORNERS, ids=lambda kernel: kernel.__name__)
def test_corners(triton: Interpreting, kernel: Callable[[], Case]) -> None:
    agrees(triton, kernel(), 64)


@pytest.mark.parametrize("tile", [(1, 1), (4, 3), (16, 16)], ids=str)
def test_stores_in_streams(triton: Interpreting, tile: tuple[int, int]) -> None:
    agrees(triton, streamed_outputs(19, 17, 23, *tile), 17)


@pytest.mark.parametrize("tile", [1, 4, 64])
def test_lanes_of_a_stream(triton: Interpreting, tile: int) -> None:
    agrees(triton, total((3, 21), tile), 63)


def test_halo_tiles_are_refused() -> None:
    with pytest.raises(CompilerFault, match="`X_at` reads a staged tile"):
        print_triton(depthwise((2, 5, 6), 3, 1, (4, 4)).kernel, Options())


@pytest.mark.parametrize(("op", "kind"), [(op, kind) for op, kinds in FOLDED.items() for kind in kinds])
def test_folds(triton: Interpreting, op: str, kind: Kind) -> None:
    for tile, step in ((1, 1), (4, 3), (3, 4)):
        agrees(triton, folded(op, kind, tile, step), 21)


@pytest.mark.parametrize("op", ["max", "min"])
def test_folds_keep_what_is_not_a_number(triton: Interpreting, op: str) -> None:
    case = folded(op, "real", 4, 4, nan=True)
    found = triton.call(launched, case)
    assert found[1].isnan().tolist() == [
        [row == 1 and column == 1 for column in range(3)] for row in range(5)
    ]
    agrees(triton, case)


@pytest.mark.parametrize("lane", [True, False])
@pytest.mark.parametrize(
    ("size", "tile"),
    [((1, 1, 1), (16, 16, 16)), ((17, 19, 33), (16, 16, 32)), ((5, 6, 7), (4, 2, 3)), ((3, 2, 3), (1, 1, 1))],
)
def test_products(
    triton: Interpreting, size: tuple[int, int, int], tile: tuple[int, int, int], lane: bool
) -> None:
    real: RealType = "float32" if lane else "float64"
    agrees(triton, matrix_product(*size, tile, real, lane), size[2])


def test_large_products_are_dots_and_small_ones_are_not() -> None:
    large = matrix_product(17, 19, 33, (16, 16, 32), "float32", True).kernel
    small = matrix_product(5, 6, 7, (4, 2, 3), "float32", True).kernel
    assert print_triton(large, Options()).text.count("tl.dot(") == 1
    assert "tl.dot(" not in print_triton(small, Options()).text

"""Tile kernels by hand through the C++ printer, against their meaning: every layout of memory, every target
that this machine runs. One library a target and real type holds all the kernels."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial

import pytest
import torch
from torch import Tensor

import kernel_meaning
from kernel_corners import CORNERS
from kernel_masks import MASKED
from kernel_sketches import FOLDED, Case, depthwise, folded, product, streamed_outputs, total
from kernel_tiles import TILED
from plait.backends.cpp.launch import Built
from plait.backends.cpp.produce import build
from plait.compiler.schedules.target import AVX2, BASELINE, CpuTarget, this_cpu
from plait.dsl.errors import CompilerFault

REFUSED = {
    "half_precision": "compute in",
    "several_axes_of_one_dimension": "a part of the lanes",
    "heads_beside_lanes": "a part of the lanes",
    "contractions_of_other_shapes": "a part of the lanes",
}
"""What no CPU schedule writes: arithmetic in 16 bits, and folds over some of the lanes."""


def named(*cases: tuple[str, Callable[[], Case]]) -> dict[str, Callable[[], Case]]:
    return dict(cases)


CASES: Mapping[str, Callable[[], Case]] = named(
    *((each.__name__, each) for each in CORNERS if each.__name__ not in REFUSED),
    *((each.__name__, each) for each in (*TILED, *MASKED)),
    *(
        (f"fold_{op}_{kind}_{tile}", partial(folded, op, kind, tile, 3))
        for op, kinds in FOLDED.items()
        for kind in kinds
        for tile in (1, 8, 16)
    ),
    ("fold_nan", lambda: folded("max", "real", 8, 4, nan=True)),
    ("product", lambda: product(17, 9, 13, (16, 8, 4), "float32", True)),
    ("product_wide", lambda: product(9, 17, 5, (8, 16, 4), "float64", True)),
    ("depthwise_1", lambda: depthwise((1, 1, 1), 1, 1, (1, 8))),
    ("depthwise_2", lambda: depthwise((2, 5, 7), 3, 2, (2, 8))),
    ("depthwise_4", lambda: depthwise((1, 9, 17), 2, 1, (4, 16))),
    ("depthwise_inside", lambda: depthwise((1, 14, 50), 2, 1, (4, 16))),
    ("depthwise_inside_5", lambda: depthwise((2, 27, 29), 1, 2, (8, 8))),
    ("streamed_1", lambda: streamed_outputs(1, 1, 1, 8, 8)),
    ("streamed_33", lambda: streamed_outputs(33, 17, 50, 32, 16)),
    ("total_1", lambda: total((1, 1), 8)),
    ("total_33", lambda: total((5, 33), 16)),
)

TARGETS = [
    BASELINE,
    *([AVX2] if this_cpu().name != BASELINE.name else []),
    *([this_cpu()] if this_cpu().vector_bytes > 32 else []),
]


@cache
def made() -> dict[str, Case]:
    """The cases, each kernel with a name of its own."""
    cases = {name: case() for name, case in CASES.items()}
    return {
        name: replace(case, kernel=replace(case.kernel, name=f"k_{name}")) for name, case in cases.items()
    }


@pytest.fixture(autouse=True, scope="module")
def quick_builds() -> Iterator[None]:
    """Sixty kernels in one source: -Og says the same in less time."""
    before = os.environ.get("PLAIT_CXX_LEVEL")
    os.environ["PLAIT_CXX_LEVEL"] = before or "-Og"
    yield
    if before is None:
        del os.environ["PLAIT_CXX_LEVEL"]


@cache
def library(target: CpuTarget, real: str) -> dict[str, Built]:
    cases = {name: case for name, case in made().items() if case.kernel.real == real}
    return dict(zip(cases, build([case.kernel for case in cases.values()], target), strict=True))


def as_it_is(tensor: Tensor) -> Tensor:
    return tensor


def transposed(tensor: Tensor) -> Tensor:
    """The first dimension fastest."""
    order = tuple(reversed(range(tensor.dim())))
    return tensor.permute(order).contiguous().permute(order)


def channels_last(tensor: Tensor) -> Tensor:
    """The second dimension fastest, where there is one."""
    return tensor.movedim(1, -1).contiguous().movedim(-1, 1) if tensor.dim() > 1 else tensor


def sliced(tensor: Tensor) -> Tensor:
    """Every second entry of a larger tensor, from an odd place on."""
    wide = torch.full([2 * size + 1 for size in tensor.shape], 99, dtype=torch.float64).to(tensor.dtype)
    view = wide[tuple(slice(1, None, 2) for _ in tensor.shape)]
    view.copy_(tensor)
    return view


def offset(tensor: Tensor) -> Tensor:
    """Side by side, but with gaps between the rows."""
    if not tensor.dim():
        return tensor
    wide = torch.full((*tensor.shape[:-1], tensor.shape[-1] + 3), 99, dtype=torch.float64).to(tensor.dtype)
    view = wide[..., 2 : 2 + tensor.shape[-1]]
    view.copy_(tensor)
    return view


LAYOUTS = (as_it_is, transposed, channels_last, sliced, offset)


def tolerance(case: Case) -> float:
    """Relative to the largest value: sums of a few hundred terms, and one rounding of what is stored."""
    stored = {buffer.real for buffer in case.kernel.buffers if buffer.role == "out" and buffer.kind == "real"}
    least = {"bfloat16": 2**-8, "float16": 2**-11, "float32": 2e-6, "float64": 1e-13}
    return max(least[real] for real in (*stored, case.kernel.real))


def close(found: Tensor, want: Tensor, bound: float) -> None:
    if not found.is_floating_point():
        assert torch.equal(found.to(want.dtype), want)
        return
    found = found.double()
    assert torch.equal(found.isnan(), want.isnan())
    finite = want.isfinite()
    assert torch.equal(found[~finite & ~want.isnan()], want[~finite & ~want.isnan()])
    if bool(finite.any()):
        scale = max(want[finite].abs().max().item(), 1e-30)
        assert (found - want)[finite].abs().max().item() <= bound * scale


def judge(case: Case, built: Built, tensors: Sequence[Tensor]) -> None:
    want = kernel_meaning.run(case.kernel, case.tensors, case.sizes)
    built(tensors, case.sizes)
    found = [t for t, b in zip(tensors, case.kernel.buffers, strict=True) if b.role == "out"]
    for result, meant in zip(found, want, strict=True):
        close(result, meant, tolerance(case))


@pytest.mark.parametrize("target", TARGETS, ids=lambda each: each.name)
@pytest.mark.parametrize("name", CASES)
def test_a_kernel_means_what_it_says(name: str, target: CpuTarget) -> None:
    case = made()[name]
    built = library(target, case.kernel.real)[name]
    for layout in LAYOUTS:
        judge(case, built, [layout(tensor.clone()) for tensor in case.tensors])


@pytest.mark.parametrize("target", TARGETS, ids=lambda each: each.name)
def test_nothing_is_written_between_rows(target: CpuTarget) -> None:
    """The last vector of a row may be a part of one: what lies behind it is somebody else's."""
    seen = 0
    for name in CASES:
        case = made()[name]
        tensors = [offset(tensor.clone()) for tensor in case.tensors]
        library(target, case.kernel.real)[name](tensors, case.sizes)
        for buffer, tensor in zip(case.kernel.buffers, tensors, strict=True):
            if buffer.role == "out" and tensor._base is not None:
                tensor.fill_(99)
                whole = torch.full_like(tensor._base, 99)
                assert torch.equal(tensor._base, whole), f"{name}: {buffer.name}"
                seen += 1
    assert seen


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_schedule_writes_is_refused(name: str) -> None:
    case = next(each for each in CORNERS if each.__name__ == name)()
    with pytest.raises(CompilerFault, match=REFUSED[name]):
        build([case.kernel], BASELINE)

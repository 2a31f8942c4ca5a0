"""Kernels with two lane axes as one: what they mean, when there are any, and that the call takes the right one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import pytest
import torch
from torch import Tensor

from agreement import agree
from kernel_meaning import run
from plait.backends.compiled import Compiled
from plait.compiler.kernels.check_kernel import check_kernel
from plait.compiler.kernels.flat import Flat, flattened, in_one_run
from plait.compiler.kernels.kernel import Kernel
from plait.dsl.program import Program
from plait.dsl.shapes.sizes import bind_sizes
from tiled import kernels, meant, read

NORM = """mixer norm(x[b, c=3, h, w], g[c]) -> y[b, c, h, w]:
  d = x - mean[c, h, w](x)
  y = d / sqrt(mean[c, h, w](d * d) + 1e-5) * g
"""

OF_A_MODULE = NORM.replace("c=3, h, w], g[c]", "c, h, w]").replace(":\n", ":\n  param g[c]\n", 1)
"""Its channels are compiled in, and resident."""

BLOCKS = {
    "pointwise": "mixer f(x[b, c, h, w], g[c]) -> y[b, c, h, w]:\n  y = exp(x) * g + x\n",
    "gated": "mixer f(x[b, c, h, w], m[b, h, w]: bool) -> y[b, c, h, w]:\n  y = select(m, x, -x)\n",
    "joint norm": NORM,
    "joint norm of a module": OF_A_MODULE,
    "means": "mixer f(x[b, c, h, w]) -> y[b, c]:\n  y = mean[h, w](x)\n",
    "most of what is seen": "mixer f(x[b, c, h, w]) -> y[b, c]:\n  y = max[h, w | x > 0](x) otherwise 7\n",
    "norm of a token": "mixer f(x[b, c=5, h, w]) -> y[b, c, h, w]:\n  y = x / sqrt(mean[c](x * x) + 1e-6)\n",
}

APART = {
    "a coordinate": "mixer f(x[c, h, w]) -> y[c, h, w]:\n  y = x * w\n",
    "a weight along one of them": "mixer f(x[c, h, w], g[w]) -> y[c, h, w]:\n  y = x * g\n",
    "a mask along one of them": "mixer f(x[c, h, w], n[h]: int) -> y[c, h, w]:\n  y = select(n > 0, x, 0)\n",
    "rows upside down": "mixer f(x[c, h, w]) -> y[c, h, w]:\n  y = x[h: size(h) - 1 - h]\n",
    "the image turned": "mixer f(x[c, h, w], z[c, w, h]) -> y[c, h, w]:\n  y = x + z\n",
    "another axis between": "mixer f(x[h, c, w]) -> y[c, h, w]:\n  y = exp(x)\n",
    "neighbours": "mixer f(x[c, h, w]) -> y[c, h, w]:\n  y = x - (x[w: w + 1] otherwise 0)\n",
}  # fmt: skip


def drawn(made: Program, sizes: dict[str, int]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    known = {"c": 3} | {axis.name: count for axis, count in made.fixed} | sizes
    found: dict[str, Tensor] = {}
    for each in made.declarations:
        shape = [known[axis.name] for axis in each.leaf.over]
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
        found[each.leaf.name] = (
            x > 0 if each.leaf.kind == "bool" else x if each.leaf.kind == "real" else x.long()
        )
    return found


def kernels_of(made: Program, sizes: dict[str, int]) -> list[Kernel]:
    shapes = {name: tuple(x.shape) for name, x in drawn(made, sizes).items()}
    written = kernels(made, {a: n for a, n in bind_sizes(made, shapes).items() if isinstance(n, int)})[1]
    return [each.kernel for each in written.values()]


def run_flat(kernel: Kernel, tensors: Sequence[Tensor], sizes: Sequence[int]) -> list[Tensor]:
    """What a kernel makes of tensors, by its flat form where it has one."""
    flat = flattened(kernel)
    return run(kernel, tensors, sizes) if flat is None else run_as(flat, ("h_w",), kernel, tensors, sizes)


def run_as_one(kernel: Kernel, tensors: Sequence[Tensor], sizes: Sequence[int]) -> list[Tensor]:
    """The same by the form in which the channels are in the lanes too."""
    flat = flattened(kernel)
    one = None if flat is None else in_one_run(flat)
    return (
        run_flat(kernel, tensors, sizes) if one is None else run_as(one, ("c_h_w",), kernel, tensors, sizes)
    )


def run_as(
    flat: Flat, lanes: tuple[str, ...], kernel: Kernel, tensors: Sequence[Tensor], sizes: Sequence[int]
) -> list[Tensor]:
    check_kernel(flat.kernel)
    assert flat.kernel.lanes == lanes
    known = dict(zip(kernel.sizes, sizes, strict=True))
    count = prod(known[each] if isinstance(each, str) else int(each) for each in flat.sizes)
    last = len(flat.sizes) - 1
    joined = [
        x.flatten(flat.dims[buffer.name], flat.dims[buffer.name] + last) if buffer.name in flat.dims else x
        for buffer, x in zip(kernel.buffers, tensors, strict=True)
    ]
    outs = [x for buffer, x in zip(kernel.buffers, tensors, strict=True) if buffer.role == "out"]
    made = run(flat.kernel, joined, [*sizes, count])
    return [x.reshape(out.shape) for x, out in zip(made, outs, strict=True)]


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize(("h", "w"), [(3, 5), (7, 1)])
def test_flat_lanes_mean_the_same(name: str, h: int, w: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the meaning of kernels, on tiles of 8 where there were 2 by 4."""
    made, sizes = read(BLOCKS[name]), {"b": 2, "h": h, "w": w}
    assert any(flattened(kernel) for kernel in kernels_of(made, sizes))
    monkeypatch.setattr("tiled.run", run_flat)
    tensors = drawn(made, sizes)
    agree({key: x for key, x in meant(made, tensors).items() if key == "y"}, made, tensors, torch.float64)


@pytest.mark.parametrize(("h", "w"), [(3, 5), (7, 1)])
def test_a_resident_axis_in_the_lanes_means_the_same(h: int, w: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The statistics of a joint norm; what is made of the gain of a channel is no such stream."""
    made, sizes = read(OF_A_MODULE), {"b": 2, "h": h, "w": w}
    flats = [flattened(kernel) for kernel in kernels_of(made, sizes)]
    assert [each is not None and in_one_run(each) is not None for each in flats] == [True, True, False]
    monkeypatch.setattr("tiled.run", run_as_one)
    tensors = drawn(made, sizes)
    agree({key: x for key, x in meant(made, tensors).items() if key == "y"}, made, tensors, torch.float64)


@pytest.mark.parametrize("name", APART)
def test_what_hangs_on_a_row_is_not_flat(name: str) -> None:
    for kernel in kernels_of(read(APART[name]), {"h": 3, "w": 5}):
        assert flattened(kernel) is None


def dense(x: Tensor) -> Tensor:
    return x


def longer_rows(x: Tensor) -> Tensor:
    around = torch.full((*x.shape[:-1], x.shape[-1] + 3), torch.nan, dtype=x.dtype)
    return around[..., : x.shape[-1]].copy_(x)


def longer_channels(x: Tensor) -> Tensor:
    """The rows of a channel lie behind one another, the channels do not."""
    return longer_rows(x.flatten(-2)).unflatten(-1, x.shape[-2:]) if x.dim() > 2 else x


def channels_last(x: Tensor) -> Tensor:
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


def turned(x: Tensor) -> Tensor:
    return x.transpose(-1, -2).contiguous().transpose(-1, -2)


def apart(x: Tensor) -> Tensor:
    around = torch.full((*x.shape, 2), torch.nan, dtype=x.dtype)
    return around[..., 1].copy_(x)


@pytest.mark.parametrize("layout", [dense, longer_rows, longer_channels, channels_last, turned, apart])
@pytest.mark.parametrize("name", ["pointwise", "joint norm", "joint norm of a module", "means"])
def test_the_call_takes_the_kernel_that_fits_the_strides(
    name: str, layout: Callable[[Tensor], Tensor]
) -> None:
    """Sizes of whole tiles, of less than one, and of some and a rest; what lies between the entries is NaN."""
    made = read(BLOCKS[name])
    call = Compiled(made, backend="cpp")
    for h, w in ((8, 16), (1, 1), (9, 15), (1, 67), (67, 1)):
        tensors = {key: x.float() for key, x in drawn(made, {"b": 2, "h": h, "w": w}).items()}
        tensors["x"] = layout(tensors["x"])
        agree(call.run(tensors), made, tensors, torch.float32)


def test_both_kernels_are_in_the_library() -> None:
    made = read(BLOCKS["pointwise"])
    call = Compiled(made, backend="cpp")
    call.run({key: x.float() for key, x in drawn(made, {"b": 2, "h": 3, "w": 5}).items()})
    assert call.last is not None
    (step,) = call.last.executable.steps
    source = step.built.source  # pyright: ignore
    assert "numbers[6] == numbers[3] * numbers[7]" in source, "x"
    assert "flat_of_f_::work(given); else rows_of_f_::work(given);" in source

"""A call of a shape that was seen before gives what a first call gives, whatever changed that is no shape: what is
remembered is sizes, strides and places, never a tensor."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import pytest
import torch
from torch import Tensor

import plait
from agreement import beside
from plait import parse
from plait.backends.compiled import Compiled
from plait.backends.cpp import launch
from plait.backends.running import Direct
from plait.backends.workspace import Workspace

NORM = """mixer norm(x[b, t, c]) -> y[b, t, c], top[b], y2[c, (b, t)]:
  param weight[c]
  m = mean[t, c](x)
  z = (x - m) / sqrt(mean[t, c]((x - m) * (x - m)) + 0.5)
  y = z * weight
  y2 = y
  top = max[t, c](y)
"""

SAME = "mixer same(x[n]) -> y[n], z[n]:\n  y = x\n  z = 2 * x\n"


def norm(x: Tensor, weight: Tensor) -> dict[str, Tensor]:
    wide = x.double()
    centred = wide - wide.mean((1, 2), keepdim=True)
    z = centred / (centred.square().mean((1, 2), keepdim=True) + 0.5).sqrt() * weight.double()
    return {"y": z, "top": z.amax((1, 2)), "y2": z.permute(2, 0, 1).reshape(z.shape[2], -1)}


def check(compiled: Compiled, x: Tensor, weight: Tensor) -> dict[str, Tensor]:
    """Results like those of PyTorch, by addresses, contiguous and each in memory of its own."""
    found = compiled.run({"x": x, "weight": weight})
    last = compiled.last
    assert last is not None and isinstance(last._direct, Direct)
    assert all(each.dtype == x.dtype and each.is_contiguous() for each in found.values())
    beside(found, norm(x, weight), parse(NORM).program(), {"x": x, "weight": weight})
    memory = [each.untyped_storage()._cdata for each in (x, weight, *found.values())]
    assert len(set(memory)) == len(memory)
    return found


def normed() -> Compiled:
    return Compiled(parse(NORM).program(), "cpp", on_unfused="error")


def random(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=dtype)


VARIED: dict[str, Callable[[Tensor], Tensor]] = {
    "other values": lambda x: x.flip(0) * 3,
    "another length": lambda x: x[:, :3].contiguous(),
    "strides of a slice": lambda x: x[:, 1:4],
    "transposed": lambda x: x.transpose(0, 1),
    "expanded": lambda x: x[:1].expand(2, -1, -1),
    "another place in a larger tensor": lambda x: torch.cat([x, x * 2])[1:3],
    "another dtype": lambda x: x.double(),
    "one batch": lambda x: x[1:],
}


@pytest.mark.parametrize("change", VARIED.values(), ids=list(VARIED))
def test_a_call_remembers_no_tensor(change: Callable[[Tensor], Tensor]) -> None:
    """Between two calls of one shape comes another one, and all three are right."""
    compiled, x, weight = normed(), random(2, 5, 7), random(7)
    first = check(compiled, x, weight)
    other = change(x)
    check(compiled, other, weight.to(other.dtype))
    again = check(compiled, x, weight)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert all(first[name].data_ptr() != again[name].data_ptr() for name in first)


def test_weights_that_change_in_place() -> None:
    compiled, x, weight = normed(), random(2, 5, 7), random(7)
    check(compiled, x, weight)
    with torch.no_grad():
        weight *= -2
    check(compiled, x, weight)
    weight.data = random(14)[7:]
    check(compiled, x, weight)


def test_a_result_outlives_the_next_call() -> None:
    """No result lies in memory that a later call writes."""
    compiled, x, weight = normed(), random(2, 5, 7), random(7)
    first = check(compiled, x, weight)
    kept = {name: tensor.clone() for name, tensor in first.items()}
    for _ in range(3):
        check(compiled, x * 2, weight)
    assert all(torch.equal(first[name], kept[name]) for name in first)


def test_what_is_given_is_no_result() -> None:
    compiled, x = Compiled(parse(SAME).program(), "cpp", on_unfused="error"), random(7)
    for _ in range(2):
        found = compiled.run({"x": x})
        assert torch.equal(found["y"], x) and torch.equal(found["z"], 2 * x)
        found["y"].zero_()
        assert x.abs().min() > 0


@pytest.mark.parametrize("marked_first", [True, False])
def test_a_minus_sign_that_is_a_mark(marked_first: bool) -> None:
    """It is made real by a copy of other strides than its shape of call says; the same shape without it is not."""
    wide = torch.view_as_complex(random(9, 5, 2)).conj().imag
    minus, plain_ones = wide[::2].unsqueeze(2).expand(-1, -1, 7), (-wide).resolve_neg()
    backed = torch.empty_strided((9, 5), wide.stride()).copy_(plain_ones)[::2].unsqueeze(2).expand(-1, -1, 7)
    assert minus.is_neg() and not backed.is_neg() and minus.stride() == backed.stride()
    compiled, weight = normed(), random(7)
    calls = [minus, backed] if marked_first else [backed, minus]
    for x in (*calls, *calls):
        check(compiled, x, weight)


def test_values_between_kernels_share_a_room() -> None:
    """Rows of an attention and its normalisers: right at every length, also where there is nothing between."""
    text = """mixer two(q[b, t, d], k[b, s, d], v[b, s, d]) -> y[b, t, d]:
  weights = softmax[s](sum[d](q * k))
  z = sum[s](weights * v)
  y = z / (1 + mean[t](z * z))
"""
    compiled = Compiled(parse(text).program(), "cpp", on_unfused="error")
    for length in (4, 1, 33, 4):
        q, k, v = (random(2, length, 8) * scale for scale in (1, 2, 3))
        z = torch.softmax(q.double() @ k.double().mT, -1) @ v.double()
        wanted = z / (1 + z.square().mean(1, keepdim=True))
        tensors = {"q": q, "k": k, "v": v}
        beside(compiled.run(tensors), {"y": wanted}, compiled.program, tensors)
    last = compiled.last
    assert last is not None and last._direct is not None and last._direct.offsets
    laid = Workspace(last.executable, last.sizes).part(()).laid
    ends = [each.slot.dtype.itemsize * (each.first + prod(each.shape)) for each in laid]
    assert max(ends) <= last._direct.bytes, "the room ends behind the last value"


def test_a_default_device_changes_nothing() -> None:
    compiled, x, weight = normed(), random(2, 5, 7), random(7)
    with torch.device("meta"):
        made = compiled.run({"x": x, "weight": weight})
    assert all(tensor.device.type == "cpu" for tensor in made.values())
    with torch.device("meta"):
        again = compiled.run({"x": x, "weight": weight})
    assert torch.equal(made["y"], again["y"])


def test_a_module_takes_its_weights_where_they_are() -> None:
    module = plait.compile(parse(NORM), backend="cpp")
    x, weight = random(2, 5, 7), random(7)
    with torch.no_grad():
        before = module(x=x, weight=weight)
        weight[3] = 0
        after = module(x=x, weight=weight)
    assert torch.equal(after[0][..., 3], torch.zeros(2, 5)) and not torch.equal(before[0], after[0])


@pytest.mark.parametrize(
    ("text", "few", "many"),
    [
        ("mixer squares(x[n]) -> y[n]:\n  y = x * x\n", (64,), (2**16,)),
        ("mixer sums(x[b, n]) -> y[b]:\n  y = sum[n](x)\n", (8, 64), (2, 2**16)),
        ("mixer table(x[n, m=64]) -> y[n, m]:\n  y = exp(x)\n", (2, 64), (100, 64)),
        (NORM.replace(", y2[c, (b, t)]", "").replace("  y2 = y\n", ""), (1, 2, 7), (64, 64, 7)),
    ],
    ids=["pointwise", "sums", "functions", "phases"],
)
def test_what_is_little_runs_on_one_thread(
    text: str, few: tuple[int, ...], many: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    runner = launch.runner
    monkeypatch.setattr(launch, "runner", lambda threads: (asked.append(threads), runner(threads))[1])
    compiled = Compiled(parse(text).program(), "cpp", on_unfused="error")
    weight = {"weight": random(7)} if "weight" in text else {}
    for shape, threads in ((few, 1), (many, 2), (few, 1)):
        asked.clear()
        compiled.run({"x": random(*shape), **weight})
        assert threads in asked and max(asked) == threads, shape

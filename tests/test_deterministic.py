"""Results and gradients are the same bits at every call and for every number of threads; what could be added in
another order (a scatter) is named, and `deterministic=True` is handed to all that runs."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import plait
from plait import axes, mixer
from plait.backends.assemble import Reference
from plait.backends.compiled import Compiled
from plait.backends.one_thread import one_thread
from precisions import program

THREADS = (1, 2, 3, 1)

TEXTS = {
    "norm, window and one number": (
        """mixer block(x[b, c=7, h, w], k[c, dh, dw], g[c]) -> y[b, c, h, w], z:
  near dh, dw: 1
  m = sum[dh, dw](k * x[h+dh, w+dw])
  u = m - sum[c](m) / 7
  y = u / sqrt(sum[c](u * u) / 7 + 1e-6) * g
  z = sum[b, c, h, w](y * y)
""",
        {"x": (3, 7, 13, 41), "k": (7, 3, 3), "g": (7,)},
    ),
    "layers at a token, past tokens and taps": (
        """mixer block(x[b, c=7, h, w], k[c, dh, dw], v[e=9, c], u[e], o[c, e], s[c]) -> y[b, c, h, w]:
  near dh, dw: 1
  m = sum[dh, dw](k * x[h+dh, w+dw])
  z = m - sum[c](m) / 7
  y = x + s * sum[e](o * exp(0.1 * (sum[c](v * z) + u)))
""",
        {"x": (3, 7, 13, 41), "k": (7, 3, 3), "v": (9, 7), "u": (9,), "o": (7, 9), "s": (7,)},
    ),
    "complex sums": (
        "mixer turned(x[t], y[t]) -> o:\n  z = cplx(x, y)\n  s = sum[t](z * z)\n  o = real(s) * imag(s)\n",
        {"x": (50021,), "y": (50021,)},
    ),
}

SCATTER = """mixer pick(x[v, c=3], ids[t]: index v) -> y[t, c]:
  y = exp(x[v: ids]) * 0.1
"""


@pytest.fixture(autouse=True)
def same_threads_after() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def same_bits(call: Callable[..., object], given: dict[str, Tensor]) -> None:
    """Results and gradients for some numbers of threads, the first of them twice."""
    found: list[list[Tensor]] = []
    for threads in THREADS:
        torch.set_num_threads(threads)
        out = call(**given)
        made = [each for each in (out if isinstance(out, tuple) else (out,)) if isinstance(each, Tensor)]
        smooth = [each for each in given.values() if each.requires_grad]
        ahead = [torch.linspace(-1, 2, each.numel(), dtype=each.dtype).reshape(each.shape) for each in made]
        found.append([*made, *torch.autograd.grad(made, smooth, ahead)])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize("name", TEXTS)
def test_nothing_depends_on_threads(name: str) -> None:
    """Attention is in test_recompute.py."""
    text, shapes = TEXTS[name]
    dtype = torch.float64 if name == "complex sums" else torch.float32
    given = {name: torch.randn(shape, dtype=dtype).requires_grad_() for name, shape in shapes.items()}
    same_bits(plait.compile(program(text), on_unfused="quiet"), given)


@pytest.mark.parametrize("deterministic", [False, True])
def test_a_scatter_on_a_cpu_adds_in_order(deterministic: bool) -> None:
    call = plait.compile(program(SCATTER), on_unfused="quiet", deterministic=deterministic)
    x = torch.randn(5, 3).requires_grad_()
    ids = torch.randint(0, 5, (70001,))
    same_bits(call, {"x": x, "ids": ids})
    report = str(call.explain())
    assert "reference operation, because it adds up at positions that depend on data (a scatter)" in report
    assert "a GPU adds in the order of arrival, unless deterministic=True" in report


def orders(call: object) -> set[bool]:
    """What the reference operations of the programs that ran were told."""
    ran: tuple[Compiled, ...] = call._differentiable.ran()  # pyright: ignore[reportAttributeAccessIssue]
    made = [each.last for each in ran if each.last is not None]
    return {step.in_order for each in made for step in each.executable.steps if isinstance(step, Reference)}


@pytest.mark.parametrize("deterministic", [False, True])
def test_the_gradient_is_told(deterministic: bool) -> None:
    call = plait.compile(program(SCATTER), on_unfused="quiet", deterministic=deterministic)
    x = torch.randn(5, 3).requires_grad_()
    call(x, torch.tensor([0, 4, 4])).sum().backward()
    assert orders(call) == {deterministic}


def test_a_module_hands_it_on_and_keeps_it() -> None:
    v = axes("v")

    @mixer("ids[t]: index v, x[v, c] -> y[t, c]")
    def picked(ids, x):
        return x[{v: ids}]

    module = picked.module(deterministic=True, on_unfused="quiet")
    for each in (module, pickle.loads(pickle.dumps(module))):
        plans: Any = each._plans
        assert plans.plan("train").call.compiled.deterministic
        x = torch.randn(4, 2).requires_grad_()
        each(torch.tensor([3, 3, 0]), x).sum().backward()
        assert x.grad is not None and x.grad[:, 0].tolist() == [1, 0, 0, 2]


def test_callers_at_once_leave_the_number_of_threads() -> None:
    """Each thread of Python has its own number; none may take the 1 of another for it."""
    torch.set_num_threads(2)
    left: list[int] = []
    ready = threading.Barrier(4)

    def work() -> None:
        ready.wait()
        for _ in range(100):
            with one_thread():
                torch.ones(3).sum()
        left.append(torch.get_num_threads())

    callers = [threading.Thread(target=work) for _ in range(4)]
    for each in callers:
        each.start()
    for each in callers:
        each.join()
    assert left == [2] * 4
    assert torch.get_num_threads() == 2

"""What is made of weights only is computed once a weight update, and never when it is stale."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import plait
from agreement import agree_gradients, beside
from plait.backends.compiled import Compiled
from plait.compiler.algorithms.hoist import hoist
from plait.compiler.meaning.interpret import interpret

STANDARD = """
mixer standard(x[b, t, c]) -> y[b, t, o]:
  param w[o, c]
  param bias[o]
  m = mean[c](w)
  z = (w - m) / sqrt(mean[c]((w - m)**2) + 1e-5)
  y = sum[c](z * x) + bias
"""
PROGRAM = plait.parse(STANDARD).program()
MANY = """
mixer many(x[b, t, c], table[t]) -> y[b, t, c], n[b]:
  near d: 1
  param taps[c, d]
  param temperature
  buffer scale[c]
  k = softmax[d](taps)
  s = sum[d](k * (x[t+d] otherwise 0)) * exp(temperature)
  y = s * tanh(scale) + table
  n = sum[t, c](s)
"""


def standard() -> Any:
    made: Any = plait.parse(STANDARD).module(c=5, o=7)
    torch.manual_seed(3)
    with torch.no_grad():
        for each in made.parameters():
            each.normal_()
    return made.eval()


def in_torch(made: Any, x: Tensor) -> Tensor:
    w = made.w.double()
    w = (w - w.mean(1, keepdim=True)) / (w.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    return nn.functional.linear(x.double(), w, made.bias.double())


def is_that_of(made: Any, x: Tensor, *found: Tensor) -> None:
    """Each of these results is what torch makes of the weights of a module as they are now."""
    tensors = {"x": x, "w": made.w.detach(), "bias": made.bias.detach()}
    for each in found:
        beside({"y": each}, {"y": in_torch(made, x)}, PROGRAM, tensors)


def right(made: Any, x: Tensor) -> None:
    """Without gradients, where it is cached, and with them, where it is not."""
    with torch.no_grad():
        cached = [made(x) for _ in range(2)]
    is_that_of(made, x, *cached, made(x))


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the programs that run, in order."""
    seen: list[str] = []
    run = Compiled.run

    def watched(self: Compiled, tensors: Any) -> Any:
        seen.append(self.program.name)
        return run(self, tensors)

    monkeypatch.setattr(Compiled, "run", watched)
    return seen


X = torch.randn(2, 9, 5, generator=torch.Generator().manual_seed(1))


def test_the_weights_are_computed_once(runs: list[str]) -> None:
    made = standard()
    with torch.no_grad():
        for _ in range(3):
            made(X)
    assert runs == ["standard_weights", "standard", "standard", "standard"]
    right(made, X)


def edited(made: Any) -> Iterator[Any]:
    """Every way in which weights change, one after another."""
    optimiser = torch.optim.AdamW(made.parameters(), lr=0.1)
    made(X).square().sum().backward()
    optimiser.step()
    yield "a step of an optimiser"
    torch.optim.SGD(made.parameters(), lr=0.1, foreach=True).step()
    yield "a fused step"
    other = {name: torch.randn_like(each) for name, each in made.state_dict().items()}
    made.load_state_dict(other)
    yield "load_state_dict"
    made.load_state_dict({name: each + 1 for name, each in other.items()}, assign=True)
    yield "load_state_dict by assignment"
    with torch.no_grad():
        made.w.mul_(torch.linspace(-1, 2, 5))
    yield "in place"
    with torch.no_grad():
        made.w[2].add_(torch.arange(5.0))
    yield "in place through a view"
    made.w.detach()[3, 1] = 7.0
    yield "in place through detach"
    made.state_dict()["w"].uniform_()
    yield "through the tensors of state_dict"
    with torch.inference_mode():
        made.w.copy_(torch.randn(7, 5))
    yield "under inference_mode"
    made.w = nn.Parameter(made.w.detach().clone().sin())
    yield "another parameter"
    made.w = nn.Parameter(made.w.data)
    with torch.no_grad():
        made.w.add_(torch.randn(7, 5))
    yield "another parameter in the same memory"
    made.half().float()
    yield "to another dtype and back"
    made.w.data = torch.randn(7, 5)
    yield "other data"
    made.train()
    made.w.data.mul_(torch.linspace(-1, 2, 5))
    made.eval()
    yield "through .data, between train() and eval()"


def test_no_edit_is_missed() -> None:
    made = standard()
    right(made, X)
    for how in edited(made):
        try:
            right(made, X)
        except AssertionError as problem:
            raise AssertionError(how) from problem


def test_two_changes_of_data_that_end_in_the_same_place() -> None:
    """The allocator may hand out the same memory again: what was computed must not look fresh."""
    made = standard()
    for _ in range(20):
        made.w.data = torch.randn(7, 5)
        right(made, X)


def test_other_tensors_for_one_call() -> None:
    made = standard()
    right(made, X)
    other = {"w": torch.randn(7, 5), "bias": torch.zeros(7)}
    found = torch.func.functional_call(made, other, (X,))
    swapped = standard()
    swapped.load_state_dict(other)
    is_that_of(swapped, X, found)
    right(made, X)


def test_gradients_reach_the_weights() -> None:
    made = standard().double()
    x = X[:1, :2].double()

    def call(w: Tensor, bias: Tensor) -> Any:
        return torch.func.functional_call(made, {"w": w, "bias": bias}, (x,))

    weights = (made.w.detach().requires_grad_(), made.bias.detach().requires_grad_())
    with torch.no_grad():
        made(x)
    assert torch.autograd.gradcheck(call, weights)
    per_sample = torch.func.vmap(lambda w: call(w, made.bias.detach()))(torch.randn(3, 7, 5).double())
    assert per_sample.shape == (3, 1, 2, 7)


def test_gradients_reach_the_weights_after_a_call_that_remembers() -> None:
    """Differences cannot tell: weights that are edited through `.data` leave what is remembered as it is."""
    made, x = standard().double(), X[:1, :2].double()
    with torch.no_grad():
        made(x)
    weights = torch.linspace(-1.0, 1.0, 14, dtype=torch.float64).reshape(1, 2, 7)
    (found,) = torch.autograd.grad(made(x), made.w, weights)
    tensors = {"x": x, "w": made.w.detach(), "bias": made.bias.detach()}
    agree_gradients({"w": found}, PROGRAM, tensors, {"y": weights}, torch.float64)


def test_copies_and_pickles_remember_nothing_of_each_other() -> None:
    made = standard()
    right(made, X)
    for other in (copy.deepcopy(made), pickle.loads(pickle.dumps(made)), copy.copy(made)):
        right(other, X)
        with torch.no_grad():
            other.w.add_(torch.randn(7, 5))
        right(other, X)
        right(made, X)


def test_threads_see_weights_as_they_are() -> None:
    made = standard()
    modules = [made, *(copy.copy(made) for _ in range(3))]

    def call(place: int) -> None:
        with torch.no_grad():
            is_that_of(made, X, modules[place % 4](X))

    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            list(pool.map(call, range(16)))
            with torch.no_grad():
                made.w.add_(torch.randn(7, 5))


def test_under_torch_compile() -> None:
    made = standard()
    fast = torch.compile(made, backend="aot_eager", fullgraph=True)
    for _ in range(2):
        with torch.no_grad():
            is_that_of(made, X, fast(X))
            made.w.add_(torch.randn(7, 5))
    right(made, X)


def test_sixteen_bit_weights_are_computed_where_they_are_read(runs: list[str]) -> None:
    made = standard().bfloat16()
    with torch.no_grad():
        made(X.bfloat16())
    assert runs == ["standard"]


def test_a_switch_of_mode_forgets(runs: list[str]) -> None:
    made = standard()
    with torch.no_grad():
        made(X)
        made.train()
        made.eval()
        made(X)
    assert runs.count("standard_weights") == 2


# --- what is taken out


def test_softmaxes_functions_and_buffers_of_weights() -> None:
    program = plait.parse(MANY).program(c=4)
    found = hoist(program)
    assert found is not None
    assert sorted(found.reads) == ["scale", "taps", "temperature"]
    assert [len(each.value.axes) for each in found.weights.outputs] == [2, 1], (
        "the temperature is in the taps"
    )
    generator = torch.Generator().manual_seed(5)
    shapes = {"x": (2, 6, 4), "table": (6,), "taps": (4, 3), "temperature": (), "scale": (4,)}
    tensors = {name: torch.randn(shape, generator=generator).double() for name, shape in shapes.items()}
    values = interpret(found.weights, {name: tensors[name] for name in found.reads})
    beside(interpret(found.rest, tensors | values), interpret(program, tensors), program, tensors)


LEFT = {
    "a weight as it is": "mixer f(x[c]) -> y[c]:\n  param w[c]\n  y = w * x\n",
    "a sum of two weights": "mixer f(x[c]) -> y[c]:\n  param w[c]\n  param v[c]\n  y = (w + v) * x\n",
    "a read of a table": "mixer f(x[t]) -> y[t]:\n  near r: 3\n  param w[r]\n  like s: t\n"
    "  y = sum[s](x[t: s] * (w[r: s - t] otherwise 0))\n",
    "sizes of a call": "mixer f(x[t]) -> y[t]:\n  near r: 3\n  param w[r]\n  y = x * (exp(w[r: t - 2]) otherwise 0)\n",
    "much more than it is made of": "mixer f(x[c, o]) -> y[c, o]:\n  param u[c]\n  param v[o]\n"
    "  y = exp(u * v) * x\n",
    "what a call updates": "mixer f(x[c]) -> y[c]:\n  buffer m[c]\n  y = exp(m) * x\n  update m = m + x\n",
}


@pytest.mark.parametrize("name", LEFT)
def test_what_is_left_where_it_is(name: str) -> None:
    header = LEFT[name].split("\n", 1)[0]
    sizes: Any = {axis: 64 for axis in "co" if f"{axis}]" in header or f"{axis}," in header}
    assert hoist(plait.parse(LEFT[name]).program(**sizes)) is None


def test_the_report_says_what_is_hoisted() -> None:
    made = standard()
    with torch.no_grad():
        made(X)
    lines = str(made.explain()).splitlines()
    assert lines[0] == "standard: 1 kernel"
    assert "standard_weights: 1 kernel" in lines, "what runs without gradients"
    made(X)
    assert "hoisted: `z[o, c]` is made of weights only" in str(made.explain())


def test_sizes_that_belong_to_the_call_are_no_mistake() -> None:
    text = (
        "mixer f(x[c]) -> y[o]:\n  axis o: 2*size(c)\n  like p: o\n  param w[p, c]\n"
        "  y = 2 * sum[c](exp(w[p: o]) * x)\n"
    )
    assert hoist(plait.parse(text).program()) is None

"""Values between kernels: two that live at one time share no byte, and a call in parts gives what a call gives."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

import plait
from agreement import nearly
from plait import parse
from plait.backends import workspace
from plait.backends.assemble import late
from plait.backends.executable import Call, Executable, Result, Slot
from plait.backends.running import Running
from plait.backends.workspace import Life, Workspace, packed
from plait.compiler.gradient.derive import gradient
from plait.compiler.pipeline import plan_program
from plait.compiler.rewrites.cuts import cuts
from plait.compiler.rewrites.simplify import simplify
from plait.dsl.constructors.batch import expand_batch

SOFT = """mixer soft(x[b, c, h, w]) -> y[b, c, h, w], m[g]:
  near p, q: 1
  axis g: 2
  require size(c) == 6
  param weight[g, p, q, c]
  like e: c
  a = sum[e](weight[c: e] * x[c: e])
  k = softmax[p, q](a)
  y = sum[p, q](k[g: c // 3] * x[h+p, w+q])
  m = sum[b, h, w, p, q](a * k) otherwise 0
"""


def test_no_byte_is_two_values() -> None:
    """Of drawn lives, some of them empty; and room is taken again: all after each other lie in that of the largest."""
    draw = random.Random(4)
    for _ in range(200):
        lives: dict[str, Life] = {}
        for i in range(draw.randrange(1, 12)):
            first = draw.randrange(8)
            lives[str(i)] = Life(draw.choice([0, 1, 64, 100, 4096]), first, draw.randrange(first, 8))
        offsets, whole = packed(lives)
        taken: dict[tuple[int, int], str] = {}
        for name, life in lives.items():
            assert offsets[name] % workspace.ALIGNED == 0
            assert offsets[name] + life.bytes <= whole
            for byte in range(offsets[name], offsets[name] + life.bytes):
                for step in range(life.first, life.last + 1):
                    assert taken.setdefault((byte, step), name) == name
    chain = {str(i): Life(100, i, i) for i in range(9)}
    assert packed(chain) == (dict.fromkeys(chain, 0), 128)


def shapes(batch: int) -> dict[str, tuple[int, ...]]:
    return {"x": (batch, 6, 5, 7), "weight": (2, 3, 3, 6)}


def step(batch: int) -> tuple[list[Tensor], list[Workspace | None]]:
    """What a training step gives, and how its programs ran."""
    ran: list[Workspace | None] = []
    call = plait.compile(parse(SOFT), backend="cpp", on_unfused="error")
    random = torch.Generator().manual_seed(1)
    given = {
        name: torch.randn(shape, generator=random).requires_grad_() for name, shape in shapes(batch).items()
    }
    launch = Running.__call__

    def watched(self: Running, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        ran.append(self.workspace)
        return launch(self, tensors)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Running, "__call__", watched)
        y, m = call(**given)
        (y.sin().sum() + m.sum()).backward()
    return [y.detach(), m.detach(), *(each.grad for each in given.values() if each.grad is not None)], ran


@pytest.mark.parametrize(("share", "lengths"), [(0.0, [1, 1]), (1.0, [1, 2])])
def test_parts_give_what_the_whole_gives(
    share: float, lengths: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results over the batch bit for bit; sums over it as near as sums in another order are. The last part is
    shorter."""
    whole, ran = step(5)
    assert ran == [None, None]
    monkeypatch.setattr(workspace, "LEAST", 0)
    monkeypatch.setattr(workspace, "SHARE", share)
    monkeypatch.setattr(workspace, "PASSES", 0)
    found, ran = step(5)
    assert all(each is not None and [cut.axis.name for cut, _, _ in each.cuts] == ["b"] for each in ran)
    parts = [part for each in ran if each is not None for _, _, part in each.cuts]
    assert parts == lengths
    assert ran[-1] is not None and ran[-1].sums()
    for i, (one, other) in enumerate(zip(whole, found, strict=True)):
        if i in (0, 2):
            assert torch.equal(one, other)
        else:
            nearly(one, other, max(each.numel() for each in whole))
    assert all(torch.equal(one, other) for one, other in zip(found, step(5)[0], strict=True))


CUT = {
    "softmax over it": ("mixer m(x[b, t]) -> y[b, t]:\n  y = softmax[b](x)\n", "t"),
    "its index": ("mixer m(x[b, t]) -> y[b, t]:\n  y = x * b\n", "t"),
    "its size": ("mixer m(x[b, t]) -> y[b, t]:\n  y = x / size(b)\n", "t"),
    "read at another place": ("mixer m(x[b, t]) -> y[b, t]:\n  y = x[b: size(b) - 1 - b]\n", "t"),
    "read as long as it": ("mixer m(x[b, t]) -> y[b, t]:\n  like s: b\n  y = x + sum[s](x[b: s])\n", "t"),
    "a sum along it": ("mixer m(x[b, t]) -> y[t]:\n  y = sum[b](x * x)\n", "b t"),
    "a sum of such": ("mixer m(x[b, t]) -> y[]:\n  y = sum[t | t > 0](sum[b](x * t)) otherwise 0\n", "b"),
    "a sum by a number": ("mixer m(x[b, t], z[t]) -> y[t]:\n  y = sum[b](x) * z\n", "b t"),
    "a sum by itself": (
        "mixer m(x[b, t]) -> y[t]:\n  s = sum[b](x)\n  y = when(s > 0, s) otherwise 0\n",
        "t",
    ),
    "a square of a sum": ("mixer m(x[b, t]) -> y[t]:\n  s = sum[b](x)\n  y = s * s\n", "t"),
    "where none is": ("mixer m(x[b, t]) -> y[t]:\n  y = sum[b | x > 0](x) otherwise 1\n", "t"),
    "a largest": ("mixer m(x[b, t]) -> y[t]:\n  y = max[b](x)\n", "t"),
    "a sum that is read": ("mixer m(x[b, t]) -> y[b, t], s[t]:\n  s = sum[b](x)\n  y = x * s\n", "t"),
}


@pytest.mark.parametrize("name", CUT)
def test_where_a_program_is_cut(name: str) -> None:
    text, wanted = CUT[name]
    program = simplify(expand_batch(parse(text).program(), 0))
    assert " ".join(str(cut.axis) for cut in cuts(program)) == wanted


def test_gradients_of_weights_add_up() -> None:
    reverse = gradient(parse(SOFT).program())
    assert {str(cut.axis): cut.sums for cut in plan_program(reverse).cuts} == {
        "b": frozenset({"grad.weight"})
    }


def calls(*tensors: str) -> list[Call]:
    return [Call(None, tuple(each.split()), ()) for each in tensors]  # pyright: ignore[reportArgumentType]


def test_a_value_lives_until_its_last_reader() -> None:
    slots = [Slot(name, "real", (), (), name == "x", torch.float32) for name in "xabcy"]
    steps = calls("x a", "a b", "b c", "a c y")
    output = Result("y", "y", (), (), torch.float32)
    room = Workspace(Executable(tuple(slots), tuple(steps), (output,), ()), {})
    shapes = dict.fromkeys("xabcy", (5,))
    assert room.lives(shapes) == {"a": Life(20, 0, 3), "b": Life(20, 1, 2), "c": Life(20, 2, 3)}


def test_what_reads_inputs_alone_runs_late() -> None:
    """Not before what it makes is read, and never after: `a` is read last, `c` waits for `b`."""
    found = late(calls("x a", "x b", "b c", "x c d", "a d y"), frozenset("x"))
    assert [" ".join(step.tensors) for step in found] == ["x b", "b c", "x c d", "x a", "a d y"]  # pyright: ignore

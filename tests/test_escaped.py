"""What a breakage of tests/breakages once got away with: each test here was written for one that the tests expected to
notice did not (docs/trust.md names them)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import plait
from agreement import agree, close, run_on
from plait.backends import cache
from plait.backends.compiled import Compiled
from plait.backends.cpp import build as cpp_build
from plait.backends.executable import Call
from plait.compiler.gradient.derive import gradient
from plait.compiler.gradient.residuals import keep
from plait.compiler.gradient.tangent import tangent
from plait.compiler.meaning.interpret import interpret
from plait.compiler.schedules.target import AVX2
from tiled import agrees

DOUBLED = "mixer doubled(x[h]) -> y[h]:\n  y = x + x\n"


@pytest.mark.parametrize("part", ["sources_digest", "machine_digest", "optimisation", "compiler_asked"])
def test_each_part_of_a_key_makes_another_entry(
    part: str, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache folder outlives a version of plait, and may be carried to another machine."""

    def entries() -> int:
        Compiled(plait.parse(DOUBLED).program(), "cpp").run({"x": torch.ones(3)})
        return len(list((cache_folder / "index").iterdir()))

    before = entries()
    assert entries() == before > 0
    monkeypatch.setattr(cache, part, lambda: "another")
    assert entries() == 2 * before


def test_a_library_is_that_of_its_processor(cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`-march=native` is one flag and means other instructions on another machine."""
    target, source = replace(AVX2, flags=("-march=native",)), 'extern "C" int one() { return 1; }\n'
    first = cpp_build.build(source, target)
    assert cpp_build.build(source, target) == first
    monkeypatch.setattr(cpp_build, "machine_digest", lambda: "another")
    assert cpp_build.build(source, target) != first


def test_the_comparison_refuses_what_is_just_outside() -> None:
    """What every test of a backend stands on: `agreement.close`."""
    value, within = torch.tensor([1.0, -2.0, torch.inf]), torch.tensor([1e-3, 1e-3, 1e-3])
    close(value + torch.tensor([0.9e-3, 0.0, 0.0]), value, within, "y")
    close(value * torch.tensor([9.0, 1.0, 1.0]), value, torch.tensor([torch.inf, 0.0, 0.0]), "y")
    for wrong in ([1.1e-3, 0.0, 0.0], [0.0, torch.nan, 0.0], [0.0, 0.0, -torch.inf], [torch.inf, 0.0, 0.0]):
        with pytest.raises(AssertionError, match="times what rounding may do"):
            close(value + torch.tensor(wrong), value, within, "y")


# --- gradients


def derived(text: str, **tensors: Tensor) -> dict[str, list[float]]:
    """The gradients of a text for its inputs and parameters, given these and the cotangents as `cot_NAME`."""
    given = {name.replace("cot_", "cot."): tensor for name, tensor in tensors.items()}
    found = interpret(gradient(plait.parse(text).program()), given)
    return {name.removeprefix("grad."): tensor.tolist() for name, tensor in found.items()}


def test_what_is_the_same_along_a_summed_axis_counts_once_an_index() -> None:
    text = "mixer f(x[h], z[h, k]) -> y[h]:\n  y = sum[k](x + z)\n"
    found = derived(text, x=torch.randn(2), z=torch.randn(2, 3), cot_y=torch.tensor([1.0, 5.0]))
    assert found["x"] == [3, 15]


def test_a_term_beside_an_absent_one_gets_no_gradient() -> None:
    found = derived("mixer f(x[h=3], z[h]) -> y:\n  y = sum[h](x[h+1] + z)\n",
                    x=torch.randn(3), z=torch.randn(3), cot_y=torch.tensor(1.0))  # fmt: skip
    assert found == {"x": [0, 1, 1], "z": [1, 1, 0]}


def test_of_equal_entries_of_a_union_the_first_piece_gets_the_gradient() -> None:
    found = derived("mixer f(x[h], z[k]) -> y:\n  y = max[h; k](x, z)\n",
                    x=torch.tensor([1.0, 3.0]), z=torch.tensor([3.0, 2.0]), cot_y=torch.tensor(1.0))  # fmt: skip
    assert found == {"x": [0, 1], "z": [0, 0]}


def test_a_merged_axis_that_starts_below_zero() -> None:
    """grad x at t is w[t // 3, t % 3 - 1]."""
    text = """mixer f(x[t=6]) -> y:
  axis i: 2
  near d: 1
  param w[i, d]
  y = sum[i, d](x[t: 3*i + d + 1] * w)
"""
    w = torch.arange(6.0).reshape(2, 3)
    found = derived(text, x=torch.randn(6), w=w, cot_y=torch.tensor(1.0))
    assert found["x"] == [0, 1, 2, 3, 4, 5]


def test_a_direction_belongs_to_the_tensor_of_its_name() -> None:
    """d(x * x * z) = 2 x z dx + x * x dz."""
    program = tangent(plait.parse("mixer f(x[h], z[h]) -> y[h]:\n  y = x * x * z\n").program(), ("x", "z"))
    given = {
        "x": torch.tensor([3.0]),
        "z": torch.tensor([5.0]),
        "tan.x": torch.ones(1),
        "tan.z": torch.zeros(1),
    }
    assert interpret(program, given)["tangent.y"].tolist() == [30]


# --- kernels


def test_all_skips_the_entries_of_a_window_that_are_absent() -> None:
    agrees("mixer f(x[h, c]) -> y[h, c]: bool:\n  near dh: 1\n  y = all[dh](x[h+dh] * x[h+dh] > 0.0)\n",
           {"x": (7, 9)})  # fmt: skip


def test_a_kernel_takes_the_first_of_equal_entries() -> None:
    agrees("mixer f(x[h, c]) -> y[h]: int:\n  y = argmax[c](floor(x))\n", {"x": (6, 23)})


def test_a_fallback_that_may_be_absent_is_there_where_either_side_is() -> None:
    text = "mixer f(x[h, c]) -> y[h, c]:\n  y = (x[h+3] otherwise x[h-3]) * 2 otherwise 7.0\n"
    agrees(text, {"x": (5, 9)})


def test_a_sum_over_an_empty_batch_is_absent_in_a_kernel_too() -> None:
    agrees("mixer f(x[..., h]) -> y[h]:\n  y = sum[...](x) otherwise 5.0\n", {"x": (0, 3)}, batch=1)


def test_channels_of_a_stream_that_are_absent_are_left_out() -> None:
    text = """mixer f(q[t, d], k[t, d], v[t]) -> o[t]:
  like s: t
  o = sum[s](tanh(sum[d](q * k[t: s, d: d+1])) * v[t: s]) otherwise 0
"""
    agrees(text, {"q": (9, 4), "k": (9, 4), "v": (9,)})


ATTENTION = """mixer f(q[t, d], k[t, d], v[t, e]) -> o[t, e]:
  like s: t
  o = sum[s](softmax[s](sum[d](q * k[t: s])) * v[t: s])
"""


def test_a_result_that_is_rounded_is_not_what_the_gradient_reads() -> None:
    program = plait.parse(ATTENTION).program()
    assert any(each.result == "o" for each in keep(program, "auto")[1])
    assert not any(each.result == "o" for each in keep(program, "auto", rounded=True)[1])


def test_what_is_kept_of_queries_that_may_see_nothing_says_where_it_is() -> None:
    program = plait.parse(
        ATTENTION.replace("softmax[s]", "softmax[s | s < t]")[:-1] + " otherwise 0\n"
    ).program()
    assert any(each.there is not None for each in keep(program, "auto")[1])


def test_sums_that_see_other_keys_are_two_kernels() -> None:
    text = """mixer f(q[t, d], k[t, d], v[t]) -> a[t], b[t]:
  like s: t
  p = sum[d](q * k[t: s])
  a = sum[s](when(s <= t, tanh(p) * v[t: s])) otherwise 0
  b = sum[s](when(s >= t, exp(p) * v[t: s])) otherwise 0
"""
    assert len(agrees(text, {"q": (9, 4), "k": (9, 4), "v": (9,)})) == 2


@pytest.mark.parametrize("length", [1, 7, 67])
def test_nothing_is_stored_beyond_the_end_of_a_run(length: int) -> None:
    compiled = Compiled(plait.parse(DOUBLED).program(), "cpp")
    x, memory = torch.ones(length), torch.full((length + 64,), 7.0)
    compiled.run({"x": x})
    prepared = compiled.last
    assert prepared is not None
    (step,) = prepared.executable.steps
    assert isinstance(step, Call)
    step.built([x if name == "x" else memory[:length] for name in step.tensors], prepared.numbers[0])
    assert memory.tolist() == [2.0] * length + [7.0] * 64


@pytest.mark.parametrize("real", [torch.float32, torch.float64], ids=str)
def test_channels_last_memory_is_read_by_transposes(real: torch.dtype) -> None:
    """More channels than a vector has lanes, and more tokens."""
    program = plait.parse("mixer f(x[t, c]) -> y[t, o]:\n  param m[o, c]\n  y = sum[c](m * x)\n").program(
        o=5, c=19
    )
    tensors = {"x": torch.randn(45, 19, dtype=real), "m": torch.randn(5, 19, dtype=real)}
    agree(run_on("cpp", program, tensors), program, tensors, real)


def test_a_reference_step_that_computes_nothing_gives_a_tensor_of_its_own() -> None:
    """An input as it is, without a kernel: once that was a fault."""
    call = plait.compile(
        plait.parse("mixer f(x[h]: complex) -> y[h]: complex:\n  y = x\n"), on_unfused="quiet"
    )
    x = torch.ones(3, dtype=torch.complex128)
    y = call(x)
    y[0] = 5
    assert y.tolist() == [5, 1, 1] and x.tolist() == [1, 1, 1]


def test_the_last_chunk_of_a_stream_ends_with_it() -> None:
    program = plait.parse("mixer f(x[t, c]) -> y[c], z[t]:\n  y = max[t](x)\n  z = prod[c](x)\n").program()
    tensors = {"x": torch.randn(45, 19)}
    agree(run_on("cpp", program, tensors), program, tensors, torch.float32)

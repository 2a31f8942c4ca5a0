"""The C++ backend: sources, libraries, the cache, threads, floating-point state, sizes and strides."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

import agreement
import plait
from agreement import nearly
from plait.backends.budget import budget
from plait.backends.compiled import Compiled
from plait.backends.cpp import build as cpp_build
from plait.backends.cpp.launch import Built
from plait.backends.cpp.printer import print_cpp
from plait.backends.cpp.widths import overflows
from plait.compiler.meaning.interpret import interpret
from plait.compiler.schedules.target import AVX2, BASELINE, CpuTarget, this_cpu
from plait.dsl.elaboration.mixer import mixer
from plait.dsl.errors import CompilerFault
from plait.dsl.mistakes import AbsentOutput, InvalidArgument, MissingCompiler, WrongDtype
from plait.dsl.program import Program
from plait.dsl.python.domains import softmax
from plait.dsl.python.functions import axes, near, when
from plait.dsl.python.pointwise import exp
from test_kernel import attention

pytestmark = pytest.mark.usefixtures("optimised")

h, w, d, t, c = axes("h w d t c")
s = t.like("s")


@mixer("q[..., h, w, d], k[..., h, w, d], v[..., h, w, d] -> o[..., h, w, d]")
def disc(q, k, v, *, radius: int = 3):
    dh, dw = near("dh dw", radius)
    score = (q * k[h + dh, w + dw]).sum(d) * d.size**-0.5
    p = softmax(score, over=(dh, dw), where=dh * dh + dw * dw < radius * radius)
    return (p * v[h + dh, w + dw]).sum(dh, dw)


@mixer("q[..., t, d], k[..., t, d], v[..., t, d] -> o[..., t, d]")
def causal(q, k, v):
    score = (q * k[{t: s}]).sum(d) * d.size**-0.5
    return (softmax(score, over=s, where=s <= t) * v[{t: s}]).sum(s)


@mixer("x[t, c] -> y[t, c]")
def total_exp(x):
    return exp(x)


def agree(program: Program, tensors: dict[str, Tensor]) -> None:
    """The compiled results against the reference, each entry within what rounding may do."""
    real = next(tensor.dtype for tensor in tensors.values() if tensor.is_floating_point())
    agreement.agree(Compiled(program, on_unfused="error").run(tensors), program, tensors, real)


def three(*shape: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(sum(shape))
    return {name: torch.randn(*shape, dtype=dtype, generator=generator) for name in "qkv"}


SHAPES = [(1, 1, 1, 4), (2, 5, 7, 4), (9, 8, 4), (3, 2, 17, 3, 4), (1, 9, 33, 4), (0, 5, 5, 4)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 4), (2, 5, 7, 4), (9, 8, 4), (3, 2, 17, 3, 4), (1, 9, 33, 4), (0, 5, 5, 4)]
)
def test_ugly_sizes(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """1, primes, one more than a tile and than a run, several batch dimensions, an empty batch."""
    agree(disc.program(), three(*shape, dtype=dtype))


@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 97])
def test_causal_lengths(length: int) -> None:
    agree(causal.program(), three(2, length, 8, dtype=torch.float64))


def test_any_strides() -> None:
    """Channels first, a transposed image, an expanded batch, every second column."""
    base = three(2, 6, 12, 8, dtype=torch.float64)
    tensors = {
        "q": base["q"].permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)[:, :, ::2],
        "k": base["k"].transpose(1, 2).contiguous().transpose(1, 2)[:, :, :6],
        "v": base["v"][:1, :, 3:9].expand(2, 6, 6, 8),
    }
    agree(disc.program(), tensors)


def test_one_tensor_for_all_inputs() -> None:
    x = torch.randn(1, 5, 6, 4, dtype=torch.float64)
    agree(disc.program(), {"q": x, "k": x, "v": x})


def test_one_library_serves_every_batch_and_length() -> None:
    compiled = Compiled(causal.program())
    libraries: set[str] = set()
    for length in range(1, 26):
        for batch in ((), (2,)):
            compiled.run(three(*batch, length, 8))
            assert compiled.last is not None
            libraries |= {str(step.built.library) for step in compiled.last.executable.steps}  # pyright: ignore
    assert len(libraries) == 2  # without and with a batch dimension


def test_scores_of_any_size_are_right() -> None:
    """Large scores of either sign, equal ones, and infinite ones: softmax of the reference, NaN included."""
    tensors = three(1, 6, 4, dtype=torch.float64)
    for factor in (0.0, 1e3, 1e6):
        agree(causal.program(), {**tensors, "q": tensors["q"] * factor})
    endless = {**tensors, "k": torch.full_like(tensors["k"], math.inf), "q": tensors["q"].abs()}
    got = Compiled(causal.program()).run(endless)["o"]
    assert torch.equal(torch.isnan(got), torch.isnan(interpret(causal.program(), endless)["o"]))


def test_exp_everywhere() -> None:
    """The lanes' own exp, from where it is 0 to where it is infinite, NaN included."""

    @mixer("q[t, d], k[c, d], v[c, d] -> o[t, d]")
    def weights(q, k, v):
        return (softmax((q * k).sum(d), over=c) * v).sum(c)

    # softmax over (x, 0) is 1 / (1 + exp(x)) and exp(x) / (1 + exp(x)): read exp from the latter
    x = torch.linspace(-700, 0, 4001, dtype=torch.float64)
    q, k = x[:, None], torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    v = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    for dtype in (torch.float64, torch.float32):
        got = Compiled(weights.program()).run({"q": q.to(dtype), "k": k.to(dtype), "v": v.to(dtype)})["o"][
            :, 0
        ]
        want = torch.softmax(torch.stack([q[:, 0].to(dtype).double(), 0 * x]), 0)[0]
        big = want > torch.finfo(dtype).tiny
        within = budget(dtype, 1, operations=4) + budget(
            torch.float64, 1, operations=4
        )  # exp, sum, reciprocal, product
        assert ((got.double() - want).abs() / want)[big].max().item() < within
        assert torch.all((got[~big].double() - want[~big]).abs() <= torch.finfo(dtype).tiny)


def test_the_floating_point_state_stays_as_it_was() -> None:
    """No kernel, once loaded and run on any thread, flushes subnormals or loses NaN."""
    agree(disc.program(), three(4, 16, 16, 4))
    tiny = torch.full((1 << 16,), torch.finfo(torch.float32).tiny)
    assert torch.all(tiny / 2 > 0)
    assert torch.all(torch.isnan(tiny * math.nan))
    assert sys.float_info.min / 2 > 0


def test_threads_do_not_change_a_bit() -> None:
    tensors = three(3, 20, 20, 8)
    compiled = Compiled(disc.program())
    before = torch.get_num_threads()
    results: list[Tensor] = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(compiled.run(tensors)["o"])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(results[0], other) for other in results[1:])


TARGETS = [BASELINE, CpuTarget("avx2", AVX2.flags, 32, 6), this_cpu(), this_cpu().widened()]


@pytest.mark.parametrize("target", TARGETS, ids=lambda each: f"{each.name}{'-wide' if each.wide else ''}")
def test_every_target_computes_the_same(target: CpuTarget) -> None:
    if target.name == "avx2" and this_cpu() == BASELINE:
        pytest.skip("this CPU has no AVX2")
    kernel = attention()
    library = cpp_build.build(print_cpp([kernel], target), target)
    from_source = library.with_suffix(".cpp").read_text()
    assert f"#define PLAIT_BYTES {target.vector_bytes}" in from_source
    q, k, v = three(70, 8).values()
    out = torch.empty_like(q)
    run_library(library, kernel.name, (q, k, v, out), (70,))
    mask = torch.ones(70, 70, dtype=torch.bool).tril()
    weights = torch.softmax((q @ k.T).double().masked_fill(~mask, -math.inf), 1)
    nearly(out, weights @ v.double())


def run_library(library: Path, name: str, tensors: tuple[Tensor, ...], sizes: tuple[int, ...]) -> None:
    Built(name, library, name)(tensors, sizes)


def test_coordinates_too_large_for_32_bits_get_64() -> None:
    """(t - s)**2 < n passes 2**31 at sizes above 46,340: such a call takes the wide library."""

    @mixer("q[t, d], k[t, d], v[t, d] -> o[t, d]")
    def band(q, k, v, *, n: int = 4):
        score = (q * k[{t: s}]).sum(d)
        return (softmax(score, over=s, where=(t - s) * (t - s) * (t - s) * (t - s) < n) * v[{t: s}]).sum(s)

    compiled = Compiled(band.program())
    tensors = three(500, 1)
    out = compiled.run(tensors)["o"]
    assert torch.isfinite(out).all()
    assert compiled.last is not None
    (step,) = compiled.last.executable.steps
    assert "#define PLAIT_INT long" in step.built.source  # pyright: ignore
    assert not overflows(attention())


def test_a_dtype_that_no_kernel_has() -> None:
    with pytest.raises(
        WrongDtype, match=r"knows float32, float64, bfloat16 and float16, and .* torch.float8_e5m2"
    ):
        Compiled(total_exp.program()).run({"x": torch.ones(2, 3).to(torch.float8_e5m2)})
    with pytest.raises(WrongDtype, match="one dtype"):
        Compiled(causal.program()).run({**three(4, 4), "v": torch.ones(4, 4, dtype=torch.float64)})


# --- building and the cache


def test_no_compiler(monkeypatch: pytest.MonkeyPatch, cache_folder: Path) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(MissingCompiler, match="no C\\+\\+ compiler was found") as caught:
        Compiled(total_exp.program()).run({"x": torch.ones(2, 3)})
    assert "tried: no-such-compiler" in str(caught.value)
    assert not list(cache_folder.rglob("*.so"))


def test_a_compiler_that_fails_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache_folder: Path
) -> None:
    broken = tmp_path / "broken"
    broken.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo broken 1 && exit 0\necho no memory >&2\nexit 1\n'
    )
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    with pytest.raises(MissingCompiler, match="does not compile the simplest library"):
        Compiled(total_exp.program()).run({"x": torch.ones(2, 3)})
    assert not [path for path in cache_folder.rglob("*") if path.suffix in (".so", ".tmp")]


def test_a_source_that_is_refused_is_our_fault(cache_folder: Path) -> None:
    with pytest.raises(CompilerFault, match="refused the generated source"):
        cpp_build.build("this is no C++", this_cpu())
    assert not [path for path in cache_folder.rglob("*") if path.suffix in (".so", ".tmp")]


def test_a_damaged_index_entry_counts_as_none(cache_folder: Path) -> None:
    tensors = {"x": torch.ones(2, 3)}
    Compiled(total_exp.program()).run(tensors)
    for path in (cache_folder / "index").iterdir():
        path.write_bytes(path.read_bytes()[:10])
    out = Compiled(total_exp.program()).run(tensors)["y"]
    nearly(out, tensors["x"].exp())


def test_another_flag_is_another_library(monkeypatch: pytest.MonkeyPatch, cache_folder: Path) -> None:
    source = print_cpp([attention()], this_cpu())
    monkeypatch.setenv("PLAIT_CXX_LEVEL", "-O1")
    first = cpp_build.build(source, this_cpu())
    monkeypatch.setenv("PLAIT_CXX_LEVEL", "-O2")
    assert cpp_build.build(source, this_cpu()) != first


def test_a_call_at_another_level_is_built_at_it(monkeypatch: pytest.MonkeyPatch, cache_folder: Path) -> None:
    for count, level in enumerate(("-O1", "-O2"), 1):
        monkeypatch.setenv("PLAIT_CXX_LEVEL", level)
        Compiled(total_exp.program()).run({"x": torch.ones(2, 3)})
        assert len(list(cache_folder.rglob("*.so"))) == count


def test_masks_by_data() -> None:
    """A predicate that reads a tensor masks like any other; a row that sees nothing falls back."""

    @mixer("q[t, d], k[t, d], v[t, d], seen[t]: bool -> o[t, d]")
    def visible(q, k, v, seen):
        score = (q * k[{t: s}]).sum(d)
        return (softmax(score, over=s, where=seen[{t: s}]) * v[{t: s}]).sum(s).otherwise(-1.0)

    tensors = three(9, 4, dtype=torch.float64)
    for seen in (torch.arange(9) % 3 == 0, torch.zeros(9, dtype=torch.bool)):
        agree(visible.program(), {**tensors, "seen": seen})


def test_a_window_that_lies_outside() -> None:
    """Rows whose whole window is outside the image have no key: what is otherwise said of them holds."""

    @mixer("q[t, d], k[t, d], v[t, d] -> o[t, d]")
    def ahead(q, k, v):
        u = near("u", 2)
        score = (q * k[t + u]).sum(d)
        return (softmax(score, over=u, where=u > 0) * v[t + u]).sum(u).otherwise(7.0)

    for length in (1, 2, 5, 66):
        agree(ahead.program(), three(length, 4, dtype=torch.float64))


def test_absent_scores() -> None:
    """A score that is absent for some keys is skipped by numerator and denominator alike."""

    @mixer("q[t, d], k[t, d], v[t, d] -> o[t, d]")
    def positive(q, k, v):
        score = (q * k[{t: s}]).sum(d)
        return (softmax(when(score > 0, score), over=s) * v[{t: s}]).sum(s).otherwise(0.0)

    agree(positive.program(), three(11, 4, dtype=torch.float64))


def test_indices_outside_their_axis_are_refused_at_every_call() -> None:
    @mixer("x[t, c], ids[h]: index t -> y[h, c]")
    def gather(x, ids):
        return x[{t: ids}]

    compiled = Compiled(gather.program())
    x = torch.randn(5, 2)
    got = compiled.run({"x": x, "ids": torch.tensor([4, 0])})["y"]
    assert torch.equal(got, x[[4, 0]])
    with pytest.raises(InvalidArgument, match="`ids` holds 5, which is no index of axis `t`"):
        compiled.run({"x": x, "ids": torch.tensor([0, 5])})


def test_what_the_check_left_open_is_decided_by_the_sizes() -> None:
    @mixer("x[h] -> z[h]")
    def leap(x):
        return x[h * (h // 8)]  # inside for every size that the check tries, and for no size from 17 on

    compiled = Compiled(leap.program())
    assert torch.equal(compiled.run({"x": torch.arange(9.0)})["z"], torch.tensor([0.0] * 8 + [8.0]))
    with pytest.raises(AbsentOutput, match="absent"):
        compiled.run({"x": torch.ones(17)})


def test_one_value_under_two_names_is_two_tensors() -> None:
    @mixer("x[h] -> y[h], z[h]")
    def twice(x):
        y = exp(x)
        return y, y

    results = Compiled(twice.program()).run({"x": torch.zeros(3)})
    results["y"].zero_()
    assert torch.equal(results["z"], torch.ones(3))


def test_sums_of_coordinates_leave_32_bits() -> None:
    """Lanes of a float32 kernel carry integers in 32 bits only where they stay in them."""
    text = "mixer t(x[t]) -> o[t]:\n  like s: t\n  n = sum[s | s <= t](s*200000)\n  o = x*(n % 7)\n"
    out = plait.parse(text)(torch.ones(301))
    sums = torch.arange(301).cumsum(0) * 200000
    assert sums[-1] > 2**32
    assert torch.equal(out, (sums % 7).float())


def test_reals_as_integers_leave_32_bits() -> None:
    """An integer made of a real may be any."""
    text = "mixer t(x[t]) -> o[t]:\n  o = x*0 + floor(x) % 7\n"
    x = torch.tensor([2.0**33 + 2**10, 5.0, -(2.0**40)])
    assert torch.equal(plait.parse(text)(x), x.double().remainder(7).float())

"""Long reductions to few entries: their parts keep the meaning, depend on sizes only, and end where the axis does."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

import plait
from agreement import agree, nearly
from kernel_meaning import Meaning
from plait.backends.compiled import Compiled
from plait.compiler.algorithms import chunks
from plait.compiler.algorithms.chunks import chain, in_parts
from plait.compiler.kernels.kernel import Kernel, Load, Stream
from plait.compiler.meaning.interpret import interpret
from plait.compiler.rewrites.total import Totality
from plait.dsl.constructors.build import size
from plait.dsl.program import Axis, Program, Reduce, Size
from plait.dsl.shapes.size_forms import evaluate_size, program_axes
from tiled import agrees, kernels, meant, read

PROGRAMS: Mapping[str, str] = {
    "sum": "mixer f(x[t, d]) -> y:\n  y = sum[t, d](x * x) / 3\n",
    "mask": "mixer f(x[t, d]) -> y:\n  y = sum[t, d](when(x > 0.5, x)) otherwise 7\n",
    "border": "mixer f(x[t, d]) -> y:\n  y = sum[t, d](x[t+1] * (x[d-2] otherwise 3)) otherwise 7\n",
    "largest": "mixer f(x[t, d]) -> y:\n  y = max[t, d](when(x < 0.5, x)) otherwise 7\n",
    "least": "mixer f(x[t, d]) -> y:\n  y = min[t, d](x)\n",
    "product": "mixer f(x[t, d]) -> y:\n  y = prod[t, d](1 + x / 8)\n",
    "log-sum-exp": "mixer f(x[t, d]) -> y:\n  y = lse[t, d](when(x > 0, x)) otherwise 7\n",
    "count": "mixer f(x[t, d]) -> y: int:\n  y = count[t, d](when(x > 0.5, x))\n",
    "any": "mixer f(x[t, d]) -> y: bool:\n  y = any[t, d](x > 2)\n",
    "all": "mixer f(x[t, d]) -> y: bool:\n  y = all[t, d](x < 2)\n",
    "first best": "mixer f(x[t, d]) -> y: int:\n  y = argmax[t](floor(max[d](x)))\n",
    "best from a start": "mixer f(x[t, d]) -> y: int:\n  span s: 1, size(t) + 1\n"
    "  y = argmax[s](when(s < 9, max[d](x[t: s - 1]))) otherwise 0\n",
    "length": "mixer f(x[t, d], n: int) -> y:\n  y = sum[t, d](when((t < n) & (d >= n - 5), x)) otherwise 7\n",
    "gather": "mixer f(x[t, d], i[s]: index t) -> y:\n  y = sum[s, d](x[t: i])\n",
    "heads": "mixer f(x[t, h, d], w[h=3]) -> y[h]:\n  y = sum[t, d](x * w)\n",
    "statistics": "mixer f(x[t, d]) -> y[t, d]:\n  m = mean[t, d](x)\n"
    "  y = (x - m) / sqrt(mean[t, d]((x - m)**2) + 1)\n",
}  # fmt: skip
SIZES = ((1, 1), (2, 3), (7, 5), (31, 2), (1, 40), (37, 19))


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of a few entries, so that short axes have several."""
    for name, number in (("LEAST", 6), ("RUN", 2)):
        monkeypatch.setattr(chunks, name, number)


def given(program: Program, t: int, d: int) -> dict[str, Tensor]:
    """Random inputs; of whole numbers some are twice the greatest."""
    generator = torch.Generator().manual_seed(t)
    shapes = {"t": t, "d": d, "h": 3}
    made: dict[str, Tensor] = {}
    for each in program.declarations:
        shape = [shapes.get(axis.name, 11) for axis in each.leaf.over]
        real = each.leaf.kind == "real"
        drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
        made[each.leaf.name] = drawn if real else torch.randint(0, t, shape, generator=generator)
    return made


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("name", PROGRAMS)
def test_parts_keep_the_meaning(name: str) -> None:
    program = read(PROGRAMS[name])
    made, parts = in_parts(program, frozenset((Axis("h"),)))
    assert parts
    for t, d in SIZES:
        tensors = given(program, t, d)
        for output, value in interpret(program, tensors).items():
            nearly(interpret(made, tensors)[output], value, max(each.numel() for each in tensors.values()))


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_kernels_mean_the_program(name: str) -> None:
    program = read(PROGRAMS[name])
    for t, d in ((7, 5), (9, 4)):
        tensors = given(program, t, d)
        found = meant(program, tensors)
        for output, value in interpret(program, tensors).items():
            nearly(found[output].reshape(value.shape), value, max(each.numel() for each in tensors.values()))


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("special", [torch.nan, torch.inf, -torch.inf])
def test_ties_and_special_numbers_of_a_best_entry(special: float) -> None:
    program = read("mixer f(x[t]) -> y: int:\n  y = argmax[t](x)\n")
    made, _ = in_parts(program)
    for places in ((), (3, 20), (22,), (0,), range(23)):
        x = torch.zeros(23, dtype=torch.float64)
        x[list(places)] = special
        assert interpret(made, {"x": x})["y"] == interpret(program, {"x": x})["y"]


@pytest.mark.usefixtures("short")
def test_nothing_in_an_empty_batch() -> None:
    for op, kind in (("sum", ""), ("max", ""), ("count", ": int"), ("all", ": bool")):
        value = "x > 0" if op == "all" else "x"
        rest = " otherwise 7" if not kind else ""
        program = read(f"mixer f(x[..., d]) -> y{kind}:\n  y = {op}[..., d]({value}){rest}\n", 1)
        made, parts = in_parts(program)
        assert parts
        for batch in (0, 1, 5):
            x = torch.randn(batch, 3, dtype=torch.float64)
            nearly(interpret(made, {"x": x})["y"], interpret(program, {"x": x})["y"], max(1, x.numel()))


@pytest.mark.usefixtures("short")
def test_values_in_c() -> None:
    for name in ("sum", "mask", "first best", "heads"):
        program = read(PROGRAMS[name])
        call = Compiled(program, backend="cpp", on_unfused="error")
        for t, d in ((1, 1), (37, 19), (70, 3)):
            tensors = {
                key: x.float() if x.is_floating_point() else x for key, x in given(program, t, d).items()
            }
            agree(call.run(tensors), program, tensors, torch.float32)


# --- where they lie


def parts_of(program: Program, sizes: Mapping[Axis, int]) -> dict[str, tuple[int, int]]:
    """Of each axis in parts, how many there are and how long one is."""
    made, _ = in_parts(program)
    found = {
        axis.name: evaluate_size(size(axis), sizes) for axis in program_axes(made) if axis.size is not None
    }
    ends = [name.removesuffix("_part") for name in found if name.endswith("_part")]
    return {name: (found[f"{name}_part"], found[f"{name}_within"]) for name in ends}


@pytest.mark.parametrize("b", [1, 3, 17, 1000])
@pytest.mark.parametrize("t", [1, 100, 16384, 99_991, 2**24])
def test_parts_cover_and_none_is_empty(b: int, t: int) -> None:
    """Whatever is said of threads: sizes decide."""
    program = read("mixer f(x[b, t]) -> y:\n  y = sum[b, t](x)\n")
    count = 1
    for name, (parts, length) in parts_of(program, {Axis("b"): b, Axis("t"): t}).items():
        extent = {"b": b, "t": t}[name]
        assert (parts - 1) * length < extent <= parts * length
        assert length % chunks.RUN == 0
        count *= parts
    assert count <= chunks.MOST
    assert b * t < 8 * chunks.RUN * chunks.LEAST or count > 2


def test_heads_are_few_and_channels_are_not() -> None:
    """Sizes of the call say which: a module of few heads takes parts, one of many channels does not."""
    program = read("mixer f(x[t, h]) -> y[h]:\n  param w[h]\n  y = sum[t](x * w)\n")
    for heads, kernels_of in ((31, 2), (32, 1)):
        call = Compiled(program, backend="cpp", on_unfused="error")
        tensors = {"x": torch.randn(50, heads), "w": torch.randn(heads)}
        agree(call.run(tensors), program, tensors, torch.float32)
        assert call.last is not None and len(call.last.executable.steps) == kernels_of


def test_few_outputs_only() -> None:
    """A result with an axis of the call, or with two axes, has enough tiles."""
    for text in (
        "mixer f(x[t, d]) -> y[d]:\n  y = sum[t](x)\n",
        "mixer f(x[t, c=3, h=2]) -> y[c, h]:\n  y = sum[t](x)\n",
        "mixer f(x[d=9]) -> y:\n  y = sum[d](x)\n",
        "mixer f(x[t, d]) -> y:\n  like s: t\n  y = sum[t, s](exp(sum[d](x * x[t: s])))\n",
    ):
        assert not in_parts(read(text))[1], text


def streams(kernel: Kernel) -> list[Stream]:
    return [each for each in kernel.body if isinstance(each, Stream)]


def test_a_part_is_read_without_a_test() -> None:
    """The ragged end is the end of a loop: all that a load asks is that its lane exists."""
    made = agrees("mixer f(x[t]) -> y:\n  y = sum[t](x)\n", {"x": (100,)})
    assert len(made) == 2
    for kernel in made.values():
        (stream,) = streams(kernel)
        (load,) = (each for each in stream.body if isinstance(each, Load))
        assert load.mask == f"{stream.axes[0].name}.valid"


def test_lengths_end_the_loops_of_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mean by a mask of lengths passes over what a tile sees, and no more."""
    passed: list[int] = []
    stream = Meaning.stream

    def watched(self: Meaning, statement: Stream) -> None:
        bounds = [[int(self.value(end).data) for end in (axis.low, axis.stop)] for axis in statement.axes]
        passed.append(math.prod(max(0, stop - low) for low, stop in bounds))
        stream(self, statement)

    monkeypatch.setattr(Meaning, "stream", watched)
    text = "mixer f(x[b, t, c=4], n[b]: int) -> y[b, c]:\n  y = mean[t](when(t < n, x)) otherwise 0\n"
    program, lengths = read(text), [0, 0, 5, 3]
    tensors = {"x": torch.randn(4, 37, 4, dtype=torch.float64), "n": torch.tensor(lengths)}
    found = meant(program, tensors)["y"]
    nearly(found, interpret(program, tensors)["y"], 37)
    assert sorted(set(passed)) == [0, 5]


# --- what it is for


def test_one_artefact_and_the_same_bits_for_any_threads(cache_folder: Path) -> None:
    text = "mixer f(x[b, t], k) -> y:\n  y = mean[b, t](sin(x * k))\n"
    call = plait.compile(plait.parse(text), backend="cpp", on_unfused="error")
    before = torch.get_num_threads()
    built: set[int] = set()
    try:
        for b, t in ((1, 1), (3, 50_000), (200_003, 1), (7, 40_961)):
            found: list[Tensor] = []
            x = torch.randn(b, t)
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                k = torch.tensor(0.7, requires_grad=True)
                y = call(x, k)
                found.append(torch.stack([y.detach(), *torch.autograd.grad(y, k)]))
            assert all(torch.equal(found[0], each) for each in found[1:])
            wanted = (x.double() * 0.7).sin().mean(), (x.double() * (x.double() * 0.7).cos()).mean()
            nearly(found[0], torch.stack(wanted), b * t)
            built.add(len(list((cache_folder / "cpp").glob("*.so"))))
    finally:
        torch.set_num_threads(before)
    assert len(built) == 1


def test_a_chain_of_additions_is_short() -> None:
    """Of 2^28 terms none goes through more than 2^21, which is what the error of a sum hangs on."""
    t = Axis("t")
    chains = {n: evaluate_size(chain(Size(t)), {t: n}) for n in (1, 16384, 2**20, 2**28)}
    assert chains[1] == 1 and chains[16384] == 16384
    assert chains[2**20] < 2**17 and chains[2**28] < 2**22


def test_the_plan_stores_parts() -> None:
    program = read("mixer f(x[t]) -> y:\n  y = sum[t](x)\n")
    planned, written = kernels(program, {Axis("t"): 9})
    assert len(written) == 2
    first, last = planned.plan.groups
    assert [axis.name for axis in first.result.axes] == ["t_part"]
    assert isinstance(last.result.form, Reduce) or last.result.form in planned.program.roots


def test_proofs_do_not_look_into_the_sizes_of_parts() -> None:
    """Minutes were spent on what they are minima of, in every gradient of a joint norm."""
    program, parts = in_parts(read("mixer f(x[b, t, h]) -> y:\n  y = sum[b, t, h](x * x)\n"))
    total = Totality(program)
    assert parts and all(total.of(form) for form in parts)
    extents = total._tools()[0].bounds.extents
    within = [extent for axis, extent in extents.items() if axis.name.endswith("_within")]
    assert len(within) == 3 and all(len(extent.symbols) == 1 for extent in within)

"""Lengths and starts given as data bound the loops over keys: nothing beyond them is read, and what data says
is read once a tile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

import kernel_meaning
import on_triton
from agreement import agree, check_gradients, run_on
from interpreting import Interpreting
from kernel_meaning import Meaning
from plait import compile as compiled
from plait import parse
from plait.compiler.algorithms import chunks
from plait.compiler.kernels.kernel import Load, Stream
from plait.compiler.kernels.written import Written
from plait.compiler.pipeline import plan_program, write_kernels
from plait.compiler.schedules.schedule import Schedule, StreamSchedule, cpu_tiles
from plait.dsl.constructors.build import size
from plait.dsl.program import Program
from plait.dsl.shapes.size_forms import evaluate_size
from plait.dsl.shapes.sizes import bind_sizes
from strategies import Example

STEP, TILE = 8, 16
ALONG = "q[b, m, t, d], k[b, m, t, d], v[b, m, t, e]"
OVER = "q[b, h, w, d], k[b, h, w, d], v[b, h, w, e]"
HUGE = 2**62


def along(mask: str, data: str) -> str:
    return (
        f"mixer along({ALONG}, {data}) -> o[b, m, t, e]:\n  like s: t\n  c = sum[d](q * k[t: s])\n"
        f"  o = sum[s](softmax[s | {mask}](c) * v[t: s]) otherwise 0\n"
    )


def over(mask: str, data: str) -> str:
    return (
        f"mixer over({OVER}, {data}) -> o[b, h, w, e]:\n  like y: h\n  like x: w\n"
        f"  c = sum[d](q * k[h: y, w: x])\n"
        f"  o = sum[y, x](softmax[y, x | {mask}](c) * v[h: y, w: x]) otherwise 0\n"
    )


PROGRAMS: Mapping[str, str] = {
    "lengths": along("s < n", "n[b]: int"),
    "lengths of heads": along("s <= n", "n[b, m]: int"),
    "one length": along("~(s >= n)", "n: int"),
    "two ends": along("(s < n) & (s + 1 > a)", "n[b]: int, a[b, t]: int"),
    "causal documents by their starts": along("(s <= t) & (s >= a)", "a[b, t]: int"),
    "either": along("(s < n) | (s >= a)", "n[b]: int, a[b]: int"),
    "distance by data": along("abs(s - t) <= n", "n[b]: int"),
    "shared lengths": along("s < n[b: b // 2]", "n[b]: int"),
    "images": over("(y < n) & (x < a)", "n[b]: int, a[b]: int"),
    "rows of their own": over("(y <= n) & (x >= w - a)", "n[b, h]: int, a[b, w]: int"),
}
SIZES = {"b": 5, "m": 2, "t": 37, "h": 5, "w": 7, "d": 3, "e": 2}
LENGTHS = [0, 5, -HUGE, HUGE, 37]


@pytest.fixture(scope="module")
def triton() -> Iterator[Interpreting]:
    process = Interpreting()
    yield process
    process.close()


def tensors(program: Program, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Lengths of all sorts: none, some, all, and far beyond; starts between."""
    generator = torch.Generator().manual_seed(5)
    found: dict[str, Tensor] = {}
    for leaf in (each.leaf for each in program.declarations):
        shape = [SIZES[axis.name] for axis in leaf.over]
        if leaf.kind == "real":
            found[leaf.name] = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        elif leaf.name == "n":
            found["n"] = torch.tensor(LENGTHS)[torch.arange(torch.Size(shape).numel()) % 5].reshape(shape)
        else:
            found[leaf.name] = torch.randint(-3, 40, shape, generator=generator)
    return found


def example(name: str, dtype: torch.dtype = torch.float64) -> Example:
    program = parse(PROGRAMS[name]).program()
    given = tensors(program, dtype)
    return Example(program, given, bind_sizes(program, {k: tuple(v.shape) for k, v in given.items()}))


def kernel(made: Example) -> tuple[Written, list[int]]:
    """The one kernel, and its run-time numbers."""
    plan = plan_program(made.program, verify=True)
    known = {axis: evaluate_size(size(axis), made.sizes) for axis in plan.shape_axes}
    schedule = Schedule(16, StreamSchedule(TILE, STEP, False), cpu_tiles(32, 8))
    (one,) = write_kernels(plan, known, "float64", schedule, verify=True).values()
    return one, [evaluate_size(form, made.sizes) for form in one.numbers]


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The keys that pass, chunk by chunk."""
    keys: list[int] = []
    stream = Meaning.stream

    def watched(self: Meaning, statement: Stream) -> None:
        bounds = [[int(self.value(end).data) for end in (axis.low, axis.stop)] for axis in statement.axes]
        keys.append(int(torch.tensor([max(0, stop - low) for low, stop in bounds]).prod()))
        stream(self, statement)

    monkeypatch.setattr(Meaning, "stream", watched)
    return keys


def meant(made: Example) -> None:
    """What the kernel means, tile by tile, is what the program does."""
    one, numbers = kernel(made)
    outputs = torch.zeros(tuple(SIZES[a.name] for item in made.program.outputs[0].items for a in item))
    given = [made.tensors.get(buffer.name, outputs) for buffer in one.kernel.buffers]
    (found,) = kernel_meaning.run(one.kernel, given, numbers)
    agree({"o": found}, made.program, made.tensors, torch.float64)


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_kernel_means_the_program(name: str) -> None:
    meant(example(name))


def test_nothing_beyond_a_length_passes(passed: list[int]) -> None:
    meant(example("lengths"))
    tiles = -(-SIZES["t"] // TILE) * SIZES["m"]
    assert passed == [each for n in (0, 5, 0, 37, 37) for each in [n] * tiles]


def test_what_a_tile_sees_of_its_documents_passes(passed: list[int]) -> None:
    """From the earliest start of the tile's queries to the last of them."""
    made = example("causal documents by their starts")
    meant(made)
    starts = made.tensors["a"].clamp(min=0)
    expected = [
        max(0, min(first + TILE, SIZES["t"]) - int(starts[b, first : first + TILE].min()))
        for b in range(SIZES["b"])
        for _ in range(SIZES["m"])
        for first in range(0, SIZES["t"], TILE)
    ]
    assert passed == expected


def test_data_is_read_before_the_loop() -> None:
    one, _ = kernel(example("lengths"))
    (stream,) = (each for each in one.kernel.body if isinstance(each, Stream))
    assert not any(isinstance(each, Load) and each.buffer == "n" for each in stream.body)


@pytest.mark.parametrize("name", ["lengths", "two ends", "rows of their own"])
def test_values_and_gradients(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAIT_CXX_LEVEL", "-O1")
    made = example(name, torch.float32)
    agree(run_on("cpp", made.program, made.tensors), made.program, made.tensors, made.tensors["q"].dtype)
    if name == "lengths":
        check_gradients(made)


@pytest.mark.parametrize("name", ["lengths", "two ends"])
def test_values_on_triton(name: str, triton: Interpreting) -> None:
    made = example(name, torch.float32)
    found: Any = triton.call(on_triton.run, str(made.program), made.tensors)
    agree(found, made.program, made.tensors, torch.float32, "triton")


def in_short_parts(text: str, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """In the interpreting process: a reduction to one number in parts of a few entries, the last one ragged."""
    before = chunks.LEAST, chunks.RUN
    chunks.LEAST, chunks.RUN = 6, 2
    try:
        return on_triton.run(text, given)
    finally:
        chunks.LEAST, chunks.RUN = before


def test_a_sum_in_parts_on_triton(triton: Interpreting) -> None:
    text = "mixer f(x[t, d], n: int) -> y:\n  y = sum[t, d](when((t < n) & (x > 0.5), x)) otherwise 7\n"
    given = {"x": torch.randn(37, 19), "n": torch.tensor(23)}
    found: Any = triton.call(in_short_parts, text, given)
    agree(found, parse(text).program(), given, torch.float32, "triton")


def test_the_report_says_that_data_bounds_the_loop() -> None:
    made = example("lengths")
    call = compiled(made.program, backend="cpp")
    call(*made.tensors.values())
    text = " ".join(str(call.explain()).split())
    assert "between bounds that `n` gives" in text

"""Kernels that run as the phases of one: what a group is held to, that it computes what its kernels compute apart, bit
for bit for any number of threads, and what `explain` says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

import pytest
import torch
from torch import Tensor

import blocks
import plait
from agreement import nearly
from phases_of import phased
from plait.backends.assemble import schedule_for
from plait.backends.compiled import Compiled, Prepared
from plait.backends.executable import Call, Executable
from plait.compiler.gradient.derive import gradient
from plait.compiler.kernels.check_kernel import check_kernel
from plait.compiler.kernels.kernel import Kernel, Load, Statement
from plait.compiler.kernels.phases import Part, Phased, check_phases
from plait.dsl.constructors.build import size
from plait.dsl.errors import CompilerFault
from plait.dsl.program import Program
from plait.dsl.shapes.size_forms import evaluate_size
from precisions import program

NORM = """mixer norm(x[b, h, c=5]) -> y[b, h, c]:
  d = x - mean[h, c](x)
  y = d / sqrt(mean[h, c](d * d) + 1e-5)
"""

CROSSED = """mixer crossed(x[b, h, c]) -> y[b, h, c]:
  m = sum[h, c](x * x)
  y = x * (m[b: size(b) - 1 - b])
"""

BOTH = """mixer both(x[b, h, c]) -> y[b, h, c]:
  m = sum[h, c](x * x)
  y = x * m + m[b: size(b) - 1 - b]
"""

BATCHED = """mixer batched(x[b, h, c]) -> y[b, h, c]:
  m = sum[b, h, c](x * x)
  y = x * m
"""

BESIDE = """mixer beside(x[b, c=5, h, w]) -> y[b, c, h, w]:
  most = max[h, w](x)
  total = sum[h, w](x * x)
  y = x * (sum[c](most) * total + sum[c](total * most))
"""


def group(text: str) -> Phased:
    (found,) = (unit for _, unit in phased(program(text)).units)
    assert isinstance(found, Phased)
    return found


def launches(made: Program) -> list[int]:
    """The number of phases of every launch."""
    return [len(unit.phases) if isinstance(unit, Phased) else 1 for _, unit in phased(made).units]


# --- what a group is held to


def test_a_joint_norm_is_a_kernel_of_three_phases() -> None:
    found = group(NORM)
    check_phases(found)
    assert [len(phase) for phase in found.phases] == [1, 1, 1]
    assert str(found).startswith("kernel norm of 3 phases\n  phase 1: norm_")


def test_kernels_that_wait_for_nothing_share_a_phase() -> None:
    assert [len(phase) for phase in group(BESIDE).phases] == [2, 2, 1]


@pytest.mark.parametrize("text", [CROSSED, BOTH, BATCHED])
def test_what_other_images_made_is_no_phase(text: str) -> None:
    """Another image may not have come as far, or all images are needed."""
    found = phased(program(text))
    assert not any(isinstance(unit, Phased) for _, unit in found.units)
    assert any("no image of its own" in why for why in found.apart.values())


def changed(kernel: Kernel, old: Statement, new: Statement) -> Kernel:
    """The kernel with another statement in place of one that stands outside its streams."""
    assert old in kernel.body
    return replace(kernel, body=tuple(new if each == old else each for each in kernel.body))


def with_part(found: Phased, at: int, part: Part) -> Phased:
    phases = (*found.phases[:at], (part,), *found.phases[at + 1 :])
    return replace(found, phases=phases)


def test_a_missing_barrier_is_refused() -> None:
    found = group(NORM)
    first, second, third = found.phases
    with pytest.raises(CompilerFault, match="a barrier is missing"):
        check_phases(replace(found, phases=((*first, *second), third)))


def test_phases_in_another_order_are_refused() -> None:
    found = group(NORM)
    first, second, third = found.phases
    with pytest.raises(CompilerFault, match="out of order"):
        check_phases(replace(found, phases=(second, first, third)))


def test_the_statistics_of_another_image_are_refused() -> None:
    """At the first image whichever it is, or at the place in another axis."""
    found = group(NORM)
    (last,) = found.phases[2]
    load = next(each for each in last.kernel.body if isinstance(each, Load) and len(each.index) == 1)
    other = next(axis.name for axis in last.kernel.grid if axis.name not in last.image)
    for index in (0, other):
        wrong = changed(last.kernel, load, replace(load, index=(index,)))
        part = Part(replace(last.written, kernel=wrong), last.image)
        with pytest.raises(CompilerFault, match="at other images than its own"):
            check_phases(with_part(found, 2, part))


def test_other_images_than_those_of_the_group_are_refused() -> None:
    found = group(NORM)
    (last,) = found.phases[2]
    for image, why in (("h", "other images than the first"), ("x", "no axes of its grid")):
        with pytest.raises(CompilerFault, match=why):
            check_phases(with_part(found, 2, Part(last.written, (image,))))


def test_two_kernels_that_store_one_tensor_are_refused() -> None:
    found = group(NORM)
    with pytest.raises(CompilerFault, match="stores what another kernel stores"):
        check_phases(replace(found, phases=(*found.phases, found.phases[2])))


def test_a_kernel_reads_nothing_that_it_stores() -> None:
    (last,) = group(NORM).phases[2]
    load = next(each for each in last.kernel.body if isinstance(each, Load) and len(each.index) == 3)
    out = next(buffer.name for buffer in last.kernel.buffers if buffer.role == "out")
    with pytest.raises(CompilerFault, match="a barrier is missing"):
        check_kernel(changed(last.kernel, load, replace(load, buffer=out)))


# --- what it computes


def given(made: Program, images: int) -> dict[str, Tensor]:
    """Inputs and weights, each a slice of something larger."""
    torch.manual_seed(images)
    sizes = dict(made.fixed)
    for declaration in made.declarations:
        for axis in declaration.leaf.over:
            if axis.size is None:
                sizes.setdefault(axis, {"b": images, "h": 9, "w": 5}.get(axis.name, 4))
    shapes = {
        each.leaf.name: [prod(evaluate_size(size(axis), sizes) for axis in item) for item in each.items]
        for each in made.declarations
    }
    return {name: torch.randn([*shape, 2])[..., 0] for name, shape in shapes.items()}


BLOCKS: Mapping[str, Program] = {
    "joint norm": blocks.joint_norm.program(c=5),
    "SE": blocks.excited.program(c=8),
    "channel attention": blocks.channel_attention.program(c=4),
    "GRN": blocks.responsive.program(c=64),
    "gradient of SE": gradient(blocks.excited.program(c=4)),
}

FORWARD = [name for name in BLOCKS if not name.startswith("gradient")]


@pytest.mark.parametrize("name", BLOCKS)
def test_bits_are_those_of_kernels_apart(name: str) -> None:
    """For any number of images and threads: image by image, and phase by phase."""
    made = BLOCKS[name]
    call, before = Compiled(made, backend="cpp"), torch.get_num_threads()
    other: Executable | None = None
    try:
        for images in (1, 2, 3, 7):
            tensors = given(made, images)
            found = {threads: on_threads(call, tensors, threads) for threads in (1, 2, 3)}
            assert call.last is not None
            other = other or executable_apart(call, call.last)
            wanted = run_apart(call, call.last, other, tensors)
            for threads, results in found.items():
                assert results.keys() == wanted.keys()
                assert all(torch.equal(results[key], wanted[key]) for key in wanted), (images, threads)
    finally:
        torch.set_num_threads(before)
    assert call.last is not None
    assert other is not None
    assert len(call.last.executable.steps) < len(other.steps)


def on_threads(call: Compiled, tensors: Mapping[str, Tensor], threads: int) -> dict[str, Tensor]:
    torch.set_num_threads(threads)
    return call.run(tensors)


def executable_apart(call: Compiled, prepared: Prepared) -> Executable:
    """The same program with one launch a kernel."""
    made = call.assembler_of(prepared)
    schedule = replace(schedule_for("cpp", made.target, made.precision), phases=False)
    return replace(made, schedule=schedule).executable(prepared.sizes)


def run_apart(
    call: Compiled, prepared: Prepared, other: Executable, tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    values = other.measure(prepared.sizes)
    numbers = [[values[form] for form in step.numbers] for step in other.steps if isinstance(step, Call)]
    return replace(prepared, executable=other, numbers=numbers)(tensors)


def test_a_batch_may_be_empty() -> None:
    made = plait.compile(plait.parse(NORM.replace("[b, h", "[..., h")), backend="cpp")
    for shape in ((0, 9, 5), (3, 0, 9, 5), (2, 3, 9, 5)):
        x = torch.randn(shape)
        wanted = torch.nn.functional.layer_norm(x.double(), (9, 5))
        found = made(x)
        assert isinstance(found, Tensor)
        nearly(found, wanted)


def test_the_rule_of_the_call_is_that_of_the_report() -> None:
    """The printed entry and `Phased.image_by_image` say the same."""
    found = replace(group(NORM), lone_products=3)
    assert found.image_by_image(8, 96, 2)
    assert not found.image_by_image(8, 95, 2), "the lanes of one image cost more than it has"
    busy = [images for images in range(12) if found.image_by_image(images, 96, 4)]
    assert busy == [3, 4, 6, 7, 8, 9, 10, 11]


# --- what is said of it


RATES = "products=1e11 bytes=1e10 functions=1e9"


def test_explain_says_what_runs_as_one_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAIT_MACHINE", RATES)
    made = plait.compile(plait.parse(NORM), backend="cpp")
    text = " ".join(str(made.explain({"x": (6, 40, 5)})).split())
    assert "norm: 1 kernel of 3 phases" in text
    assert "3 phases for the images along b" in text
    assert "phase 3, y[b, h, c]: tiles of the result" in text


def test_explain_says_why_a_kernel_stands_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAIT_MACHINE", RATES)
    made = plait.compile(plait.parse(BATCHED), backend="cpp")
    text = " ".join(str(made.explain({"x": (6, 40, 5)})).split())
    assert "batched: 3 kernels" in text
    assert "apart the kernel before it has no image of its own for it: what is read is made of all" in text


def test_explain_says_why_a_gpu_launches_each_phase() -> None:
    made = plait.compile(plait.parse(NORM), backend="triton")
    text = " ".join(str(made.explain({"x": (6, 40, 5)})).split())
    assert "norm: 3 kernels" in text
    assert "launched by itself: blocks of one launch do not wait for each other" in text


def test_traffic_counts_what_a_cache_keeps_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that fits a core's cache crosses memory once where images are taken one by one, and once a
    phase else."""
    made = plait.compile(plait.parse(NORM), backend="cpp")
    for cores, factor in (
        ("cache=9999 threads=2", "1.00"),
        ("cache=99 threads=2", "2.01"),
        ("cache=9999 threads=4", "2.01"),
    ):
        monkeypatch.setenv("PLAIT_MACHINE", f"{RATES} {cores}")
        assert f", {factor} times the" in str(made.explain({"x": (2, 40, 5)})), cores


def test_a_graph_of_phases_runs() -> None:
    made = plait.compile(plait.parse(BESIDE), backend="cpp")
    x = torch.randn(2, 5, 9, 3)
    wanted = made(x)
    assert len(made.kernels) == 1
    (found,) = made.graph(x)
    assert torch.equal(found, wanted)

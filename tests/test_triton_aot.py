"""Ahead of time, without a GPU: kernels compile for the GPUs of every maker, on their matrix units, in
their registers, with wide loads. One process compiles them all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from kernel_corners import (
    bounds_of_outer_chunks,
    carries_that_change_places,
    integers_beyond_32_bits,
    several_axes_of_one_dimension,
    truth_values_of_one_and_of_many,
)
from kernel_products import products_in_a_batch, products_of_what_may_be_absent
from kernel_sketches import FOLDED, Sketch, circular
from plait.backends.triton.aot import KernelReport, Work, reports, reports_for
from plait.backends.triton.ops import SPELLINGS
from plait.backends.triton.options import Options, Precision, default_options
from plait.compiler.kernels.kernel import Carry, Kernel, RealType, StreamAxis
from plait.compiler.schedules.target import GPUS
from plait.dsl.errors import CompilerFault
from plait.dsl.mistakes import InvalidArgument
from plait.dsl.ops import OPS, Kind

TARGETS = ("sm_80", "sm_90", "gfx942")
Key = tuple[str, str]


def attention(real: RealType = "float32") -> Kernel:
    """Circular attention with 64 channels on tiles of 8x8 queries and 8x8 keys."""
    kernel = circular((1, 5, 9), 64, 8, (8, 8), (8, 8)).kernel
    return replace(kernel, real=real, buffers=tuple(replace(each, real=real) for each in kernel.buffers))


def every_operation(real: RealType) -> Kernel:
    """All operations on loaded values, their results added up so that none is left out, which compiles each
    spelling and each function of the library."""
    k = Sketch({"N": 100}, real)
    kinds: tuple[Kind, ...] = ("real", "int", "bool")
    k.tiled("i", "N", 32)
    total: dict[Kind, str] = {}
    for kind in kinds:
        for side in ("a", "b"):
            k.input(f"{side}_{kind}s", 100, kind=kind)
            total[kind] = k.load(f"{side}_{kind}", f"{side}_{kind}s", "i", mask="i.valid", kind=kind)
    for op in SPELLINGS:
        for kind in kinds:
            result = OPS[op].rule((kind,) * OPS[op].arity)
            if result in kinds and (op, kind) != ("pow", "int"):
                k.let(f"{op}_{kind}", op, *[f"a_{kind}", f"b_{kind}"][: OPS[op].arity], kind=result)
                both = "ne" if result == "bool" else "add"
                total[result] = k.let(f"with_{op}_{kind}", both, total[result], f"{op}_{kind}", kind=result)
    for kind in kinds:
        k.output(f"out_{kind}", 100, kind=kind)
        k.store(f"out_{kind}", "i", value=total[kind], mask="i.valid")
    return k.case("every_operation").kernel


def every_fold() -> Kernel:
    """All folds of one chunk of a stream."""
    k = Sketch({"I": 5, "J": 7})
    k.input("x", 5, 7)
    k.output("o", 5)
    k.tiled("i", "I", 4)
    with k.stream([StreamAxis("j", 0, "J", 8)], [Carry("total", 0.0, "total_all", ("i",), "real")]):
        k.let("there", "and", "i.valid", "j.valid", kind="bool")
        k.load("real", "x", "i", "j", mask="there")
        k.let("bool", "gt", "real", 0.0, kind="bool")
        k.let("int", "select", "bool", "j", 0, kind="int")
        previous = "total"
        for op, kinds in FOLDED.items():
            for kind in kinds:
                k.fold(f"{op}_{kind}", op, kind, "j", kind=kind)
                k.let(f"{op}_{kind}_real", "to_real", f"{op}_{kind}")
                previous = k.let(f"total_{op}", "add", previous, f"{op}_{kind}_real")
    k.store("o", "i", value="total", mask="i.valid")
    return k.case("every_fold").kernel


@pytest.fixture(scope="module")
def compiled() -> Mapping[Key, KernelReport]:
    """Reports by what was compiled and for which GPU."""
    jobs: dict[Key, tuple[Kernel, Options]] = {}
    reals: dict[str, tuple[RealType, Precision]] = {
        "float32": ("float32", "ieee"),
        "tf32": ("float32", "tf32"),
        "bfloat16": ("bfloat16", "ieee"),
    }
    for target in TARGETS:
        machine = GPUS[target].backend
        for name, (real, precision) in reals.items():
            kernel = attention(real)
            jobs[name, target] = kernel, default_options(kernel, machine, precision)
        if target != "sm_80":
            for corner in (
                bounds_of_outer_chunks,
                carries_that_change_places,
                integers_beyond_32_bits,
                products_in_a_batch,
                products_of_what_may_be_absent,
                several_axes_of_one_dimension,
                truth_values_of_one_and_of_many,
            ):
                kernel = corner().kernel
                jobs[corner.__name__, target] = kernel, default_options(kernel, machine)
            for real in ("float32", "float64"):
                jobs[f"operations {real}", target] = every_operation(real), Options(1, 1)
            jobs["folds", target] = every_fold(), Options(1, 1)
    made = reports_for(
        [(kernel, target) for (_, target), (kernel, _) in jobs.items()],
        options=[options for _, options in jobs.values()],
        work=[Work(1e9, 1e6)] * len(jobs),
    )
    return dict(zip(jobs, made, strict=True))


def test_everything_compiles(compiled: Mapping[Key, KernelReport]) -> None:
    for (_, target), report in compiled.items():
        assert report.target == target
        assert report.registers > 0
        assert report.assembly
        assert report.source.startswith("# Written by plait")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("real", ["float32", "tf32", "bfloat16"])
def test_attention_fits_the_registers(compiled: Mapping[Key, KernelReport], real: str, target: str) -> None:
    report = compiled[real, target]
    assert report.spills == 0, str(report)
    assert report.shared_memory <= 2**16 + 2**15, str(report)


@pytest.mark.parametrize(
    ("real", "target", "unit"),
    [
        ("tf32", "sm_80", "mma"),
        ("bfloat16", "sm_80", "mma"),
        ("tf32", "sm_90", "wgmma"),
        ("bfloat16", "sm_90", "wgmma"),
        ("float32", "gfx942", "mma"),
        ("tf32", "gfx942", "mma"),
        ("bfloat16", "gfx942", "mma"),
    ],
)
def test_products_run_on_matrix_units(
    compiled: Mapping[Key, KernelReport], real: str, target: str, unit: str
) -> None:
    assert compiled[real, target].instructions[unit] > 0


@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
def test_float32_is_rounded_for_no_matrix_unit(compiled: Mapping[Key, KernelReport], target: str) -> None:
    """The default keeps all 24 bits, which the matrix units of these GPUs do not."""
    found = compiled["float32", target].instructions
    assert found["mma"] == found["wgmma"] == 0
    assert found["multiply_add"] > 1000


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("real", ["float32", "tf32", "bfloat16"])
def test_rows_are_read_in_wide_loads(compiled: Mapping[Key, KernelReport], real: str, target: str) -> None:
    found = compiled[real, target].instructions
    assert found["vector_load"] >= found["load"] // 4 > 0
    assert found["vector_store"] > 0


def test_the_roofline_is_the_slower_of_memory_and_arithmetic(compiled: Mapping[Key, KernelReport]) -> None:
    """1e9 operations and 1e6 bytes: the arithmetic of an H100 takes 14.9 us in float32 and 2.0 in tf32."""
    times = {name: compiled[name, "sm_90"].predicted_time for name in ("float32", "tf32", "bfloat16")}
    assert times == {
        "float32": pytest.approx(1e9 / 67e12),
        "tf32": pytest.approx(1e9 / 495e12),
        "bfloat16": pytest.approx(1e9 / 989e12),
    }


def test_a_report_is_text(compiled: Mapping[Key, KernelReport]) -> None:
    report = compiled["bfloat16", "sm_90"]
    first, second = str(report).splitlines()
    assert first == (
        f"circular for sm_90: {report.registers} registers, 0 bytes spilled, "
        f"{report.shared_memory} bytes of shared memory, at best 1.0 us"
    )
    assert f"wgmma {report.instructions['wgmma']}" in second
    assert "tcgen05" not in second


def test_what_triton_refuses_is_a_fault_with_the_kernel() -> None:
    kernel = every_fold()
    with pytest.raises(CompilerFault, match="num_warps must be a power of 2") as caught:
        reports([kernel], "sm_90", options=[Options(warps=3)])
    assert "triton for sm_90" in str(caught.value)
    assert str(kernel) in str(caught.value)


def test_unknown_targets_are_refused() -> None:
    with pytest.raises(InvalidArgument) as caught:
        reports([every_fold()], "sm_75")
    assert str(caught.value) == (
        "InvalidArgument: there is no target `sm_75`\n"
        "  help: one of: sm_80, sm_90, sm_100, gfx942\n"
        "  see: docs/errors.md#invalid-argument"
    )

"""The text of a source printed for Triton, the width of its integers, and its options."""

from __future__ import annotations

import re
from dataclasses import replace
from math import log

import pytest
import torch

import on_triton
import plait
from agreement import agree
from interpreting import Interpreting
from kernel_corners import CORNERS
from kernel_products import half_storage, split_products
from kernel_sketches import (
    Case,
    Sketch,
    circular,
)
from kernel_sketches import product as matrix_product
from plait.backends.assemble import Assembler
from plait.backends.precision import uniform
from plait.backends.triton.layout import Layout
from plait.backends.triton.names import unique
from plait.backends.triton.options import Options, default_options
from plait.backends.triton.printer import print_triton
from plait.backends.triton.widths import fits_int32
from plait.compiler.kernels.kernel import Carry, Let, StreamAxis
from plait.dsl.constructors.batch import expand_batch
from plait.dsl.errors import CompilerFault
from plait.dsl.program import Axis
from plait.dsl.shapes.sizes import bind_sizes
from triton_cases import half


def test_the_source_says_everything() -> None:
    """The kernel, the launch, the precision of every product, what every masked load reads elsewhere."""
    kernel = circular((1, 5, 9), 64).kernel
    options = Options(8, 3, "tf32", fusion=False)
    text = print_triton(kernel, options).text
    for line in str(kernel).splitlines():
        assert f"#     {line}".rstrip() in text
    assert "num_warps=8, num_stages=3, enable_fp_fusion=False" in text
    assert text.count("tl.dot(") == text.count('input_precision="tf32"') == 2
    assert text.count("tl.load(") == text.count("mask=") - 1 == text.count("other=0.0") == 3
    assert "plait" not in re.sub(r"#.*", "", text)
    assert max(map(len, text.splitlines())) <= 120


def test_numbers_that_meet_bfloat16_ones_are_split_in_three() -> None:
    text = print_triton(split_products().kernel, Options()).text
    assert text.count("tl.dot(") == 3 + 3 + 1
    assert text.count("B.to(tl.bfloat16).to(DOT_BFLOAT16)") == 3 + 3
    assert text.count(".to(tl.float16).to(DOT_FLOAT16)") == 2


def test_they_are_rounded_where_nothing_else_is_asked_for() -> None:
    kernel = split_products().kernel
    text = print_triton(kernel, default_options(kernel)).text
    assert text.count("tl.dot(") == text.count('input_precision="ieee"') == 1 + 1 + 1
    assert text.count(".to(tl.bfloat16).to(DOT_BFLOAT16)") == 2 + 2


def reach(steps: int) -> bool:
    """Whether a kernel takes integers of 32 bits for a vector whose last entry lies `steps` behind its first.
    Runs in the interpreting process."""
    from plait.backends.triton.launch import Built

    kernel = half_storage().kernel
    source = print_triton(kernel, Options())
    built = Built(kernel, Options(), source.text, source.function)
    vector = torch.empty_strided((2,), (steps,), device="meta")
    return built._fits_int32([vector], (20,), tuple(vector.stride()))


@pytest.mark.parametrize(("steps", "narrow"), [(0, True), (2**31 - 1, True), (2**31, False)])
def test_offsets_that_need_them_are_64_bits(triton: Interpreting, steps: int, narrow: bool) -> None:
    assert triton.call(reach, steps) is narrow


def test_lengths_whose_cubes_need_them_are_64_bits(triton: Interpreting) -> None:
    text = "mixer ramp(x[t]) -> y[t]:\n  y = x + to_real(t * t * t)\n"
    found = triton.call(on_triton.run, text, {"x": torch.zeros(1300)})["y"]
    assert torch.equal(found, (torch.arange(1300) ** 3).float())


def test_weights_are_powers_of_e(triton: Interpreting) -> None:
    text = """mixer f(q[t, d], k[t, d]) -> o[t, d]:
  like s: t
  p = softmax[s](sum[d](q * k[t: s]))
  o = sum[s](p * k[t: s])
"""
    program, tensors = plait.parse(text).program(), {"q": 2 * torch.randn(5, 4), "k": 2 * torch.randn(5, 4)}
    agree(triton.call(on_triton.run, text, tensors), program, tensors, torch.float32, "triton")


def test_names_are_made_unique() -> None:
    """An axis and a value that two streams both have are two of each afterwards; their readers follow."""
    k = Sketch({"N": 4})
    k.output("o", 4)
    k.tiled("i", "N", 4)
    for carry in ("a", "b"):
        with k.stream([StreamAxis("s", 0, "N", 2)], [Carry(carry, 0.0, "n", ("i",), "real")]):
            k.fold("f", "sum", "s", "s", mask="s.valid", kind="int")
            k.let("n", "add", carry, "f")
    k.let("r", "add", "a", "b")
    k.store("o", "i", value="r", mask="i.valid")
    first, second = (each for each in unique(k.case().kernel).body[:2])
    assert "stream s in 0 .. N by 2" in str(replace(k.case().kernel, body=(first,)))
    shown = str(replace(k.case().kernel, body=(second,)))
    assert [line.strip() for line in shown.splitlines()[4:]] == [
        "stream s_2 in 0 .. N by 2",
        "carry b[i] = 0.0",
        "f_2 = sum[s_2](s_2) where s_2.valid",
        "n_2[i] = b + f_2",
        "next b = n_2",
    ]


def test_blocks_that_triton_does_not_take_are_refused() -> None:
    k = Sketch({"N": 4})
    k.output("o", 4, 1024, 1025)
    k.tiled("n", "N", 1)
    k.local("i", 1024)
    k.local("j", 1025)
    k.let("s", "add", "i", "j", kind="int")
    k.let("r", "to_real", "s")
    k.store("o", "n", "i", "j", value="r")
    with pytest.raises(CompilerFault, match="`s` is a block of 1024x2048, more than Triton takes"):
        print_triton(k.case().kernel, Options())


def test_operations_without_a_spelling_are_refused() -> None:
    kernel = circular((1, 5, 9)).kernel
    broken = replace(kernel, body=(Let("z", "imag", ("h",), ("h",), "real"), *kernel.body))
    with pytest.raises(CompilerFault, match="no Triton spelling of `imag`"):
        print_triton(broken, Options())


def test_32_bits_are_enough_for_small_sizes_only() -> None:
    """Squares of distances overflow from 46341 on; a coordinate alone long after."""
    kernel = circular((1, 5, 9)).kernel
    assert fits_int32(kernel, [8, 4096, 30000])
    assert not fits_int32(kernel, [8, 4096, 50000])
    plain = matrix_product(5, 6, 7, (4, 2, 3), "float32", True).kernel
    assert fits_int32(plain, [5, 6, 2**31 - 64])
    assert not fits_int32(plain, [5, 6, 2**31 - 2])
    assert not fits_int32(plain, [2**20, 2**20, 1])  # more tiles than 32 bits count


@pytest.mark.parametrize(
    "statement",
    [
        ("floordiv", "i", "j"),  # j may be 0
        ("mod", "i", "j"),
        ("mul", "i", 2**31),
        ("floor", 2.5),
        ("pow", "i", 9),
    ],
)
def test_what_may_need_64_bits_gets_them(statement: tuple[str, str | float, int]) -> None:
    op, *args = statement
    kernel = matrix_product(40, 40, 40, (4, 2, 3), "float32", True).kernel
    wide = replace(kernel, body=(Let("z", op, tuple(args), (), "int"), *kernel.body))
    assert fits_int32(kernel, [40, 40, 40])
    assert not fits_int32(wide, [40, 40, 40])


def test_integers_that_come_from_data_have_64_bits() -> None:
    case = next(each for each in CORNERS if each.__name__ == "reads_where_data_says")()
    assert not fits_int32(case.kernel, case.sizes)


def test_warps_follow_the_blocks() -> None:
    warps = {}
    for channels in (16, 64, 128):
        kernel = circular((1, 5, 9), channels).kernel
        warps[channels] = [
            default_options(half(Case(kernel, [], [])).kernel).warps,
            default_options(kernel).warps,
        ]
    assert warps == {16: [4, 4], 64: [4, 8], 128: [4, 8]}
    assert default_options(circular((1, 5, 9), 16, tile=(1, 1), step=(1, 1)).kernel).warps == 1


def test_products_make_room_for_themselves() -> None:
    """Axes that a product contracts are padded to 16 places; others to a power of two."""
    layout = Layout(circular((1, 5, 9), 5).kernel)
    padded = {axis.name: axis.group.padded[axis.name] for axis in layout.axes.values() if axis.group}
    assert padded == {"h": 8, "w": 8, "d": 16, "y": 8, "x": 8}


SCALED = """
mixer scaled(q[n, d], k[m, d], v[m, d]) -> o[n, d]:
  p = softmax[m | m <= n](sum[d](q * k) * 0.25)
  o = sum[m](p * v)
"""


def test_a_weight_of_a_softmax_costs_no_mask_and_one_product() -> None:
    """Its score is -inf where no key is; its factor and that of the base are one number."""
    program = expand_batch(plait.parse(SCALED).program(), 0)
    bound = bind_sizes(program, dict.fromkeys("qkv", (64, 64)))
    sizes: dict[Axis, int] = {axis: extent for axis, extent in bound.items() if isinstance(extent, int)}
    (made,) = Assembler(program, "triton", uniform(program, torch.bfloat16)).written(sizes).values()
    text = print_triton(made.kernel, default_options(made.kernel)).text
    stream, _, _ = text.partition("    if has_nan(")
    assert f"tl.exp2(sub_2 * {0.25 / log(2)!r})" in stream
    assert "weight_masked" not in stream and "exponential(" not in stream
    assert "shown = tl.where(in_" in stream and ", score, float" in stream


def test_only_matrix_units_that_read_shared_memory_limit_registers() -> None:
    options = Options(registers=128)
    assert options.launch(9)["maxnreg"] == 128
    assert "maxnreg" not in options.launch(8) and "maxnreg" not in Options().launch(9)


def test_exact_attention_has_more_warps_where_it_would_spill() -> None:
    """Which it does before sm_90 only; a kernel of one carry does nowhere."""
    options = default_options(circular((1, 5, 9), 64, 8, (8, 8), (8, 8)).kernel, "cuda", "ieee")
    assert [options.launch(capability)["num_warps"] for capability in (8, 9)] == [16, 8]
    assert Options(4).launch(8)["num_warps"] == 4

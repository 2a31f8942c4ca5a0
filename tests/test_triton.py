"""Kernels printed for Triton mean what the Kernel language says: values under Triton's interpreter, the
text of the source, the file that holds it, and what a launch refuses."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import kernel_meaning
from interpreting import Interpreting
from kernel_corners import CORNERS, half_storage, split_products
from kernel_sketches import (
    FOLDED,
    INF,
    Case,
    Sketch,
    circular,
    depthwise,
    elementwise,
    folded,
    streamed_outputs,
    total,
)
from kernel_sketches import product as matrix_product
from plait.backends.triton.layout import Layout
from plait.backends.triton.names import unique
from plait.backends.triton.ops import FOLDS, IDENTITY, SPELLINGS, WITHOUT_KERNEL
from plait.backends.triton.options import Options, default_options
from plait.backends.triton.printer import library, print_triton
from plait.backends.triton.widths import fits_int32
from plait.compiler.interpret import OPERATIONS
from plait.compiler.kernel import Carry, Kernel, Let, RealType, StreamAxis
from plait.compiler.partial import DTYPES
from plait.dsl.errors import CompilerFault
from plait.dsl.mistakes import WrongDevice, WrongDtype, WrongRank
from plait.dsl.ops import OPS, Kind, join


@pytest.fixture(scope="module")
def triton() -> Iterator[Interpreting]:
    """The process in which kernels are interpreted."""
    process = Interpreting()
    yield process
    process.close()


def launched(case: Case, options: Options | None = None) -> list[Tensor]:
    """The outputs of a case, no factor of a product rounded if nothing else is asked for. Runs in the
    interpreting process."""
    from plait.backends.triton.launch import build

    chosen = options or default_options(case.kernel, precision="ieee")
    build(case.kernel, chosen)(case.tensors, case.sizes)
    pairs = zip(case.kernel.buffers, case.tensors, strict=True)
    return [tensor for buffer, tensor in pairs if buffer.role == "out"]


def budget(dtype: torch.dtype, length: int = 1) -> float:
    """The relative error that rounding explains: a few units in the last place for every operation of a
    chain and for every eight terms of a sum. The interpreter truncates to bfloat16, which doubles it."""
    return torch.finfo(dtype).eps * (8 + length / 8) * (2 if dtype == torch.bfloat16 else 1)


def close(found: Tensor, wanted: Tensor, length: int = 1) -> None:
    """Equal integers and truth values; reals within the budget, of the largest of their row of results."""
    if not found.is_floating_point():
        assert torch.equal(found, wanted.to(found.dtype))
        return
    wanted = wanted.to(torch.float64)
    assert torch.equal(found.isnan(), wanted.isnan())
    assert torch.equal(found.isinf(), wanted.isinf())
    finite = wanted.isfinite()
    error = (found.double() - wanted)[finite].abs()
    scale = wanted[finite].abs().max() if error.numel() else torch.tensor(1.0)
    assert error.numel() == 0 or error.max() <= budget(found.dtype, length) * scale


def agrees(triton: Interpreting, case: Case, length: int = 1) -> None:
    """Triton's outputs are what the kernel means."""
    wanted = kernel_meaning.run(case.kernel, case.tensors, case.sizes)
    for found, value in zip(triton.call(launched, case), wanted, strict=True):
        close(found, value, length)


# --- operations


def test_every_operation_is_spelled() -> None:
    assert SPELLINGS.keys() | set(WITHOUT_KERNEL) == OPS.keys()
    assert not SPELLINGS.keys() & set(WITHOUT_KERNEL)
    assert FOLDS.keys() == IDENTITY.keys() == {"sum", "prod", "max", "min", "any", "all"}


def test_every_function_of_a_spelling_is_in_the_library() -> None:
    rows = (*SPELLINGS.values(), *FOLDS.values())
    templates = [text for row in rows for text in (row.reals, row.integers or "")]
    called = {name for text in templates for name in re.findall(r"(?<![\w.])(\w+)\(", text)}
    assert called <= library().keys()


REALS = [
    0.0,
    -0.0,
    1e-4,
    -1e-4,
    0.3,
    -0.3,
    0.5,
    -0.5,
    1.0,
    -1.0,
    1.5,
    2.5,
    -2.5,
    3.0,
    -4.0,
    6.75,
    20.0,
    -20.0,
]
REALS += [300.0, -300.0, 1e10, -1e10, float("inf"), float("-inf"), float("nan")]
INTEGERS = [-7, -3, -2, -1, 0, 1, 2, 3, 5, 1000]
SAMPLES: dict[Kind, list[float] | list[int] | list[bool]] = {
    "real": REALS,
    "int": INTEGERS,
    "bool": [True, False],
}


def samples(kinds: tuple[Kind, ...], real: torch.dtype) -> list[Tensor]:
    """All pairs of samples of these kinds."""
    columns = zip(*product(*(SAMPLES[kind] for kind in kinds)), strict=True)
    types = [real if kind == "real" else DTYPES[kind] for kind in kinds]
    return [torch.tensor(column, dtype=dtype) for column, dtype in zip(columns, types, strict=True)]


def operation_cases(op: str, real: torch.dtype, tile: int) -> list[tuple[Case, Tensor]]:
    """An operation on every choice of kinds that it takes, and the float64 values that it should give."""
    kinds: tuple[Kind, ...] = ("real", "int", "bool")
    made: list[tuple[Case, Tensor]] = []
    for chosen in product(kinds, repeat=OPS[op].arity):
        result = OPS[op].rule(chosen)
        if result not in kinds or (op == "pow" and "real" not in chosen):
            continue
        tensors = samples(chosen, real)
        common = DTYPES[join(*chosen, result)]
        wanted = OPERATIONS[op](*(tensor.to(common) for tensor in tensors)).to(DTYPES[result])
        made.append((elementwise(op, chosen, result, tensors, tile), wanted))
    return made


@pytest.mark.parametrize("real", [torch.float32, torch.float64])
@pytest.mark.parametrize("op", sorted(SPELLINGS))
def test_operations(triton: Interpreting, op: str, real: torch.dtype) -> None:
    cases = operation_cases(op, real, 256)
    assert cases
    for case, wanted in cases:
        (found,) = triton.call(launched, case)
        if not found.is_floating_point():
            assert torch.equal(found, wanted), case.kernel
            continue
        wanted = wanted.to(found.dtype)
        assert torch.equal(found.isnan(), wanted.isnan()), case.kernel
        finite = wanted.isfinite()
        assert torch.equal(found[wanted.isinf()], wanted[wanted.isinf()])
        tiny = torch.finfo(found.dtype).tiny
        size = wanted[finite].abs().clamp_min(tiny)
        error = (found - wanted)[finite].abs() / size
        # a power is exp of a logarithm, whose own rounding error grows with it
        chain = size.log().abs() * (8 if op == "pow" else 0)
        assert bool((error <= budget(found.dtype) + budget(found.dtype) / 8 * chain).all()), case.kernel


@pytest.mark.parametrize("op", ["floordiv", "round", "tanh", "and"])
def test_operations_on_numbers(triton: Interpreting, op: str) -> None:
    """The same without lanes, one number a program."""
    for case, _ in operation_cases(op, torch.float32, 1):
        agrees(triton, Case(case.kernel, [tensor[:7] for tensor in case.tensors], [min(7, case.sizes[0])]))


def test_truth_values_become_numbers(triton: Interpreting) -> None:
    results: dict[str, Kind] = {"to_int": "int", "to_real": "real"}
    for op, result in results.items():
        case = elementwise(op, ("bool",), result, [torch.tensor([True, False, True])], 2)
        agrees(triton, case)


@pytest.mark.parametrize("power", [-4, -1, -0.5, 0, 0.5, 1, 2, 3, 4, 1.7, INF])
def test_powers_of_literals(triton: Interpreting, power: float) -> None:
    k = Sketch({"N": 9})
    k.given("x", torch.tensor([0.0, 0.5, 1.0, 2.0, 3.0, 1e-3, 1e3, 7.0, 0.1]))
    k.output("o", 9)
    k.tiled("i", "N", 4)
    k.load("X", "x", "i", mask="i.valid")
    k.let("r", "pow", "X", power)
    k.store("o", "i", value="r", mask="i.valid")
    agrees(triton, k.case())


# --- statements


@pytest.mark.parametrize("kernel", CORNERS, ids=lambda kernel: kernel.__name__)
def test_corners(triton: Interpreting, kernel: Callable[[], Case]) -> None:
    agrees(triton, kernel(), 64)


@pytest.mark.parametrize("tile", [(1, 1), (4, 3), (16, 16)], ids=str)
def test_stores_in_streams(triton: Interpreting, tile: tuple[int, int]) -> None:
    agrees(triton, streamed_outputs(19, 17, 23, *tile), 17)


@pytest.mark.parametrize("tile", [1, 4, 64])
def test_lanes_of_a_stream(triton: Interpreting, tile: int) -> None:
    agrees(triton, total((3, 21), tile), 63)


def test_halo_tiles_are_refused() -> None:
    with pytest.raises(CompilerFault, match="`X_at` reads a staged tile"):
        print_triton(depthwise((2, 5, 6), 3, 1, (4, 4)).kernel, Options())


@pytest.mark.parametrize(("op", "kind"), [(op, kind) for op, kinds in FOLDED.items() for kind in kinds])
def test_folds(triton: Interpreting, op: str, kind: Kind) -> None:
    for tile, step in ((1, 1), (4, 3), (3, 4)):
        agrees(triton, folded(op, kind, tile, step), 21)


@pytest.mark.parametrize("op", ["max", "min"])
def test_folds_keep_what_is_not_a_number(triton: Interpreting, op: str) -> None:
    case = folded(op, "real", 4, 4, nan=True)
    found = triton.call(launched, case)
    assert found[1].isnan().tolist() == [
        [row == 1 and column == 1 for column in range(3)] for row in range(5)
    ]
    agrees(triton, case)


@pytest.mark.parametrize("lane", [True, False])
@pytest.mark.parametrize(
    ("size", "tile"),
    [((1, 1, 1), (16, 16, 16)), ((17, 19, 33), (16, 16, 32)), ((5, 6, 7), (4, 2, 3)), ((3, 2, 3), (1, 1, 1))],
)
def test_products(
    triton: Interpreting, size: tuple[int, int, int], tile: tuple[int, int, int], lane: bool
) -> None:
    real: RealType = "float32" if lane else "float64"
    agrees(triton, matrix_product(*size, tile, real, lane), size[2])


def test_large_products_are_dots_and_small_ones_are_not() -> None:
    large = matrix_product(17, 19, 33, (16, 16, 32), "float32", True).kernel
    small = matrix_product(5, 6, 7, (4, 2, 3), "float32", True).kernel
    assert print_triton(large, Options()).text.count("tl.dot(") == 1
    assert "tl.dot(" not in print_triton(small, Options()).text


# --- circular attention


def dense(case: Case, radius: int) -> Tensor:
    """Circular attention in float64 by its definition, every pair of places at once."""
    q, k, v = (tensor.double().flatten(1, 2) for tensor in case.tensors[:3])
    batch, height, width, channels = case.tensors[0].shape
    at = torch.arange(height * width)
    y, x = at // width, at % width
    near = (y[:, None] - y) ** 2 + (x[:, None] - x) ** 2 < radius**2
    scores = (q @ k.transpose(1, 2) * channels**-0.5).masked_fill(~near, float("-inf"))
    return (scores.softmax(-1) @ v).reshape(batch, height, width, channels)


@pytest.mark.parametrize("real", ["float32", "float64"])
@pytest.mark.parametrize(
    ("sizes", "tile", "step"),
    [
        ((1, 1, 1), (8, 8), (8, 8)),
        ((2, 7, 11), (8, 8), (8, 8)),
        ((1, 9, 17), (8, 8), (8, 8)),
        ((1, 5, 9), (4, 8), (1, 32)),
        ((1, 5, 7), (3, 5), (2, 3)),
        ((1, 2, 3), (1, 1), (1, 1)),
    ],
)
def test_circular_attention(
    triton: Interpreting,
    sizes: tuple[int, int, int],
    tile: tuple[int, int],
    step: tuple[int, int],
    real: RealType,
) -> None:
    case = circular(sizes, 16, 4, tile, step, real)
    (found,) = triton.call(launched, case)
    close(found, dense(case, 4), 64)


@settings(max_examples=8)
@given(
    sizes=st.tuples(*[st.integers(1, 7)] * 2),
    tile=st.tuples(*[st.integers(1, 5)] * 2),
    step=st.tuples(*[st.integers(1, 9)] * 2),
    channels=st.integers(1, 20),
    radius=st.integers(1, 6),
)
def test_circular_attention_anyhow(
    triton: Interpreting,
    sizes: tuple[int, int],
    tile: tuple[int, int],
    step: tuple[int, int],
    channels: int,
    radius: int,
) -> None:
    tile = (max(tile[0], sizes[0] // 2), max(tile[1], sizes[1] // 2))  # few programs
    step = (max(step[0], 2), max(step[1], 2))  # of few chunks
    case = circular((1, *sizes), channels, radius, tile, step)
    (found,) = triton.call(launched, case)
    close(found, dense(case, radius), 64)


def test_any_strides(triton: Interpreting) -> None:
    case = circular((2, 5, 9))
    shape = case.tensors[0].shape
    generator = torch.Generator().manual_seed(3)
    whole = torch.randn(9, 16, 5, 4, generator=generator)
    case.tensors[0] = whole[:, :, :, ::2].permute(3, 2, 0, 1)  # transposed and sliced
    case.tensors[1] = torch.randn(5, 1, 16, generator=generator).expand(shape)  # the same in all columns
    case.tensors[2] = torch.randn(2, 5, 9, 32, generator=generator)[..., 3:19]  # rows that are not aligned
    case.tensors[3] = torch.full((16, 9, 5, 2), 777.0).permute(3, 2, 1, 0)
    (found,) = triton.call(launched, case)
    close(found, dense(case, 4), 64)


def test_what_is_not_a_number_stays_where_it_is_read(triton: Interpreting) -> None:
    """The row of a broken query, and the rows that see a broken key; the others as if it were not there."""
    case = circular((1, 9, 9), radius=3)
    case.tensors[0][0, 8, 8] = float("nan")
    case.tensors[1][0, 0, 0] = float("nan")
    (found,) = triton.call(launched, case)
    at = torch.arange(9)
    broken = at[:, None] ** 2 + at**2 < 9
    broken[8, 8] = True
    assert torch.equal(found[0].isnan().all(-1), broken)
    assert torch.equal(found[0].isnan().any(-1), broken)
    case.tensors[0][0, 8, 8] = case.tensors[1][0, 0, 0] = 0.0
    close(found[0][~broken], dense(case, 3)[0][~broken], 64)


def test_nothing_is_launched_for_an_empty_grid(triton: Interpreting) -> None:
    case = circular((2, 0, 5))
    (found,) = triton.call(launched, case)
    assert found.shape == (2, 0, 5, 16)


def in_parts(case: Case, most: int) -> list[Tensor]:
    """The outputs where a launch takes few programs only. Runs in the interpreting process."""
    from plait.backends.triton import launch

    before, launch.MOST_PROGRAMS = launch.MOST_PROGRAMS, most
    try:
        return launched(case)
    finally:
        launch.MOST_PROGRAMS = before


def test_a_grid_larger_than_a_launch(triton: Interpreting) -> None:
    case = circular((3, 9, 9))
    (found,) = triton.call(in_parts, case, 5)
    close(found, dense(case, 4), 64)


def half(case: Case) -> Case:
    kernel = replace(
        case.kernel,
        real="bfloat16",
        buffers=tuple(replace(buffer, real="bfloat16") for buffer in case.kernel.buffers),
    )
    return Case(kernel, [tensor.bfloat16() for tensor in case.tensors], case.sizes)


def test_bfloat16(triton: Interpreting) -> None:
    case = half(circular((1, 5, 9)))
    (found,) = triton.call(launched, case)
    assert found.dtype == torch.bfloat16
    close(found, dense(case, 4))


# --- the source


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


# --- widths and options


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
    assert warps == {16: [4, 4], 64: [4, 16], 128: [8, 16]}
    assert default_options(circular((1, 5, 9), 16, tile=(1, 1), step=(1, 1)).kernel).warps == 1


def test_products_make_room_for_themselves() -> None:
    """Axes that a product contracts are padded to 16 places; others to a power of two."""
    layout = Layout(circular((1, 5, 9), 5).kernel)
    padded = {axis.name: axis.group.padded[axis.name] for axis in layout.axes.values() if axis.group}
    assert padded == {"h": 8, "w": 8, "d": 16, "y": 8, "x": 8}


# --- files and launches


def places(case: Case) -> tuple[Path, str]:
    from plait.backends.triton.launch import build

    built = build(case.kernel)
    return built.path, built.source


def test_the_source_is_a_file_of_the_cache(triton: Interpreting) -> None:
    path, source = triton.call(places, circular((1, 5, 9)))
    assert path.read_text(encoding="utf-8") == source
    assert path.parent.name == "triton"
    path.write_text("broken", encoding="utf-8")
    assert triton.call(places, circular((1, 5, 9))) == (path, source)
    assert path.read_text(encoding="utf-8") == source
    assert not list(path.parent.glob("*.tmp"))


def pickled(case: Case) -> bytes:
    from plait.backends.triton.launch import build

    return pickle.dumps(build(case.kernel))


def unpickled(data: bytes, case: Case) -> tuple[str, list[Tensor]]:
    built = pickle.loads(data)
    built.path.unlink()
    built(case.tensors, case.sizes)
    return built.backend, case.tensors


def test_a_built_kernel_outlives_its_process(triton: Interpreting) -> None:
    case = circular((1, 5, 9))
    backend, tensors = triton.call(unpickled, pickled(case), case)
    assert backend == "triton"
    close(tensors[-1], dense(case, 4), 64)


def compiled(case: Case) -> None:
    """A launch in this process, where nothing is interpreted."""
    from plait.backends.triton.launch import build

    build(case.kernel)(case.tensors, case.sizes)


def test_cpu_tensors_need_the_interpreter() -> None:
    with pytest.raises(WrongDevice) as caught:
        compiled(circular((1, 5, 9)))
    assert str(caught.value) == (
        "WrongDevice: Triton kernel `circular` cannot run on cpu tensors\n"
        '  help: move them to a GPU, or ask for backend="cpp"\n'
        "  help: to interpret the kernel on the CPU, slowly, start Python with TRITON_INTERPRET=1\n"
        "  see: docs/errors.md#wrong-device"
    )


def test_one_call_has_one_device() -> None:
    case = circular((1, 5, 9))
    case.tensors[1] = torch.empty(1, 5, 9, 16, device="meta")
    with pytest.raises(WrongDevice, match="`q` on cpu, `k` on meta, `v` on cpu, `o` on cpu"):
        compiled(case)


def test_tensors_are_what_the_buffers_say() -> None:
    q, k, *rest = circular((1, 5, 9)).tensors
    for wrong, mistake, words in (
        (k[0], WrongRank, "`k` has 3 dimensions where kernel `circular` takes 4"),
        (k.double(), WrongDtype, r"`k` is torch\.float64 where kernel `circular` takes torch\.float32"),
    ):
        with pytest.raises(mistake, match=words):
            compiled(replace(circular((1, 5, 9)), tensors=[q, wrong, *rest]))


@pytest.mark.gpu
@pytest.mark.parametrize("kernel", CORNERS, ids=lambda kernel: kernel.__name__)
def test_corners_on_a_gpu(kernel: Callable[[], Case]) -> None:
    case = kernel()
    wanted = kernel_meaning.run(case.kernel, case.tensors, case.sizes)
    found = launched(Case(case.kernel, [tensor.cuda() for tensor in case.tensors], case.sizes))
    for each, value in zip(found, wanted, strict=True):
        close(each.cpu(), value, 64)


@pytest.mark.gpu
@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 7, 11), (2, 64, 64)])
def test_circular_attention_on_a_gpu(sizes: tuple[int, int, int]) -> None:
    case = circular(sizes, 64, 8)
    (found,) = launched(Case(case.kernel, [tensor.cuda() for tensor in case.tensors], case.sizes))
    close(found.cpu(), dense(case, 8), 64)


def test_kernels_are_plain_data() -> None:
    """What travels between processes is the kernel itself."""
    kernel: Kernel = circular((1, 5, 9)).kernel
    assert pickle.loads(pickle.dumps(kernel)) == kernel

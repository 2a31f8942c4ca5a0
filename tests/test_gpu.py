"""Programs on a GPU, in this process, beside the float64 reference on the CPU: values and first gradients.

Float32 products are asked for in `ieee` precision, which is what the printer writes by default, and torch's own
switches for TF32 take no part: float32 results are held to the same bounds as on a CPU. Nothing here allows for
TF32. Bounds are those of `backends/budget.py`, entry by entry for generated programs (`backends/rounding.py`).

Examples are drawn but not shrunk, since each one compiles kernels. `pytest -n 12` spreads them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import Phase, given, seed, settings
from hypothesis import strategies as st
from torch import Tensor

import against_torch
import golden_cases
import plait
import precisions
import test_stdlib_activations
import test_stdlib_attention
import test_stdlib_convolutions
import test_stdlib_linears
import test_stdlib_norms
import test_stdlib_pooling
from agreement import agree, agree_gradients, check_gradients, check_values
from devices import DEVICE, as_stored, placed, there
from kernel_families import FAMILIES
from plait.backends.compiled import Compiled
from strategies import Example, examples
from test_programs import PROGRAMS, header, tensors_for

pytestmark = pytest.mark.gpu

NARROW = (torch.bfloat16, torch.float16)
DTYPES = (torch.float32, torch.float64, *NARROW)


@pytest.fixture(autouse=True)
def after() -> Iterator[None]:
    """A fault of the device ends a worker of xdist, since nothing runs in its process any more."""
    yield
    try:
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
    except RuntimeError as fault:
        print(f"the device failed: {fault}", file=sys.stderr, flush=True)
        if "PYTEST_XDIST_WORKER" in os.environ:
            os._exit(1)
        raise


def drawn(
    strategy: st.SearchStrategy[Example], start: int, count: int, check: Callable[[Example], None]
) -> None:
    """Check so many examples of the strategy, others for each start."""

    @seed(start)
    @settings(max_examples=count, phases=[Phase.generate])
    @given(strategy)
    def run(example: Example) -> None:
        check(example)

    run()


# --- generated programs


@pytest.mark.parametrize("start", range(2))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_values(family: str, dtype: torch.dtype, start: int) -> None:
    drawn(FAMILIES[family], start, 5, lambda each: check_values(as_stored(each, dtype), "triton", there))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients(family: str, dtype: torch.dtype) -> None:
    drawn(FAMILIES[family], 7, 3, lambda each: check_gradients(as_stored(each, dtype), "triton", there))


@pytest.mark.parametrize("start", range(4))
def test_any_program(start: int) -> None:
    """All forms, in float64: what has a kernel by its kernel, the rest by its reference operation."""
    drawn(examples(), start, 6, lambda each: check_values(as_stored(each, torch.float64), "triton", there))


RUNNING = [path for path in PROGRAMS if header(path.read_text(encoding="utf-8")).error is None]


@pytest.mark.parametrize("path", RUNNING, ids=lambda path: path.stem)
def test_regression_programs(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    program, case = plait.parse(text).program(), header(text)
    for sizes in case.sizes or [{}]:
        tensors = tensors_for(program, case, sizes)
        found = Compiled(program, backend="triton", on_unfused="quiet").run(
            {name: placed(each) for name, each in tensors.items()}
        )
        agree(found, program, tensors, torch.float64, "triton")


# --- every family in every dtype, within the error budget


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("text", precisions.FAMILIES, ids=precisions.name_of)
def test_values_are_within_the_budget(text: str, dtype: torch.dtype) -> None:
    made, given_ = precisions.program(text), precisions.tensors(text, dtype)
    compiled = Compiled(made, backend="triton", on_unfused="error")
    (found,) = compiled.run({name: placed(each) for name, each in given_.items()}).values()
    (wanted,) = precisions.exact(made, given_).values()
    assert found.dtype == dtype and found.device.type == DEVICE.type
    assert precisions.off(found.cpu(), wanted) <= precisions.bound(made, given_, dtype, matrix_units=True)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("text", precisions.FAMILIES, ids=precisions.name_of)
def test_gradients_are_within_the_budget(text: str, dtype: torch.dtype) -> None:
    made, given_ = precisions.program(text), precisions.tensors(text, dtype)
    leaves = {name: placed(each).requires_grad_() for name, each in given_.items()}
    out = plait.compile(made, backend="triton")(**leaves)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    found = dict(zip(leaves, torch.autograd.grad(out, list(leaves.values()), placed(weight)), strict=True))
    assert {each.dtype for each in found.values()} == {dtype}
    agree_gradients(found, made, given_, {made.outputs[0].name: weight}, dtype, "triton")


# --- larger sizes: tiles of whole blocks, of tails, and both; more programs than multiprocessors


LARGER: dict[str, dict[str, tuple[int, ...]]] = {
    precisions.POINTWISE: {"x": (1031, 257), "y": (1031, 257)},
    precisions.NORM: {"x": (515, 769), "g": (769,)},
    precisions.LINEAR: {"x": (301, 384), "m": (129, 384)},
    precisions.STENCIL: {"x": (65, 33, 48), "k": (3, 3, 48)},
    precisions.ATTENTION: dict.fromkeys("qkv", (2, 33, 40, 64)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("text", LARGER, ids=precisions.name_of)
def test_larger_sizes(text: str, dtype: torch.dtype) -> None:
    made, generator = precisions.program(text), torch.Generator().manual_seed(3)
    given_ = {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in LARGER[text].items()}
    compiled = Compiled(made, backend="triton", on_unfused="error")
    (found,) = compiled.run({name: placed(each) for name, each in given_.items()}).values()
    (wanted,) = precisions.exact(made, given_).values()
    assert precisions.off(found.cpu(), wanted) <= precisions.bound(made, given_, dtype, matrix_units=True)


UNUSUAL = ("transposed", "expanded", "sliced", "one entry", "empty")


def strided(kind: str, seed: int) -> Tensor:
    """A map of 16 channels in unusual strides, or of unusual sizes."""
    generator = torch.Generator().manual_seed(seed)
    match kind:
        case "transposed":
            return torch.randn(16, 9, 7, 2, generator=generator).permute(3, 2, 1, 0)
        case "expanded":
            return torch.randn(7, 1, 16, generator=generator).expand(2, 7, 9, 16)
        case "sliced":
            return torch.randn(5, 15, 19, 35, generator=generator)[1::2, 1::2, 1::2, 3::2]
        case "one entry":
            return torch.randn(1, 1, 1, 1, generator=generator)
        case _:
            return torch.randn(0, 2, 3, 16, generator=generator)


@pytest.mark.parametrize("kind", UNUSUAL)
def test_unusual_tensors(kind: str) -> None:
    """Attention and a gradient of it; where nothing is there, nothing is launched."""
    made = precisions.program(precisions.ATTENTION)
    given_ = {name: strided(kind, seed) for seed, name in enumerate("qkv")}
    leaves = {name: placed(each).requires_grad_() for name, each in given_.items()}
    out = plait.compile(made, backend="triton")(**leaves)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    found = dict(zip(leaves, torch.autograd.grad(out, list(leaves.values()), placed(weight)), strict=True))
    agree({"o": out.detach()}, made, given_, torch.float32, "triton")
    agree_gradients(found, made, given_, {"o": weight}, torch.float32, "triton")


# --- the papers and the standard library


def expected(case: golden_cases.Case) -> dict[str, Tensor]:
    prefixes = ("out", "grad.in.", "grad.param.", "newbuf.")
    return {key: tensor for key, tensor in case.tensors.items() if key.startswith(prefixes)}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("path", golden_cases.PATHS, ids=lambda path: path.stem)
def test_papers(path: Path, dtype: torch.dtype) -> None:
    case = golden_cases.load(path)
    found = golden_cases.results(case, "triton", dtype, DEVICE)
    golden_cases.agree(found, expected(case), dtype, case.bound(dtype))


@pytest.mark.parametrize("path", golden_cases.PATHS, ids=lambda path: path.stem)
def test_papers_in_16_bits(path: Path) -> None:
    """Outputs beside those of the reference on the same rounded numbers."""
    whole = golden_cases.load(path)
    rounded = {key: tensor.bfloat16().double() for key, tensor in whole.tensors.items()}
    case = golden_cases.Case(whole.operator, whole.config, rounded)
    meant = golden_cases.results(case, "reference", torch.float64)
    found = golden_cases.results(case, "triton", torch.bfloat16, DEVICE)
    outputs = {key: each.detach() for key, each in meant.items() if key.startswith("out")}
    wrong = golden_cases.errors({key: found[key] for key in outputs}, outputs)
    assert all(error <= case.bound(torch.bfloat16, matrix_units=True) for error in wrong.values()), wrong


a, v, n, p = test_stdlib_attention, test_stdlib_convolutions, test_stdlib_norms, test_stdlib_pooling
f, linears = test_stdlib_activations, test_stdlib_linears
LAYERS: dict[str, Callable[[], None]] = {
    "activations": f.test_all_activations_in_one_program_with_gradients,
    "prelu": lambda: f.test_prelu(5),
    "attention": lambda: a.test_attention(5, 7, 4),
    "masked attention": a.test_attention_with_a_mask_a_bias_and_a_scale,
    "causal attention in a window": a.test_causal_attention_in_a_window,
    "grouped queries": lambda: a.test_grouped_queries("div", True),
    "self-attention": lambda: a.test_multi_head_self_attention_is_torchs(2, True),
    "relative positions": a.test_self_attention_of_a_map_with_a_table_of_biases,
    "rotary": lambda: a.test_rotary("halves", 7, 6),
    "dropout": lambda: a.test_dropout(True),
    "convolution": lambda: v.test_ranks(2),
    "dilated convolution": lambda: v.test_settings("dilated"),
    "grouped convolution": lambda: v.test_groups(2, 4, 6),
    "depthwise convolution": lambda: v.test_depthwise(7, True),
    "strided depthwise": v.test_strided_depthwise,
    "transposed convolution": lambda: v.test_transposed(*v.TRANSPOSED[0]),
    "reflected border": lambda: v.test_borders("reflect", "reflect"),
    "linear": lambda: linears.test_linear(7, True),
    "mlp": lambda: linears.test_mlp(11),
    "gates": lambda: linears.test_gates("swiglu"),
    "squeeze and excitation": linears.test_squeeze_excitation_stored_as_convolutions,
    "layer norm": lambda: n.test_layer_norm((3, 7, 17), 1e-5),
    "layer norm of channels first": n.test_layer_norm_of_channels_first,
    "rms norm": lambda: n.test_rms_norm((3, 17)),
    "group norm": lambda: n.test_group_norm(2, 6),
    "batch norm": lambda: n.test_batch_norm(True, 0.1),
    "average pool": lambda: p.test_average_pool_with_strides(3, 2, 1, "existing"),
    "max pool": lambda: p.test_max_pool(3, 2, 1, 1),
    "adaptive pool": lambda: p.test_adaptive_average_pool(7, 5),
    "patches": p.test_patch_embedding,
    "bilinear": p.test_bilinear_interpolation,
}


@pytest.mark.parametrize("layer", LAYERS)
def test_layers(layer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests of the standard library beside PyTorch, on this backend and device."""
    monkeypatch.setattr(against_torch, "RUNS", (("triton", torch.float64), ("triton", torch.float32)))
    monkeypatch.setattr(against_torch, "DEVICE", DEVICE)
    LAYERS[layer]()

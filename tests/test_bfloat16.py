"""Tensors stored in 16 bits: what is computed in, what results and gradients are stored in, what is refused."""

from __future__ import annotations

import hypothesis
import pytest
import torch
from torch import Tensor
from torch.func import jvp, vmap

import plait
from agreement import agree_gradients
from kernel_families import FAMILIES as FAMILIES_DRAWN
from plait.backends.assemble import Assembler
from plait.backends.budget import budget
from plait.backends.compiled import Compiled
from plait.backends.precision import uniform
from plait.dsl.mistakes import WrongDtype
from plait.dsl.shapes.sizes import expand_batch
from precisions import (
    ATTENTION,
    FAMILIES,
    LINEAR,
    NORM,
    POINTWISE,
    bound,
    exact,
    name_of,
    off,
    program,
    tensors,
)
from strategies import Example

NARROW = [torch.bfloat16, torch.float16]
families = pytest.mark.parametrize("text", FAMILIES, ids=name_of)
narrow = pytest.mark.parametrize("dtype", NARROW, ids=str)


@families
@narrow
def test_values_are_within_the_budget(text: str, dtype: torch.dtype) -> None:
    made, given = program(text), tensors(text, dtype)
    (found,) = Compiled(made, on_unfused="error").run(given).values()
    (wanted,) = exact(made, given).values()
    assert found.dtype == dtype
    assert off(found, wanted) <= bound(made, given, dtype)


@families
@narrow
def test_only_the_storage_is_narrow(text: str, dtype: torch.dtype) -> None:
    """The result is that of the same numbers in float32, rounded once."""
    made, given = program(text), tensors(text, dtype)
    call = plait.compile(made)
    wide = call(*(tensor.float() for tensor in given.values()))
    assert isinstance(wide, Tensor) and wide.dtype == torch.float32
    assert torch.equal(call(*given.values()), wide.to(dtype))


@families
def test_gradients_are_those_of_their_tensors(text: str) -> None:
    made = program(text)
    given = {name: each.requires_grad_() for name, each in tensors(text, torch.bfloat16).items()}
    out = plait.compile(made)(*given.values())
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).bfloat16()
    found = dict(zip(given, torch.autograd.grad(out, list(given.values()), weight), strict=True))
    assert {each.dtype for each in found.values()} == {torch.bfloat16}
    agree_gradients(found, made, given, {made.outputs[0].name: weight}, torch.bfloat16)


def test_long_sums_are_not_summed_in_16_bits() -> None:
    """A sum of 65536 ones in bfloat16 would stay at 256, in float16 be infinite."""
    made = program("mixer total(x[t, c]) -> z[t]:\n  z = sum[c](x) / size(c)")
    for dtype in NARROW:
        (found,) = Compiled(made).run({"x": torch.ones(2, 65536, dtype=dtype)}).values()
        assert torch.equal(found, torch.ones(2, dtype=dtype))


def test_special_values_are_handed_on() -> None:
    made = program("mixer same(x[t]) -> z[t]:\n  z = x * 1.0")
    for dtype in NARROW:
        every = torch.arange(65536, dtype=torch.int32).to(torch.uint16).view(dtype)
        (found,) = Compiled(made).run({"x": every}).values()
        number = ~every.isnan()
        assert torch.equal(found.view(torch.int16)[number], every.view(torch.int16)[number])
        assert found[~number].isnan().all()


@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (1, 17), (5, 33)])
def test_ugly_sizes_and_strides(shape: tuple[int, int]) -> None:
    made = program(POINTWISE)
    base = torch.randn(2 * shape[1] + 1, shape[0] + 1).bfloat16()
    x = base[1::2, 1:].T
    y = torch.randn(1, shape[1]).bfloat16().expand(shape)
    (found,) = Compiled(made).run({"x": x, "y": y}).values()
    (wanted,) = exact(made, {"x": x, "y": y}).values()
    assert found.shape == shape and off(found, wanted) <= bound(made, {"x": x, "y": y}, torch.bfloat16)


# --- mixed dtypes


def test_mixed_dtypes_give_the_widest() -> None:
    given = tensors(LINEAR, torch.bfloat16)
    given["m"] = given["m"].float()
    leaves = {name: each.requires_grad_() for name, each in given.items()}
    out = plait.compile(program(LINEAR))(*leaves.values())
    assert out.dtype == torch.float32
    out.sum().backward()
    assert {name: each.grad.dtype for name, each in leaves.items() if each.grad is not None} == {
        "x": torch.bfloat16,
        "m": torch.float32,
    }
    both = plait.compile(program(LINEAR))(given["x"].detach(), given["m"].detach().half())
    assert both.dtype == torch.promote_types(torch.bfloat16, torch.float16) == torch.float32


def test_one_compiled_program_takes_every_dtype() -> None:
    """Each has kernels of its own."""
    call = plait.compile(program(NORM))
    for dtype in (torch.float32, torch.bfloat16, torch.float64, torch.float16, torch.float32):
        assert call(*tensors(NORM, dtype).values()).dtype == dtype


def test_float64_mixes_with_no_other() -> None:
    given = tensors(NORM, torch.float64)
    with pytest.raises(WrongDtype) as caught:
        plait.compile(program(NORM))(given["x"], given["g"].bfloat16())
    text = str(caught.value)
    assert "`x` is torch.float64, `g` is torch.bfloat16" in text
    assert "only float32, bfloat16 and float16 go together" in text
    assert "convert them with .to(...)" in text


def test_compiling_for_a_dtype() -> None:
    call = plait.compile(program(NORM), dtype=torch.bfloat16)
    given = tensors(NORM, torch.bfloat16)
    leaves = [each.requires_grad_() for each in given.values()]
    out = call(*leaves)
    assert out.dtype == torch.bfloat16
    out.sum().backward()
    with pytest.raises(WrongDtype, match=r"compiled for torch.bfloat16, and the tensors are torch.float32"):
        call(*(each.detach().float() for each in leaves))
    with pytest.raises(WrongDtype, match=r"not torch.int8"):
        plait.compile(program(NORM), dtype=torch.int8)


# --- what lies between kernels, and updates


def test_values_between_kernels_are_not_rounded() -> None:
    """`a` is a result and is read again: what is read is what was computed."""
    made = program(
        "mixer two(x[t, c]) -> a[t], z[t, c]:\n  a = sum[c](x) / size(c)\n  z = softmax[c](x - a) * a"
    )
    x = (torch.randn(5, 67) + 300).bfloat16()
    compiled = Compiled(made)
    found = compiled.run({"x": x})
    assert {each.dtype for each in found.values()} == {torch.bfloat16}
    assert compiled.last is not None
    inner = [slot for slot in compiled.last.executable.slots if not slot.given and slot.name != "z"]
    assert all(slot.dtype == torch.float32 for slot in inner)
    wanted = exact(made, {"x": x})
    for name, each in found.items():
        assert off(each, wanted[name]) <= bound(made, {"x": x}, torch.bfloat16), name


def test_reference_steps_keep_the_dtypes() -> None:
    """The gradient of a read by data is a scatter, which no kernel computes."""
    made = program("mixer pick(x[s, c], ids[t]: index s) -> z[t, c]:\n  z = exp(x[s: ids]) * 0.5")
    x = torch.randn(6, 3).bfloat16().requires_grad_()
    ids = torch.tensor([2, 2, 0, 5, 2])
    out = plait.compile(made, on_unfused="quiet")(x, ids)
    assert out.dtype == torch.bfloat16
    out.sum().backward()
    assert x.grad is not None and x.grad.dtype == torch.bfloat16
    wanted = torch.zeros(6, 3, dtype=torch.float64).index_add(0, ids, x.detach().double()[ids].exp() * 0.5)
    assert off(x.grad, wanted) <= budget(torch.bfloat16, len(ids))


def test_the_graph_of_a_call_has_its_dtypes() -> None:
    call, given = plait.compile(program(NORM)), tensors(NORM, torch.bfloat16)
    out = call(*given.values())
    (again,) = call.graph(*given.values())
    assert again.dtype == torch.bfloat16 and torch.equal(again, out)


def test_results_of_other_kinds_and_packed_dimensions() -> None:
    made = program(
        "mixer best(x[t, (h w), c], y[h]) -> i[t, (h w)]: int, z[(h w), t]:\n"
        "  i = argmax[c](x + y * 0.0)\n  z = max[c](x)"
    )
    x = torch.randn(6, 5, 4).bfloat16().transpose(0, 1)
    index, top = plait.compile(made)(x, torch.ones(2).bfloat16())
    assert index.dtype == torch.int64 and top.dtype == torch.bfloat16
    assert torch.equal(top, x.amax(-1).T) and torch.equal(x.gather(-1, index[..., None])[..., 0], x.amax(-1))


def test_an_empty_batch() -> None:
    given = [torch.ones(0, 3, 4, 2, dtype=torch.bfloat16) for _ in "qkv"]
    out = plait.compile(program(ATTENTION))(*given)
    assert out.dtype == torch.bfloat16 and out.shape == (0, 3, 4, 2)


# --- modules, transforms, compilation


def test_a_module_in_bfloat16() -> None:
    module = _linear().to(torch.bfloat16)
    x = torch.randn(3, 5, 7).bfloat16().requires_grad_()
    out = module(x)
    assert out.dtype == torch.bfloat16
    out.sum().backward()
    assert x.grad is not None and x.grad.dtype == torch.bfloat16
    assert {each.grad.dtype for each in module.parameters() if each.grad is not None} == {torch.bfloat16}


def test_autocast_of_a_float32_module() -> None:
    """As an operation that takes the widest dtype of its arguments: float32 weights give float32."""
    module = _linear()
    x = torch.randn(3, 5, 7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert module(x).dtype == module(x.bfloat16()).dtype == torch.float32
        assert torch.equal(module(x.bfloat16()), module(x.bfloat16().float()))
        assert module.bfloat16()(x.bfloat16()).dtype == torch.bfloat16


def test_an_updated_buffer_keeps_its_dtype() -> None:
    module = _counting()
    x = torch.randn(5, 7).bfloat16()
    module.train()
    assert module(x).dtype == torch.bfloat16, "buffers do not widen a result"
    assert module.mean.dtype == torch.float32
    module.bfloat16()(x)
    assert module.mean.dtype == torch.bfloat16


def test_derivatives_of_derivatives() -> None:
    call = plait.compile(program(NORM))
    x, g = (each.requires_grad_() for each in tensors(NORM, torch.bfloat16).values())
    (first,) = torch.autograd.grad(call(x, g).sum(), x, create_graph=True)
    second = torch.autograd.grad((first * first).sum(), (x, g))
    assert first.dtype == torch.bfloat16 and {each.dtype for each in second} == {torch.bfloat16}
    value, way = jvp(lambda x: call(x, g.detach()), (x.detach(),), (torch.ones_like(x),))[:2]
    assert value.dtype == way.dtype == torch.bfloat16
    mapped = vmap(lambda x: call(x, g.detach()))(torch.stack([x.detach()] * 2))
    assert mapped.dtype == torch.bfloat16 and torch.equal(mapped[0], value)


def test_torch_compile_sees_the_same_dtypes() -> None:
    call = plait.compile(program(LINEAR))
    x, m = tensors(LINEAR, torch.bfloat16).values()
    traced = torch.compile(lambda x, m: call(x, m) * 2, backend="aot_eager", fullgraph=True)
    for given in ((x, m), (x, m.float())):
        assert torch.equal(traced(*given), call(*given) * 2)
        assert traced(*given).dtype == call(*given).dtype


def test_gpu_kernels_load_and_store_bfloat16() -> None:
    made = expand_batch(program(ATTENTION), 1)
    sizes = {axis: 8 for d in made.declarations for axis in d.leaf.over}
    (written,) = Assembler(made, "triton", uniform(made, torch.bfloat16)).written(sizes).values()
    assert written.kernel.real == "float32"
    assert {buffer.real for buffer in written.kernel.buffers if buffer.kind == "real"} == {"bfloat16"}


def _linear() -> torch.nn.Module:
    c = plait.axes("c")
    torch.manual_seed(3)

    @plait.mixer("x[..., c] -> z[..., c]")
    def layer(x):
        j = c.like("j")
        return (plait.param("weight", c, j) * x[{c: j}]).sum(j) + plait.param("bias", c)

    return layer.module(c=7)


def _counting() -> torch.nn.Module:
    t, c = plait.axes("t c")

    @plait.mixer("x[t, c] -> z[t, c]")
    def centred(x):
        mean = plait.buffer("mean", c)
        plait.update(mean, mean * 0.5 + x.sum(t) / t.size * 0.5)
        return x - mean

    return centred.module(c=7)


# --- programs drawn at random


@pytest.mark.parametrize("family", ["reductions", "windows", "contractions", "mixed"])
def test_drawn_programs_differ_by_storage_only(family: str) -> None:
    """Of any family, at any strides: the results are those of the same numbers in float32, rounded once."""

    @hypothesis.settings(max_examples=2)
    @hypothesis.given(FAMILIES_DRAWN[family])
    def check(example: Example) -> None:
        short = {name: as_stored(tensor, torch.bfloat16) for name, tensor in example.tensors.items()}
        wide = {name: as_stored(tensor, torch.float32) for name, tensor in short.items()}
        call = Compiled(example.program, on_unfused="quiet")
        meant = call.run(wide)
        for name, found in call.run(short).items():
            real = meant[name].is_floating_point() and any(
                each.is_floating_point() for each in short.values()
            )
            wanted = meant[name].bfloat16() if real else meant[name]
            torch.testing.assert_close(found, wanted, rtol=0, atol=0, equal_nan=True)

    check()


def as_stored(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Reals in `dtype`, at the strides that they had."""
    if not tensor.is_floating_point():
        return tensor
    memory = tensor.new_empty(tensor.untyped_storage().nbytes() // tensor.element_size())
    memory.set_(tensor.untyped_storage(), 0, memory.shape, (1,))
    return memory.to(dtype).as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())

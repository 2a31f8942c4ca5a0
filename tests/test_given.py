"""What a call gives: tensors that no kernel could read, told at their declaration, and those that it can."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

import plait
from plait import axes, compile, mixer
from plait.dsl.errors import PlaitError
from plait.dsl.mistakes import InvalidArgument, UnknownArgument, WrongDevice, WrongDtype

h, w = axes("h w")


@mixer("x[h, w] -> y[h]")
def total(x):
    return x.sum(w)


@mixer("x[h, w], m[h]: bool -> y[h]")
def masked(x, m):
    return plait.select(m, x.sum(w), 0.0)


ONES = torch.ones(2, 3)

REFUSED = {
    "sparse": (lambda: ONES.to_sparse(), "a dense tensor, and found a tensor in torch.sparse_coo"),
    "rows": (lambda: ONES.to_sparse_csr(), "a dense tensor, and found a tensor in torch.sparse_csr"),
    "oneDNN": (lambda: ONES.to_mkldnn(), "a dense tensor, and found a tensor in torch._mkldnn"),
    "nested": (
        lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged),
        "found a nested tensor",
    ),
    "list": (lambda: [[1.0]], "found a list"),
    "integers": (lambda: ONES.long(), "`x` is real and its tensor is torch.int64"),
    "truth": (lambda: ONES.bool(), "`x` is real and its tensor is torch.bool"),
    "complex": (lambda: ONES.to(torch.complex64), "`x` is real and its tensor is torch.complex64"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("backend", ["cpp", "reference"])
def test_what_no_kernel_can_read(case: str, backend: plait.api.BackendName) -> None:
    make, message = REFUSED[case]
    call = compile(total, backend=backend)
    call(ONES)  # the shapes of the same numbers are known
    with pytest.raises(WrongDtype, match=re.escape(message)) as caught:
        call(make())
    assert caught.value.span is not None and caught.value.span.text == "x[h, w]"
    assert "called at" in caught.value.notes[0] and "test_given.py" in caught.value.notes[0]


def test_all_mistakes_of_a_call_together() -> None:
    with pytest.raises(WrongDtype) as caught:
        masked(ONES.long(), ONES[:, 0])
    found = [caught.value, *caught.value.others]
    assert [each.span and each.span.text for each in found] == ["x[h, w]", "m[h]: bool"]
    assert caught.value.notes[1:] == ("  x: int64[2, 3]", "  m: float32[2]")


def test_devices_are_told_at_both_declarations() -> None:
    with pytest.raises(WrongDevice, match="`x` on cpu, `m` on meta") as caught:
        masked(ONES, torch.ones(2, dtype=torch.bool, device="meta"))
    assert [(each.span.text, each.text) for each in caught.value.labels] == [
        ("m[h]: bool", "on meta"),
        ("x[h, w]", "on cpu"),
    ]


def negated() -> Tensor:
    """Its memory holds 2; torch keeps the sign as a mark."""
    return torch.full((2, 3), 2j, dtype=torch.complex64).conj().imag


def test_a_sign_that_torch_keeps_as_a_mark() -> None:
    assert negated().is_neg()
    assert torch.equal(total(negated()), torch.full((2,), -6.0))
    assert torch.equal(compile(total, backend="reference")(negated()), torch.full((2,), -6.0))
    call = compile(total)
    call(ONES)
    (graphed,) = call.graph(negated())
    assert torch.equal(graphed, torch.full((2,), -6.0))


def test_zeros_without_memory() -> None:
    zeros = torch._efficientzerotensor((2, 3))  # pyright: ignore[reportPrivateImportUsage]
    assert zeros.data_ptr() == 0
    assert torch.equal(total(zeros), torch.zeros(2))


@pytest.mark.parametrize("option", ["backend", "recompute", "on_unfused"])
def test_options_are_words_of_a_list(option: str) -> None:
    with pytest.raises(PlaitError, match=r"one of|there is no backend"):
        compile(total, **{option: "eager"})  # pyright: ignore[reportArgumentType]


def test_only_programs_and_mixers_compile() -> None:
    with pytest.raises(InvalidArgument, match="`compile` takes a program or a mixer, and found a function"):
        compile(lambda x: x)  # pyright: ignore[reportArgumentType]


def test_one_input_is_no_plural() -> None:
    with pytest.raises(UnknownArgument, match="takes 1 input, and found 2"):
        total(ONES, ONES)
    with pytest.raises(UnknownArgument, match="takes 1 input, and 2 were given"):
        compile(total)(ONES, ONES)

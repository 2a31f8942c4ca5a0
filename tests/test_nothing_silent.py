"""Law 3: whatever torch does in a call, and whatever has no kernel, stands in the report; "error" refuses it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import plait
from kernel_families import FAMILIES
from plait import Program, parse
from plait.backends.autograd import differentiable
from plait.dsl.mistakes import NotFused, WrongDtype
from plait.runtime import Compiled
from strategies import Example, examples

FREE = {
    "empty", "empty_strided", "detach", "alias", "view", "_unsafe_view", "squeeze", "permute", "transpose", "t",
    "unsqueeze", "expand", "slice", "select", "as_strided", "_reshape_alias", "lift_fresh",
}  # fmt: skip
"""Operations that compute and move nothing: they make room, or look at it in another way."""

COPIES = {"clone", "_to_copy", "copy_", "reshape"}
CHECKS = {"min", "max", "_local_scalar_dense", "aminmax"}


class Watch(TorchDispatchMode):
    """The names of the operations of torch that run."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name not in FREE:
            self.seen.add(name)
        return func(*args, **(kwargs or {}))


def silent(program: Program, tensors: Mapping[str, Tensor]) -> set[str]:
    """The operations of torch in a call that its report does not name."""
    made = plait.compile(program, backend="cpp", on_unfused="quiet")
    call = differentiable(made.runner)
    ordered = [tensors[name] for name in call.names]
    call.launch(*ordered)
    watch = Watch()
    with watch:
        call.launch(*ordered)
    report = str(made.explain())
    if "reference operation, because" in report:
        return set()
    named = COPIES if "laid out: torch copies" in report else set[str]()
    named |= CHECKS if "checked at every call" in report else set()
    return watch.seen - named


def called(made: Compiled, tensors: Mapping[str, Tensor]) -> None:
    """Run it; what it refuses for its mixed dtypes is another example's affair."""
    try:
        made.runner.run(tensors)
    except WrongDtype:
        reject()


@settings(max_examples=25)
@given(st.one_of(examples(), *FAMILIES.values()))
def test_the_report_names_all_that_torch_does(example: Example) -> None:
    called(plait.compile(example.program, backend="cpp", on_unfused="quiet"), example.tensors)
    assert not silent(example.program, example.tensors), str(example.program)


@settings(max_examples=15)
@given(examples())
def test_error_refuses_what_the_report_calls_unfused(example: Example) -> None:
    quiet = plait.compile(example.program, backend="cpp", on_unfused="quiet")
    called(quiet, example.tensors)
    report = str(quiet.explain())
    strict = plait.compile(example.program, backend="cpp", on_unfused="error")
    if "reference operation, because" not in report:
        strict.runner.run(example.tensors)
        return
    with pytest.raises(NotFused) as refused:
        strict.runner.run(example.tensors)
    named = {note.split("`")[1] for note in refused.value.notes}
    for name in named:
        assert any(
            line.startswith(f"  {name}[") and "reference operation" in line for line in report.splitlines()
        )
    assert len(named) == report.count("reference operation, because")


TWICE = "  y = x * 2\n  z = x * 2\n"
CASES = {
    "a transposed result": (
        f"mixer f(x[h, w]) -> y[h, w], z[w, h]:\n{TWICE}",
        "its axes lie in another order",
    ),
    "one value twice": (f"mixer f(x[h, w]) -> y[h, w], z[h, w]:\n{TWICE}", "is another result too"),
    "indices": (
        "mixer f(x[h, w], ids[t]: index h) -> y[t, w]:\n  y = x[h: ids]\n",
        "checked at every call: that `ids` holds indices of h",
    ),
    "an input as it is": ("mixer f(x[h, w]) -> y[h, w]:\n  y = x\n", "a copy"),
    "no axis for the lanes": (
        "mixer f(x[h, w]) -> y: int:\n  y = argmax[h](x[w: 0])\n",
        "one element at a time, because",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_a_call_does_beside_its_kernels_is_said(name: str) -> None:
    text, line = CASES[name]
    program = parse(text).program()
    tensors: dict[str, Tensor] = {"x": torch.rand(5, 3)}
    if "ids" in text:
        tensors["ids"] = torch.tensor([1, 4])
    made = plait.compile(program)
    made(**tensors)
    assert line in " ".join(str(made.explain()).split())
    assert not silent(program, tensors)


def test_the_watch_sees_what_torch_does() -> None:
    with Watch() as watch:
        torch.ones(3).add(1).reshape(3, 1)
    assert watch.seen == {"ones", "add"}


def test_a_report_goes_on_with_the_gradients_that_ran() -> None:
    text = "mixer f(x[t, c]) -> y[t]:\n  y = sum[c](exp(x))\n"
    made = plait.compile(parse(text), backend="cpp")
    x = torch.rand(5, 3, requires_grad=True)
    made(x)
    assert "not called yet" not in str(made.explain())
    assert sum(": 1 kernel" in line for line in str(made.explain()).splitlines()) == 1
    made(x).sum().backward()
    forward, backward = (line for line in str(made.explain()).splitlines() if ": 1 kernel" in line)
    assert forward == "f: 1 kernel"
    assert backward != forward
    assert "grad.x[t, c]" in str(made.explain())


def test_what_a_gradient_has_no_kernel_for_is_said_and_refused() -> None:
    """The gradient of a read at places that data decides is a scatter."""
    text = "mixer f(x[v], ids[t]: index v) -> y[t]:\n  y = x[v: ids]\n"
    tensors = torch.rand(4, requires_grad=True), torch.tensor([0, 2, 2])
    quiet = plait.compile(parse(text), backend="cpp", on_unfused="quiet")
    quiet(*tensors).sum().backward()
    why = "it adds up at positions that depend on data (a scatter)"
    assert f"reference operation, because {why}" in str(quiet.explain())
    strict = plait.compile(parse(text), backend="cpp", on_unfused="error")
    made = strict(*tensors)
    with pytest.raises(NotFused, match="adds up at positions that depend on data"):
        made.sum().backward()

"""A mistake of a call says where the call is: the line that called into plait, through torch or not."""

from __future__ import annotations

import inspect
import linecache
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import plait
from plait.backends.compiled import BackendName
from plait.dsl import position
from plait.dsl.mistakes import AbsentOutput, AxisSizeMismatch, PlaitError, WrongDtype

t, c = plait.axes("t c")


@plait.mixer("x[t, c], y[t, c] -> z[t, c]")
def add(x, y):
    return x + y


@plait.mixer("x[t] -> z[t]")
def late(x):
    """Absent where t is beyond 40: floor(1.02 t) is then above the last index."""
    return x[{t: plait.floor(t * 1.02)}]


A, B = torch.ones(2, 3), torch.ones(2, 4)


class Around(torch.nn.Module):
    """A user's module around one of plait."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = add.module()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.inner(x, y)


CALLS: dict[str, Callable[[], object]] = {
    "mixer": lambda: add(A, B),
    "module": lambda: add.module()(A, B),
    "compiled": lambda: plait.compile(add)(A, B),
    "reference": lambda: plait.compile(add, backend="reference")(A, B),
    "gradient": lambda: add(A.clone().requires_grad_(), B),
    "sequential": lambda: torch.nn.ModuleList([add.module()])[0](A, B),
}


def place(call: Callable[..., object]) -> str:
    """The line of a lambda, or the last line of a function."""
    lines, first = inspect.getsourcelines(call)
    return f"test_call_places.py:{first + len(lines) - 1}"


@pytest.mark.parametrize("name", CALLS)
def test_sizes(name: str) -> None:
    with pytest.raises(AxisSizeMismatch) as caught:
        CALLS[name]()
    first, *table = caught.value.notes
    assert first.startswith("called at ") and first.endswith(f"{place(CALLS[name])} with")
    assert table == ["  x: [2, 3]   t=2 c=3", "  y: [2, 4]   t=2 c=4"]


def test_the_innermost_line_of_the_user() -> None:
    """Not the line that calls the user's own module, but the one in it."""
    with pytest.raises(AxisSizeMismatch) as caught:
        Around()(A, B)
    assert caught.value.notes[0].endswith(f"{place(Around.forward)} with")


@pytest.mark.parametrize("backend", ["cpp", "reference"])
def test_absence_that_sizes_decide(backend: BackendName) -> None:
    call = plait.compile(late, backend=backend)
    assert torch.equal(call(torch.ones(40)), torch.ones(40))
    with pytest.raises(AbsentOutput) as caught:
        call(torch.ones(60))
    assert "test_call_places.py:" in caught.value.notes[0]
    assert caught.value.notes[0].endswith(": with sizes t = 60, at index t = 59")


def test_dtypes_and_tensors() -> None:
    with pytest.raises(WrongDtype) as caught:
        add(A, A.double())
    assert "called at" in str(caught.value) and "test_call_places.py:" in str(caught.value)


def test_a_call_from_no_file_has_no_place() -> None:
    with pytest.raises(PlaitError) as caught:
        exec("add(A, B)", {"add": add, "A": A, "B": B})
    assert caught.value.notes[0] == "called with"


def test_nobody_looks_at_frames_where_nothing_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    add(A, A)

    def looked() -> None:
        raise AssertionError("a call that is right looked at frames")

    monkeypatch.setattr(position, "user_frame", looked)
    assert torch.equal(add(A, A), A + A)
    assert torch.equal(plait.compile(add)(A, A), A + A)


@plait.mixer("x[t], angle[t] -> y[t]: complex")
def turned(x, angle):
    return x * plait.exp(plait.cplx(0.0, angle))


def test_a_warning_stands_at_the_call() -> None:
    with pytest.warns(UserWarning, match="NotFused") as seen:
        turned(torch.ones(3), torch.ones(3))
    assert seen[0].filename == __file__
    assert linecache.getline(__file__, seen[0].lineno).strip() == "turned(torch.ones(3), torch.ones(3))"

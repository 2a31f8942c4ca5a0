"""Memory for results: the hint stays within the tensor, and changes nothing but the pages."""

from __future__ import annotations

import pytest
import torch

import plait
from plait.backends import pages

Hints = list[tuple[int, int]]


@pytest.fixture
def hints(monkeypatch: pytest.MonkeyPatch) -> Hints:
    """Every range that is asked for, which the system then gets as well."""
    found: Hints = []
    given = pages.advise

    def advise(first: int, length: int) -> None:
        found.append((first, length))
        given(first, length)

    monkeypatch.setattr(pages, "advise", advise)
    monkeypatch.setattr(pages.sys, "platform", "linux")
    return found


@pytest.mark.parametrize("numbers", [0, 1, 2**19 - 1, 2**19, 2**20 - 1, 2**20, 3 * 2**20 + 7])
def test_the_whole_huge_pages_within_a_tensor(hints: Hints, numbers: int) -> None:
    made = pages.fresh((numbers,), torch.float32, torch.device("cpu"))
    assert (made.shape, made.dtype, made.device.type) == ((numbers,), torch.float32, "cpu")
    first, last = made.data_ptr(), made.data_ptr() + made.nbytes
    for start, length in hints:
        assert first <= start < first + pages.HUGE
        assert last - pages.HUGE < start + length <= last
        assert start % pages.HUGE == length % pages.HUGE == 0
    assert len(hints) <= 1
    if numbers >= 2**20 - 1:
        assert hints, "4 MiB hold a whole huge page wherever they lie"
    made.fill_(1)
    assert made.sum() == numbers


def test_other_devices_and_systems_get_plain_memory(hints: Hints, monkeypatch: pytest.MonkeyPatch) -> None:
    pages.fresh((2**21,), torch.float32, torch.device("meta"))
    monkeypatch.setattr(pages.sys, "platform", "darwin")
    pages.fresh((2**21,), torch.float32, torch.device("cpu"))
    assert not hints


def test_results_of_calls_are_such_memory(hints: Hints) -> None:
    """Also those of a graph of kernels, which torch.compile and `Compiled.graph` run."""
    double = plait.compile(plait.parse("mixer double(x[n]) -> y[n]:\n  y = 2 * x"), backend="cpp")
    x = torch.arange(2.0**20)
    y = double(x)
    assert torch.equal(y, 2 * x)
    assert [y.data_ptr() <= start < y.data_ptr() + y.nbytes for start, _ in hints] == [True]
    (again,) = double.graph(x)
    assert torch.equal(again, y)
    assert len(hints) == 2

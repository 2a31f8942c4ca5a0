"""The parts of `cat` fill its axis: proved, refused, or required of the sizes of the call."""

from __future__ import annotations

import pytest
import torch

from plait import Program, axes, axis, cat, mixer, parse, require
from plait.dsl.mistakes import AxisSizeMismatch, RequirementFailed

i, j, h, w = axes("i j h w")


def again(program: Program) -> None:
    """The text of the program gives it back."""
    assert parse(str(program)).program() == program


def test_a_sum_of_sizes_needs_no_requirement() -> None:
    @mixer("x[i], y[j] -> z[n]")
    def joined(x, y):
        return cat(axis("n", i.size + j.size), (x, i), (y, j))

    assert joined.program().requires == ()
    again(joined.program())


def test_halves_fill_what_is_required_to_be_even() -> None:
    @mixer("x[h] -> y[h]")
    def swapped(x):
        require(h.size % 2 == 0)
        first, second = axis("first", h.size // 2), axis("second", h.size // 2)
        return cat(h, (x[{h: second + second.size}], second), (x[{h: first}], first))

    assert len(swapped.program().requires) == 1
    again(swapped.program())


@pytest.mark.parametrize(("size", "said"), [(6, "1 more index"), (4, "1 fewer index"), (9, "4 more indices")])
def test_parts_that_cannot_fill_the_axis_are_refused(size: int, said: str) -> None:
    with pytest.raises(AxisSizeMismatch, match=f"axis `n` has {said} than the parts of `cat` together"):

        @mixer("x[i=2], y[j=3] -> z[n]")
        def joined(x, y):
            return cat(axis("n", size), (x, i), (y, j)).otherwise(0)

    text = (
        f"mixer joined(x[i=2], y[j=3]) -> z[n]:\n  axis n: {size}\n  z = cat[i, j -> n](x, y) otherwise 0\n"
    )
    with pytest.raises(AxisSizeMismatch, match=said):
        parse(text).program()


def test_one_entry_too_few_by_a_formula() -> None:
    with pytest.raises(AxisSizeMismatch, match="1 fewer index"):

        @mixer("x[i], y[j] -> z[n]")
        def joined(x, y):
            return cat(axis("n", i.size + j.size - 1), (x, i), (y, j))


def test_sizes_of_the_call_are_required_to_fit() -> None:
    """Before, the last entries of y vanished without a word."""

    @mixer("x[h], y[w] -> z[n]")
    def joined(x, y, *, length: int = 5):
        return cat(axis("n", length), (x, h), (y, w)).otherwise(0)

    assert len(joined.program().requires) == 1
    again(joined.program(length=5))
    assert joined(torch.ones(2), torch.ones(3)).shape == (5,)
    with pytest.raises(RequirementFailed, match=r"(?s)which does not hold with h = 2, w = 4.*here: 5 == 6"):
        joined(torch.ones(2), torch.ones(4))


def test_a_requirement_of_the_author_is_not_said_twice() -> None:
    @mixer("x[h], y[w] -> z[n]")
    def joined(x, y, *, length: int = 5):
        require(h.size + w.size == length)
        return cat(axis("n", length), (x, h), (y, w))

    assert len(joined.program().requires) == 1
    again(joined.program())


def test_a_known_size_decides() -> None:
    @mixer("x[h], y[w] -> z[n]")
    def joined(x, y, *, length: int = 5):
        return cat(axis("n", length), (x, h), (y, w)).otherwise(0)

    assert joined.program(h=2, w=3).requires == ()
    with pytest.raises(AxisSizeMismatch, match="1 more index"):
        joined.program(h=2, w=2)


def test_the_requirement_holds_in_a_mixer_that_calls() -> None:
    @mixer("x[h], y[w] -> z[n]")
    def joined(x, y, *, length: int = 5):
        return cat(axis("n", length), (x, h), (y, w)).otherwise(0)

    @mixer("x[i], y[j] -> z[n]")
    def doubled(x, y):
        return 2 * joined(x, y, axes={h: i, w: j}, length=4)

    assert len(doubled.program().requires) == 1
    again(doubled.program())
    assert doubled(torch.ones(1), torch.ones(3)).tolist() == [2.0] * 4
    with pytest.raises(RequirementFailed):
        doubled(torch.ones(2), torch.ones(3))

"""The programs of the attack by number, so that a fault names one and a run holds every form.

Number after number goes through `SOURCES`; those of `examples` are cases of one root after another, so that as many
programs as `ROUND` hold each of `ROOTS`. Which program a number is, the number alone decides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from compositions import compositions, deployable
from kernel_families import FAMILIES
from strategies import Example, examples
from write_rules import ROOTS

T = TypeVar("T")

SOURCES = (
    examples, "pointwise", examples, "reductions", "windows", examples, compositions, "contractions", examples,
    "attention", "unions", examples, "heads", "mixed", examples, deployable, compositions,
)  # fmt: skip
"""Where a program comes from, by its number: so many that no check which takes every n-th number always meets the
same ones."""

SHARE = SOURCES.count(examples)
STEP = 89
"""From one root to the next: far, so that few programs are cases of very different ones."""
ROUND = -(-len(ROOTS) // (2 * SHARE)) * len(SOURCES)


def source(number: int) -> Callable[[], st.SearchStrategy[Example]] | str:
    """Where the program comes from: what draws it, or the name of a family."""
    return SOURCES[number % len(SOURCES)]


def program(number: int) -> Example:
    made = source(number)
    if made is examples:
        first, second = roots(number)
        return drawn_as(number, examples(first=(first,), second=(second,)))
    return drawn_as(number, FAMILIES[made] if isinstance(made, str) else made())


def roots(number: int) -> tuple[str, str]:
    """What a program of `examples` with this number is a case of."""
    turn, place = divmod(number, len(SOURCES))
    before = turn * SHARE + SOURCES[:place].count(examples)
    every = list(ROOTS)
    return every[2 * before * STEP % len(every)], every[(2 * before + 1) * STEP % len(every)]


def drawn_as(number: int, strategy: st.SearchStrategy[T]) -> T:
    """What hypothesis draws for a seed: its second example, since the first is always the simplest."""
    found: list[T] = []

    @seed(number)
    @settings(
        max_examples=2,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )
    @given(strategy)
    def take(each: T) -> None:
        found.append(each)

    take()
    return found[-1]

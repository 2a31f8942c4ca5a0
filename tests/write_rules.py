"""Which forms are drawn, and how often: `RULES` below a form, and each of `ROOTS` as often as any other at the top."""

from __future__ import annotations

from functools import partial

from plait.dsl.program import Form
from write_folds import FOLDS, any_fold, attended, averaged
from write_maps import MAPS, making
from write_reads import READS, joined, placed, read
from write_values import (
    VALUES,
    again,
    as_if,
    by_cases,
    complex_part,
    filled,
    is_present,
    mask,
    masked,
    moved_complex,
    of_whole,
    on_gradient,
    random,
    real_data,
    selected,
    simple_complex,
    simple_real,
    simple_whole,
    sized,
    stopped,
    whole_data,
)
from writer import Axes, Rule, Rules, Writer


def one_of(rules: list[Rule]) -> Rule:
    """Any of the rules, as one."""

    def rule(writer: Writer, depth: int, axes: Axes) -> Form:
        return writer.pick(rules)(writer, depth, axes)

    return rule


RULES = Rules(
    deep={
        "real": [
            real_data,
            *[one_of(making("real", "real"))] * 3,
            one_of(making("real", "int")),
            *[read] * 4,
            *[partial(any_fold, "real", ("sum", "max", "lse", "min", "prod"))] * 3,
            averaged,
            *[attended] * 2,
            *[placed] * 2,
            masked,
            filled,
            one_of([selected, by_cases]),
            of_whole,
            again,
            joined,
            one_of([stopped, as_if, on_gradient]),
            complex_part,
            random,
        ],
        "int": [
            simple_whole,
            *[one_of(making("int", "int"))] * 2,
            sized,
            partial(any_fold, "int", ("count", "sum", "max", "min", "argmax", "prod")),
            one_of(making("int", "bool")),
            one_of(making("int", "real")),
            whole_data,
        ],
        "bool": [
            one_of(making("bool", "int")),
            mask,
            one_of(making("bool", "real")),
            one_of(making("bool", "bool")),
            is_present,
            partial(any_fold, "bool", ("any", "all")),
        ],
        "complex": [
            simple_complex,
            *[one_of(making("complex", "complex"))] * 2,
            one_of(making("complex", "real")),
            partial(any_fold, "complex", ("sum", "prod")),
            moved_complex,
        ],
    },
    flat={
        "real": [simple_real],
        "int": [simple_whole],
        "bool": [one_of(making("bool", "int")), mask, one_of(making("bool", "real"))],
        "complex": [simple_complex],
    },
)
"""The choices at each place below the first."""

ROOTS: dict[str, Rule] = {
    **MAPS,
    **FOLDS,
    **READS,
    **VALUES,
    "mean": averaged,
    "softmax": attended,
    "cat": joined,
}
"""What a program may be a case of, by name."""

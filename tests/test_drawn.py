"""That the attack draws everything there is.

What the language has is asked of its own tables (`seen.py`), so that a new form, operation, reduction, way of an
axis or part of a program fails here until it is drawn. What no program holds is named with a program that shows why.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

import numbered
import plait
from drafts import read
from plait.backends.compiled import Compiled
from plait.compiler.meaning.interpret import interpret
from plait.dsl.mistakes import InvalidSyntax, NotYet
from plait.dsl.program import Axis
from seen import everything, seen
from strategies import any_tensors

SCAN = "previous p[t] = 0.0\n  "

NOT_YET: Mapping[str, str] = {
    "Scan": SCAN + "y = scan[t](p: p + x)",
    "`scan`": SCAN + "y = scan[t](p: p + x)",
    "`previous`": SCAN + "y = scan[t](p: p + x)",
    "`reverse`": SCAN + "y = scan[reverse t](p: p + x)",
    "`until`": SCAN + "y = scan[t until p > 9](p: p + x)",
    "`last`": SCAN + "y = x + last(scan[t](p: p + x))",
    "`steps`": SCAN + "y = x + steps(scan[t until p > 9](p: p + x))",
    "bool bound": "previous p[t] = true\n  y = select(scan[t](p: p & x > 0), x, 0.0)",
    "Library": "like u: t\n  y = real(fft[t -> u](x))[u: t]",
    "`fft`": "like u: t\n  y = real(fft[t -> u](x))[u: t]",
    "`ifft`": "like u: t\n  y = real(ifft[t -> u](x))[u: t]",
    "`rfft`": "axis f: size(t) // 2 + 1\n  y = x + sum[f](real(rfft[t -> f](x)))",
    "`irfft`": "axis f: size(t) // 2 + 1\n  like u: t\n  y = irfft[f -> u](rfft[t -> f](x))[u: t]",
    "`solve`": "like u: t\n  y = solve[t, u -> u](x*x[t: u], x)[u: t]",
    "`solve_spd`": "like u: t\n  y = solve_spd[t, u -> u](x*x[t: u], x)[u: t]",
    "`solve_lower`": "like u: t\n  y = solve_lower[t, u -> u](x*x[t: u], x)[u: t]",
    "`solve_upper`": "like u: t\n  y = solve_upper[t, u -> u](x*x[t: u], x)[u: t]",
    "`sort_indices`": "like u: t\n  y = x[t: sort_indices[t -> u](x)][u: t]",
    "`topk_indices`": "axis k: 1\n  y = x + sum[k](topk_indices[t -> k](x))",
    "Jvp": "y = jvp(exp(x), x: 2*x)",
    "`jvp`": "y = jvp(exp(x), x: 2*x)",
    "Vjp": "y = vjp(exp(x), x, x)",
    "`vjp`": "y = vjp(exp(x), x, x)",
}
"""What can be said and does not run yet: the body of a mixer that says it."""

NO_SUCH: Mapping[str, str] = {
    f"{kind} draw": f"draw keep[t]: {kind} from bernoulli(0.5)\n  y = x"
    for kind in ("bool", "int", "complex")
}
"""What no program may have: draws are real."""

WRITTEN_OUT: Mapping[str, str] = {
    "`cases`": "y = cases(size(t) < 3: x, true: -x)",
    "`cdiv`": "y = x * cdiv(size(t), 2)",
    "`trust`": "y = x[t: trust(t - 1, t)]",
    "`axes`": "y = half(x; axes t = t)",
}
"""Words that stand for others, which are what programs hold."""


def mixer(body: str) -> str:
    return f"mixer whole(x[t]) -> y[t]:\n  {body}\n"


def test_a_round_of_the_attack_holds_everything() -> None:
    drawn: set[str] = set()
    for number in range(numbered.ROUND):
        if numbered.source(number) is numbered.examples:
            drawn |= seen(numbered.program(number).program)
    excused = {*NOT_YET, *NO_SUCH, *WRITTEN_OUT}
    assert everything() - drawn == excused


@pytest.mark.parametrize("word", NOT_YET)
def test_what_is_not_drawn_does_not_run(word: str) -> None:
    program = read(mixer(NOT_YET[word]))
    assert word in seen(program)
    tensors = any_tensors(program, {Axis("t"): 3})
    with pytest.raises(NotYet, match="does not run"):
        interpret(program, tensors)
    with pytest.raises(NotYet, match="does not run"):
        Compiled(program, on_unfused="quiet").run(tensors)


@pytest.mark.parametrize("word", NO_SUCH)
def test_what_is_not_drawn_cannot_be_said(word: str) -> None:
    with pytest.raises(InvalidSyntax, match="a draw holds real numbers"):
        read(mixer(NO_SUCH[word]))


@pytest.mark.parametrize("word", WRITTEN_OUT)
def test_a_word_that_stands_for_others_is_in_no_program(word: str) -> None:
    half = "mixer half(x[t]) -> y[t]:\n  y = 0.5 * x\n\n" if word == "`axes`" else ""
    program = plait.parse(half + mixer(WRITTEN_OUT[word])).program()
    assert word not in seen(program)

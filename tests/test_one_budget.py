"""Real numbers are held together by one budget: no test, example or benchmark has a tolerance of its own.

`backends/budget.py` states what rounding may do, `backends/rounding.py` what it may do to each entry of a result.
What this reads out of every source are the ways in which a tolerance is written: a call of `allclose`, `isclose`,
`approx` or `assert_close`, an argument `rtol`, `atol`, `rel_tol`, `abs_tol`, `tolerance` or `condition` that is a
number, a comparison with a small one, a small one in what is named after a bound, and the `eps` of a type.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("tests", "examples", "benchmarks")

CALLS = ("allclose", "isclose", "approx", "assert_close", "assert_allclose", "assertAlmostEqual")
ARGUMENTS = ("rtol", "atol", "rel_tol", "abs_tol", "rel", "tolerance", "condition")

BOUNDS = re.compile("toler|bound|budget|allowed", re.IGNORECASE)
"""A function or a constant of such a name holds no small number."""

SMALL = 1e-2
"""A number between 0 and this, in a comparison, is taken for a tolerance."""

_ITSELF = "the budget is the subject: its own numbers are compared"
_SHOWN = (
    "an example shows one number, which its last line rounds up; tests hold the same program to the budget"
)

EXCEPTIONS: dict[str, str] = {
    "tests/denotation.py::alike": "the book's arithmetic of scalars beside torch's, of values without a program",
    "tests/partials.py::same": "two forms of one drawn value: what rewrites them is exact, its sums are not",
    "tests/test_budget.py::test_it_grows_with_what_it_is_a_function_of": _ITSELF,
    "tests/test_budget.py::test_short_sums_are_bounded_for_sure_and_long_ones_by_chance": _ITSELF,
    "tests/test_rounding.py::test_reads_round_nothing": _ITSELF,
    "tests/test_rounding.py::test_an_operation_rounds_by_its_units": _ITSELF,
    "tests/test_rounding.py::test_cancellation_is_part_of_it": _ITSELF,
    "tests/test_rounding.py::test_what_is_masked_has_no_error": _ITSELF,
    "tests/test_rounding.py::test_a_steep_place_hands_on_more": _ITSELF,
    "tests/test_rounding.py::test_constants_that_the_type_lacks": _ITSELF,
    "tests/test_rounding.py::test_storing_rounds_once_more": _ITSELF,
    "tests/test_rounding.py::test_factors_on_matrix_units": _ITSELF,
    "tests/test_cpp_tiles.py::tolerance": "a kernel without a program: sums of a few hundred terms",
    "tests/triton_cases.py::budget": "a kernel without a program, whose interpreter truncates to bfloat16",
    "examples/demo/agree.py::allowed": "the demo says its own: twice the spread that the budget grants a sum",
    "tests/test_examples.py::test_the_demo_holds_errors_to_what_rounding_allows": "that float64 was computed in",
    "tests/test_programs.py::test_program": "the header of a program has its values to so many digits",
    "tests/test_explain.py::test_half_of_a_causal_mask_is_seen": "a share of a mask, counted at some tiles",
    "tests/test_stdlib_activations.py::test_softplus_is_within_its_bound_of_torch": "torch's own threshold: exp(-20)",
    "tests/test_triton_aot.py::test_the_roofline_is_the_slower_of_memory_and_arithmetic": "predicted seconds",
    "examples/any_rank.py::main": _SHOWN,
    "examples/circular_attention.py::main": _SHOWN,
    "examples/convnext_block.py::main": _SHOWN,
    "examples/cross_shaped_windows.py::main": _SHOWN,
    "examples/involution.py::main": _SHOWN,
    "examples/linear_attention.py::main": _SHOWN,
    "examples/pooling_at_borders.py::main": _SHOWN,
    "examples/text_file.py::main": _SHOWN,
}
"""file::function -> why the numbers there are no tolerance of a program's results."""


def tolerances(source: str) -> Iterator[tuple[str, int, str]]:
    """The function (or constant), the line and the words of each."""
    for owner, node in owned(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in CALLS:
                if not exactly(node):
                    yield owner, node.lineno, name
            case ast.keyword(arg=str(name), value=ast.Constant(value=int() | float() as value)):
                if name in ARGUMENTS and value:
                    yield owner, node.value.lineno, f"{name}={value}"
            case ast.Compare(left=left, comparators=others):
                for each in (left, *others):
                    yield from ((owner, each.lineno, f"beside {value}") for value in small(each))
            case ast.Attribute(attr="eps"):
                yield owner, node.lineno, "eps"
            case ast.Constant(value=float() as value) if BOUNDS.search(owner) and 0 < abs(value) < SMALL:
                yield owner, node.lineno, f"{value} in {owner}"
            case _:
                pass


def owned(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Every node with the name of the outermost function, class or constant that it is in."""
    for top in tree.body:
        match top:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                owner = name
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                owner = name
            case _:
                owner = ""
        for node in ast.walk(top):
            yield owner, node


def exactly(call: ast.Call) -> bool:
    """Whether a comparison of torch's asks for equality: rtol=0, atol=0."""
    given = {each.arg: each.value for each in call.keywords}
    zero = [isinstance(given.get(key), ast.Constant) for key in ("rtol", "atol")]
    return all(zero) and all(given[key].value == 0 for key in ("rtol", "atol"))  # type: ignore[attr-defined]


def small(node: ast.expr) -> Iterator[float]:
    """The small numbers that a side of a comparison is made of, by arithmetic only."""
    match node:
        case ast.Constant(value=float() as value) if 0 < abs(value) < SMALL:
            yield value
        case ast.BinOp(left=left, right=right):
            yield from small(left)
            yield from small(right)
        case ast.UnaryOp(operand=operand):
            yield from small(operand)
        case _:
            return


def sources() -> Iterator[Path]:
    for folder in FOLDERS:
        yield from sorted((ROOT / folder).rglob("*.py"))


def test_nothing_has_a_tolerance_of_its_own() -> None:
    found: dict[str, list[str]] = {}
    for path in sources():
        name = path.relative_to(ROOT).as_posix()
        for owner, line, words in tolerances(path.read_text(encoding="utf-8")):
            found.setdefault(f"{name}::{owner}", []).append(f"{name}:{line} {owner}: {words}")
    wrong = [line for key, lines in found.items() if key not in EXCEPTIONS for line in lines]
    assert not wrong, "\n".join(["take the budget:", *wrong])
    assert not (stale := set(EXCEPTIONS) - set(found)), f"exceptions of which nothing is left: {stale}"


@pytest.mark.parametrize(
    "line",
    [
        "assert torch.allclose(a, b)",
        "torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)",
        "torch.testing.assert_close(a, b, rtol=0, atol=1e-5)",
        "assert error < 1e-5",
        "assert error <= 2 * 1e-6 * size",
        "assert a == pytest.approx(b)",
        "within = budget(dtype, length, condition=8)",
        "within = 4 * torch.finfo(dtype).eps",
    ],
)
def test_a_tolerance_is_seen(line: str) -> None:
    assert list(tolerances(f"def f():\n    {line}\n"))


@pytest.mark.parametrize(
    "line",
    [
        "torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)",
        "assert error <= budget(dtype, length)",
        "x = layer_norm(x, eps=1e-6)",
        "assert count < 5 and share < 0.5",
    ],
)
def test_what_is_none_is_not(line: str) -> None:
    assert not list(tolerances(f"def f():\n    {line}\n"))

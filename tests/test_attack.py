"""Programs that attack the compiler: of everything that can be drawn, through everything that there is.

For each program: its text reads back; every step of the pipeline keeps its meaning; its kernels on the C++ backend
and in Triton's interpreter give what the reference gives; so do its first and its second gradients, which are also
those of differences. With some of its inputs as weights it is brought into its deploy form, which gives what it
gives in float64 and, of some, as kernels of a module (`deploying.py`). Bounds are those of `backends/rounding.py`,
and no others. Kernels are built so that what they do not initialise is poison.

A run goes on after a fault. What it found is in the failure and in the summary at the end; `make test` draws the
same 100 programs each time, of which every second is deployed, every fourth derived twice, and every fifth runs in
Triton's interpreter; `make test-all` draws 5,000 new ones for all of these, and optimises a quarter of their
kernels, which takes most of the time where it is done. Programs have numbers (`numbered.py`), and
`pytest tests/test_attack.py --attack 300 --from 7` draws so many from one on. A fault that was found becomes a
program of `tests/programs`.
"""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import pytest
import torch
from hypothesis import settings
from torch import Tensor
from torch.fx import GraphModule

import numbered
import on_triton
from agreement import agree, as_double, check_gradients, check_second, check_values, close, real_of
from deploying import deployed, deployed_kernels
from interpreting import Interpreting
from plait.backends.rounding import allowed
from plait.compiler.algorithms import chunks
from plait.compiler.meaning.interpret import interpret
from plait.compiler.meaning.partial import batch
from plait.compiler.pipeline import plan_program
from plait.dsl.canonical import canonical
from plait.dsl.constructors.batch import expand_batch
from plait.dsl.elaboration.elaborate import elaborate
from plait.dsl.mistakes import NotYet
from plait.dsl.printing.show import show
from plait.dsl.program import Program
from plait.dsl.shapes.sizes import bind_sizes
from plait.dsl.text.parse import parse_text
from poison import poisoning
from strategies import Example

STARTS = 20
"""Tests that share the programs of a run among them, so that workers can."""

SMALL = 400
"""Entries of all tensors of a program that Triton's interpreter is given: more would take seconds."""


@dataclass
class Attack:
    """One run: what was drawn, and what went wrong."""

    process: Interpreting
    thorough: bool
    drawn: int = 0
    deployed: int = 0
    faults: list[str] = field(default_factory=list[str])

    def program(self, number: int) -> None:
        self.drawn += 1
        example, turn = numbered.program(number), number // STARTS
        checks: list[Callable[[Example], None]] = [reads_back, keeps_its_meaning]
        checks += [check_values, check_gradients, self.left_out]
        if self.thorough or turn % 4 == 2:
            checks.append(check_second)
        if (self.thorough or turn % 5 == 1) and entries(example) <= SMALL:
            checks.append(self.on_triton)
        if self.thorough or turn % 2 == 0:
            checks.append(self.deploys)
        for check in checks:
            try:
                check(example)
            except NotYet:
                continue
            except Exception:
                what = check.__name__.strip("_")
                where = f"{what}, --attack 1 --from {number}"
                self.faults.append(f"{where}:\n{example!r}\n{traceback.format_exc()[-1500:]}")

    def left_out(self, example: Example) -> None:
        """The program without its optional inputs, which is one of its own, gives what the one with them gives where
        they are absent."""
        without = [each.leaf.name for each in example.program.inputs if each.optional]
        if not without:
            return
        rest = {name: each for name, each in example.tensors.items() if name not in without}
        (mixer,) = parse_text(show(example.program))
        program = elaborate(mixer, dict(example.program.statics), {}, without=without)
        meant, found = interpret(example.program, rest), interpret(program, rest)
        for name, value in meant.items():
            assert torch.equal(found[name].nan_to_num(), value.nan_to_num()), name
        for check in (check_values, check_gradients):
            check(replace(example, program=program, tensors=rest))

    def deploys(self, example: Example) -> None:
        """In float64, and each tenth of those that have a deploy form in a module."""
        if deployed(example):
            self.deployed += 1
            if self.deployed % 10 == 1:
                deployed_kernels(example)

    def on_triton(self, example: Example) -> None:
        """bfloat16 is asked for on a GPU only: the interpreter of Triton truncates to it."""
        tensors = {name: t.float() if t.dtype == torch.bfloat16 else t for name, t in example.tensors.items()}
        found = self.process.call(on_triton.run, str(example.program), tensors)
        agree(found, example.program, tensors, real_of(replace(example, tensors=tensors)), "triton")


def entries(example: Example) -> int:
    return sum(tensor.numel() for tensor in example.tensors.values())


def reads_back(example: Example) -> None:
    program = example.program
    (mixer,) = parse_text(show(program))
    again = elaborate(mixer, dict(program.statics), {})
    assert canonical(again) == canonical(program)


def keeps_its_meaning(example: Example) -> None:
    """After each step, in float64: of what is a program or a graph then. The plan of it and its kernels are
    checked as they are made, and run by the other checks. Parts of a reduction have few entries here, so that
    there are several."""
    tensors = {name: as_double(each) for name, each in example.tensors.items()}
    sizes = bind_sizes(example.program, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    program = expand_batch(example.program, len(batch(sizes)))
    meant = interpret(program, tensors)
    within = allowed(program, tensors, torch.float64)

    def look(step: str, made: object) -> None:
        if isinstance(made, Program):
            found = interpret(made, tensors)
        elif isinstance(made, GraphModule):
            given = (tensors[each.leaf.name] for each in program.declarations)
            found = dict(zip(meant, made(*given), strict=True))
        else:
            return
        assert list(found) == list(meant), step
        for name, value in meant.items():
            same(found[name], value, within[name], f"{name} after {step}")

    with pytest.MonkeyPatch.context() as short:
        short.setattr(chunks, "LEAST", 6)
        short.setattr(chunks, "RUN", 2)
        plan_program(program, dump=look, verify=True)


def same(found: Tensor, value: Tensor, within: Tensor, name: str) -> None:
    if value.is_floating_point() or value.is_complex():
        close(found.to(value.dtype), value, within, name)
    else:
        assert torch.equal(found, value), name


@pytest.fixture(scope="module")
def process() -> Iterator[Interpreting]:
    made = Interpreting()
    yield made
    made.close()


@pytest.mark.parametrize("start", range(STARTS))
def test_attack(
    start: int,
    process: Interpreting,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> None:
    thorough = settings().max_examples > 50
    monkeypatch.setenv("PLAIT_CXX_LEVEL", "-O1" if thorough and start % 4 == 0 else "-O0")
    if compiler := poisoning():
        monkeypatch.setenv("CXX", compiler)
    asked = request.config.getoption("--attack") or (5000 if thorough else 100)
    first = request.config.getoption("--from")
    if first is None:
        first = random.SystemRandom().randrange(10**6) if thorough else 0
    attack = Attack(process, thorough)
    mine = range(first + start, first + asked, STARTS)
    for number in mine:
        attack.program(number)
    record_property("attacked", (attack.drawn, attack.deployed, len(attack.faults)))
    assert attack.drawn == len(mine)
    assert not attack.faults, "\n\n".join(attack.faults)

"""The benchmarks' timing: interleaved rounds, medians, and no candidate that pays for another's memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from tree import ROOT

sys.path.append(str(ROOT))

from benchmarks import timing


def test_medians_over_interleaved_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    spent = {"plait": iter([9.0, 1.0, 2.0] * 15), "peer": iter([4.0, 8.0, 6.0] * 15)}

    def timed(run: Callable[[], object]) -> float:
        run()
        return next(spent[calls[-1]])

    monkeypatch.setattr(timing, "on_host", timed)
    row = timing.compare("case", {name: lambda name=name: calls.append(name) for name in spent}, rounds=3)
    assert dict(row.milliseconds) == {"plait": 2.0, "peer": 6.0}
    assert dict(row.ratios) == {"peer": 3.0}
    assert calls == ["plait", "peer"] * (1 + 3 * timing.MOST), "a warm-up of each, then round by round"


def test_long_cases_have_the_rounds_that_they_must_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "LONG", 0.0)
    calls: list[int] = []
    timing.compare("case", {"plait": lambda: calls.append(0)}, rounds=2)
    assert len(calls) == 1 + 2


FAULTS = """
import resource, torch
from benchmarks import timing

def faults(calls):  # pages of memory that calls with two results of 4.8 MB find and clear
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(calls):
        for each in [torch.empty(1_204_224) for _ in range(2)]:
            each.fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(1)
timing.keep_memory()
faults(3)
print(faults(5))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc keeps what is freed")
def test_no_candidate_pays_for_memory_that_another_gave_back() -> None:
    """Once it was 1,200 page faults of every second call of a depthwise convolution: 4.8 ms or 1.8 by chance.

    In a process of its own, whose C library is its own to adjust.
    """
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.run(
        [sys.executable, "-c", FAULTS], env=env, capture_output=True, text=True, check=True
    )
    assert int(child.stdout) < 200

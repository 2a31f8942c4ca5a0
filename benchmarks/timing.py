"""Interleaved timing: every round runs every candidate once, so that noise falls on all alike."""

from __future__ import annotations

import argparse
import ctypes
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import torch
from torch import Tensor

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Row:
    """One case: medians in milliseconds by candidate, and each peer's median over ours."""

    case: str
    milliseconds: Mapping[str, float]
    ratios: Mapping[str, float]


FLUSHED_BYTES = 512 << 20
"""Zeroed before each timed call on a GPU: empties its cache, and keeps it busy while Python launches."""

LONG = 3.0
"""Seconds after which a case makes do with the rounds that it must have."""

MOST = 5
"""How many times as many rounds a quick case has."""

TRIM_THRESHOLD, MMAP_MAX = -1, -4
"""Parameters of glibc's mallopt(3): what may lie free at the end of the heap, and how many blocks may lie outside."""


KEPT = 256 << 20
"""Bytes that the process takes and keeps before it is timed."""


def keep_memory() -> None:
    """Take memory and let glibc keep what is freed, so that results lie in pages that the process has: otherwise
    whoever allocates next pays for what another gave back, 2.5 ms for a result of 4.8 MB here, and it is chance who
    does (glibc 2.36 aligns blocks by leaving gaps, and walks on for some calls before it uses its holes again).
    Elsewhere nothing happens."""
    adjust = getattr(ctypes.CDLL(None), "mallopt", None)
    if adjust is not None:
        adjust(TRIM_THRESHOLD, 2**31 - 1)
        adjust(MMAP_MAX, 0)
        torch.empty(KEPT, dtype=torch.uint8).fill_(0)


def on_host(run: Callable[[], object]) -> float:
    """Milliseconds of one call, by the host's clock."""
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1e3


def on_device(run: Callable[[], object]) -> float:
    """Milliseconds of the device between two events around one call."""
    torch.empty(FLUSHED_BYTES, dtype=torch.int8, device="cuda").zero_()
    before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    before.record()
    run()
    after.record()
    torch.cuda.synchronize()
    return before.elapsed_time(after)


def compare(
    case: str,
    candidates: Mapping[str, Callable[[], object]],
    rounds: int = 9,
    ours: str = "plait",
    device: str = "cpu",
) -> Row:
    """Medians over interleaved rounds, after one warm-up of each; up to MOST times as many in LONG seconds. On a
    CPU the process keeps its memory (`keep_memory`)."""
    if device == "cpu":
        keep_memory()
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for run in candidates.values():
        run()
    timed = on_device if device == "cuda" else on_host
    start = time.perf_counter()
    for done in range(rounds * MOST):
        if done >= rounds and time.perf_counter() - start > LONG:
            break
        for name, run in candidates.items():
            times[name].append(timed(run))
    medians = {name: statistics.median(each) for name, each in times.items()}
    return Row(case, medians, {name: medians[name] / medians[ours] for name in candidates if name != ours})


def show(row: Row) -> str:
    shown = ", ".join(f"{name} {ms:.3g} ms" for name, ms in row.milliseconds.items())
    return f"{row.case}: {shown} | " + ", ".join(f"{ratio:.1f}x {name}" for name, ratio in row.ratios.items())


def main(name: str, about: str | None, cases: Callable[[str], Iterable[tuple[Row, float]]]) -> None:
    """The command line of a benchmark: every row with its error as it comes from `cases`, which is given the
    device; `--save` writes them."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/")
    given = parser.parse_args()
    torch.manual_seed(0)
    rows: list[Row] = []
    with torch.no_grad():
        for row, error in cases("cuda" if torch.cuda.is_available() else "cpu"):
            print(f"{show(row)} | error {error:.1e}", flush=True)
            rows.append(row)
    if given.save:
        print(save(name, rows))


def reals(device: str) -> list[torch.dtype]:
    """The dtypes that are timed."""
    return [torch.float32] if device == "cpu" else [torch.float32, torch.bfloat16]


def error(found: Tensor, wanted: Tensor) -> float:
    """The norm of the difference over that of what is wanted."""
    return ((found - wanted).norm() / wanted.norm()).item()


def device_name() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name().replace(" ", "-").lower()
    return f"cpu-{platform.machine()}-{torch.get_num_threads()}threads"


def save(name: str, rows: list[Row]) -> Path:
    """Write the rows as benchmarks/results/NAME-DEVICE-DATE.json."""
    path = RESULTS / f"{name}-{device_name()}-{date.today().isoformat()}.json"
    facts = {"torch": torch.__version__, "threads": torch.get_num_threads(), "processor": _processor()}
    path.write_text(json.dumps({"facts": facts, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")
    return path


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    vectors = [word for word in ("avx512f", "avx2") if f" {word} " in text]
    return f"{names[0] if names else 'unknown'}, {vectors[0] if vectors else 'no avx2'}"

"""`make demo`: one operator from its definition to a trained network, each step shown, checked and timed.

    python -m examples.demo [--only STEP ...] [--out FOLDER]

It ends with one sentence that says what was shown, or, on the first thing that does not hold, with a plain
message and exit code 1.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import plait

from . import agree, digits, photograph, screen, show, speed

Step = Callable[[Path], str]

STEPS: dict[str, tuple[str, Step]] = {
    "show": ("The operator, written twice, and its plan", show.run),
    "agree": ("Compiled, against the reference interpreter and PyTorch", agree.run),
    "photograph": ("Inside a network, on a photograph", photograph.run),
    "digits": ("Training a classifier of handwritten digits", digits.run),
    "speed": ("Beside PyTorch, torch.compile and FlexAttention", speed.run),
}
"""Each step by its name: what it is about, and a function that shows it and gives what it found as a clause."""


def perform(names: Sequence[str], out: Path) -> list[str]:
    """Run the steps; the findings in order. The first failure ends everything."""
    found: list[str] = []
    for number, name in enumerate(names, start=1):
        title, step = STEPS[name]
        screen.heading(number, len(names), title)
        start = time.perf_counter()
        try:
            found.append(step(out))
        except KeyboardInterrupt:
            sys.exit(130)
        except (plait.PlaitError, plait.CompilerFault) as problem:
            sys.exit(f"{problem}\n\nthe demo ended at `{name}` with the message above")
        except ModuleNotFoundError as problem:
            sys.exit(f"the demo needs `{problem.name}`: pip install 'plait[demo]', or `make demo`")
        except AssertionError as problem:
            sys.exit(f"the demo ended at `{name}`, because this does not hold: {problem}")
        screen.say(f"  [{time.perf_counter() - start:.1f} s]")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m examples.demo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=STEPS, metavar="STEP", help=", ".join(STEPS))
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder of the pictures (default: out)")
    given = parser.parse_args(arguments)
    warnings.filterwarnings(
        "ignore", module="torch"
    )  # what PyTorch says of itself is not about anything here
    start = time.perf_counter()
    found = perform(given.only or list(STEPS), given.out)
    minutes, seconds = divmod(round(time.perf_counter() - start), 60)
    screen.say(f"\nShown in {minutes} min {seconds} s: {'; '.join(found)}.")


if __name__ == "__main__":
    main()

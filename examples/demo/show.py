"""Step 1: circular attention in Python, in text, and what was made of it."""

from __future__ import annotations

import inspect
from pathlib import Path

import plait
from examples.circular_attention import circular_attention

from . import screen

TEXT = Path(__file__).parent.parent / "circular_attention.plait"


def run(out: Path) -> str:
    """Both spellings, that they are one program, and the plan of its kernel."""
    screen.say("  In Python (examples/circular_attention.py):")
    screen.code(inspect.getsource(inspect.unwrap(circular_attention)))
    screen.say("  The same as text (examples/circular_attention.plait):")
    written = circular_attention.program()
    screen.code(str(written))
    assert plait.load(TEXT).program() == written, "the file and the function are one program"
    assert plait.parse(str(written)).program() == written, "the text reads back to the same program"
    compiled = plait.compile(circular_attention, backend="cpp")
    screen.say("  What the compiler made of it:")
    screen.code(str(compiled.explain()))
    count = len(compiled.tile_programs)
    assert count == 1, f"one kernel, not {count}"
    return "one definition of four lines became one C++ kernel without masks, padding or copies"

"""A C++ compiler that fills whatever a kernel does not initialise with a pattern: masks that are true, indices far
outside, huge numbers. What is read before it is written is then wrong each time, not now and then."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache

FLAG = "-ftrivial-auto-var-init=pattern"


@cache
def poisoning() -> str | None:
    """The value of CXX, or None where no compiler knows how (g++ does from 12 on, clang++ from 16 on)."""
    for command in filter(None, (os.environ.get("CXX"), "g++", "clang++")):
        if shutil.which(command) is None:
            continue
        tried = [command, FLAG, "-x", "c++", "-fsyntax-only", os.devnull]
        if subprocess.run(tried, capture_output=True, check=False).returncode == 0:
            return f"{command} {FLAG}"
    return None

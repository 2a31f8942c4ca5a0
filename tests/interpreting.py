"""A process in which Triton interprets: the choice is made when triton is imported, so no test's own
process can make it. Functions of test modules are called there by reference.

    python interpreting.py          reads (function, arguments) from stdin, writes the result to stdout
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

HERE = Path(__file__).resolve()


class Interpreting:
    """The other end of such a process. It starts at the first call and ends with `close`."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """`function(*arguments)` over there; what it raises, with its traceback as a note, is raised here."""
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            pickle.dump((function, arguments), process.stdin)
            process.stdin.flush()
            result, problem = pickle.load(process.stdout)
        except (EOFError, BrokenPipeError):
            self._process = None  # the next call starts another one
            code = process.wait()
            raise AssertionError(f"the interpreting process died of {function.__name__}: {code}") from None
        if problem is not None:
            raise problem
        return result

    def _start(self) -> subprocess.Popen[bytes]:
        path = os.pathsep.join([str(HERE.parent), *(each for each in sys.path if each)])
        environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": path}
        command = [sys.executable, str(HERE)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe)
        return self._process

    def close(self) -> None:
        if self._process is not None:
            self._process.communicate()
            self._process = None


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer until the requests end."""
    while True:
        try:
            function, arguments = pickle.load(requests)
        except EOFError:
            return
        result, problem = None, None
        try:
            result = function(*arguments)
        except Exception as error:
            problem = _portable(error)
        pickle.dump((result, problem), answers)
        answers.flush()


def _portable(error: Exception) -> Exception:
    """The error itself if it survives pickling, else one with its text."""
    text = traceback.format_exc()
    try:
        if type(pickle.loads(pickle.dumps(error))) is type(error):
            error.add_note(text)
            return error
    except Exception:
        pass
    return RuntimeError(text)


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what anybody prints goes to stderr, not between the answers
    serve(sys.stdin.buffer, answers)

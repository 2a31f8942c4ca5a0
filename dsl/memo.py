"""What is computed once for a program and forgotten with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import finalize

from .program import Program

T = TypeVar("T")


class Memo(Generic[T]):
    """A function of a program that answers from memory as long as that very object lives."""

    def __init__(self, make: Callable[[Program], T]) -> None:
        self._make = make
        self._kept: dict[int, T] = {}

    def __call__(self, program: Program) -> T:
        if id(program) not in self._kept:
            self.know(program, self._make(program))
        return self._kept[id(program)]

    def know(self, program: Program, value: T) -> None:
        """What the function is of this program; not the program itself, which would then live for ever."""
        if id(program) not in self._kept:
            finalize(program, self._kept.pop, id(program), None).atexit = False
        self._kept[id(program)] = value

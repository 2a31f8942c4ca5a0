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
        key = id(program)
        if key not in self._kept:
            value = self._make(program)
            self._kept[key] = value
            finalize(program, self._kept.pop, key, None).atexit = False
            return value
        return self._kept[key]

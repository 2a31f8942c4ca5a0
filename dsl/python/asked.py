"""What Python, torch and NumPy ask of arrays, and a value cannot answer: mistakes that say what to write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NoReturn

from ..errors import PlaitError
from ..program import Form
from ..source import Span
from .refusals import converted, foreign, iterated, matrix_product, sizes_decide, truth
from .trace import current, here, stop_tracing


class Asked:
    """The methods of a value that only refuse. One of a poisoned value tells what poisoned it."""

    __slots__ = ()
    __array_ufunc__ = None  # NumPy's scalars leave the operator to the value

    @property
    def form(self) -> Form:
        """The form of the value."""
        raise NotImplementedError

    @property
    def poisoned(self) -> bool:
        """Whether a mistake, already reported, stands behind the value."""
        raise NotImplementedError

    def __bool__(self) -> bool:
        raise self._asked(truth)

    def __index__(self) -> int:
        raise self._asked(partial(converted, "a whole number"))

    def __float__(self) -> float:
        raise self._asked(partial(converted, "a Python number"))

    def __iter__(self) -> Iterator[NoReturn]:
        if self.poisoned:
            stop_tracing()
        raise iterated(self.form, here())

    def __matmul__(self, other: object) -> NoReturn:
        raise matrix_product(here())

    def __rmatmul__(self, other: object) -> NoReturn:
        raise matrix_product(here())

    @classmethod
    def __torch_function__(cls, function: Any, *_: object) -> NoReturn:
        raise foreign(getattr(function, "__name__", "function"), here())

    def _asked(self, refusal: Callable[[Form, bool, Span | None], PlaitError]) -> PlaitError:
        """The mistake of asking, noted as one of sizes where these alone decide the answer."""
        if self.poisoned:
            stop_tracing()
        trace = current()
        sized = sizes_decide(self.form)
        error = refusal(self.form, sized, here())
        if trace is not None and sized:
            trace.lacking.append(error)
        return error

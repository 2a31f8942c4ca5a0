"""One class per mistake. Each is a `PlaitError` and also the builtin that fits, and each has an
entry in docs/errors.md with the smallest program that makes it and how to mend it."""

from __future__ import annotations

from .errors import PlaitError

# --- reading a text


class InvalidSyntax(PlaitError, SyntaxError):
    """The text is not a plait program."""


class UnreadableFile(PlaitError, ValueError):
    """A `.plait` file is missing, empty, binary, or too large to be a program."""


class TooDeep(PlaitError, RecursionError):
    """An expression is nested deeper than the compiler follows; name a part of it."""


# --- names, axes, kinds


class UnknownName(PlaitError, NameError):
    """A name that nothing defines."""


class UnknownAxis(PlaitError, NameError):
    """An axis is used where the value has no such axis, or no such axis exists."""


class ShadowedName(PlaitError, NameError):
    """A name is given twice."""


class UnusedName(PlaitError, ValueError):
    """A statement, an axis or an input that nothing uses."""


class AmbiguousSubscript(PlaitError, IndexError):
    """A subscript does not say which axis it replaces; `x[{h: index}]` does."""


class UndeclaredAxis(PlaitError, ValueError):
    """An output has an axis that its declaration lacks, or lacks one that it declares."""


class KindMismatch(PlaitError, TypeError):
    """A bool where a number is needed, a real as an index, and the like."""


class PredicateTruth(PlaitError, TypeError):
    """A predicate over axes was used as one Python truth value."""


class DuplicateParameter(PlaitError, ValueError):
    """One full parameter key is declared twice."""


class MissingName(PlaitError, TypeError):
    """A layer was called without `name=`."""


class InvalidHeader(PlaitError, ValueError):
    """The header of a mixer and its function or its body do not fit."""


# --- sizes, presence, arguments


class AxisSizeMismatch(PlaitError, ValueError):
    """One axis has two sizes in one call."""


class InvalidSize(PlaitError, ValueError):
    """A size is negative, zero where it must not be, or not known where it must be."""


class RequirementFailed(PlaitError, ValueError):
    """A `require` of the program does not hold for the sizes of the call."""


class AbsentOutput(PlaitError, ValueError):
    """An output, an update or a carry is absent somewhere."""


class InvalidArgument(PlaitError, ValueError):
    """A static argument is out of range, or of a kind that the program cannot use."""


class UnknownArgument(PlaitError, TypeError):
    """A call gives an argument that the mixer does not have, or lacks one that it needs."""


# --- tensors and backends


class WrongRank(PlaitError, ValueError):
    """A tensor has another number of dimensions than its declaration."""


class WrongDtype(PlaitError, TypeError):
    """A tensor's dtype does not fit its declaration or the compiled program."""


class WrongDevice(PlaitError, ValueError):
    """Tensors of one call lie on different devices, or on one that the backend cannot use."""


class StateMismatch(PlaitError, ValueError):
    """The tensors given for a module are not those that it holds: a key or a shape differs."""


class UnknownBackend(PlaitError, ValueError):
    """There is no such backend, or it cannot run here."""


class MissingCompiler(PlaitError, OSError):
    """No C++ compiler was found, or it refused the generated source."""


class UnwritableCache(PlaitError, OSError):
    """The folder of built kernels cannot be made or written."""


class NotYet(PlaitError, NotImplementedError):
    """A form that the language has and this backend does not run yet."""


class NotFused(PlaitError, RuntimeError):
    """`on_unfused="error"`: a part of the program has no kernel, or stores what grows faster than its tensors."""


class TooLarge(PlaitError, MemoryError):
    """The reference interpreter would need more memory than there is."""

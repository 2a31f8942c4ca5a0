"""Tokens of a text: where they stand, and what those with a value spell.

The source of the text under way and where it begins there are a context variable, since lark binds
its transformer once and for all.
"""

from __future__ import annotations

import json
import math
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import cast

from lark import Token

from ..mistakes import InvalidSyntax
from ..program import Scalar
from ..source import Source, Span

MOST_DIGITS = 400
"""A longer number is a mistake, or an attack."""


@dataclass(frozen=True, slots=True)
class Text:
    """The text under way: where its first character stands in the source, and which brackets are open."""

    source: Source
    offset: int
    open: list[Token] = field(default_factory=list[Token])


_under: ContextVar[Text] = ContextVar("plait_reading")


@contextmanager
def reading(source: Source, offset: int) -> Generator[Text]:
    """Within it, tokens belong to `source`, `offset` characters further on."""
    text = Text(source, offset)
    token = _under.set(text)
    try:
        yield text
    finally:
        _under.reset(token)


def under_way() -> Text:
    """The text that is being read now."""
    return _under.get()


def span_of(token: Token) -> Span:
    """Where a token stands in the user's source."""
    under, start = _under.get(), token.start_pos or 0
    return Span(under.source, under.offset + start, under.offset + start + len(token))


def text_of(token: Token) -> str:
    """What a text in quotes says; raises InvalidSyntax for an escape that JSON does not have."""
    if token.type == "LONG_STRING":
        return str(token)[3:-3]
    try:
        return cast(str, json.loads(str(token)))
    except ValueError:
        raise InvalidSyntax(
            "this text in quotes has a character or an escape that it cannot hold", at=span_of(token), label="here",
            helps=['escapes are those of JSON: `\\"`, `\\\\`, `\\n`, `\\u00e9`'],
        ) from None  # fmt: skip


def number_of(token: Token) -> Scalar:
    """The number that a token spells; raises InvalidSyntax for one that is too large to be held."""
    text = str(token)
    if len(text) > MOST_DIGITS:
        raise InvalidSyntax(f"a number of {len(text)} digits is too long", at=span_of(token), label="here")
    if text.isdigit():
        return int(text)
    value = float(text.removesuffix("j"))
    if math.isinf(value):
        raise InvalidSyntax(
            "this number is too large", at=span_of(token), label="here", helps=["write `inf` for infinity"]
        )
    return complex(0.0, value) if text.endswith("j") else value


def whole(token: Token, what: str) -> int:
    """The whole number that a token spells; raises InvalidSyntax for another one."""
    value = number_of(token)
    if not isinstance(value, int):
        raise InvalidSyntax(f"{what} is a whole number", at=span_of(token), label="here")
    return value

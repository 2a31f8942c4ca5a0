"""Text to syntax tree: files, headers, and mistakes told at their place in words.

The grammar is `grammar.lark`; its table is made once a process. Nothing here executes what it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import cast

from lark import Lark, Token, UnexpectedInput, UnexpectedToken
from lark.lark import PostLex
from lark.lexer import PatternStr

from ..errors import Label
from ..mistakes import InvalidSyntax, ShadowedName, TooDeep, UnreadableFile
from ..source import Source, Span
from .header import Header
from .reading import Reading
from .syntax import MixerAst
from .tokens import Text, reading, span_of, under_way

MOST_CHARACTERS = 1_000_000
"""A longer text is no program."""

MOST_NESTED = 500
"""Brackets within brackets; a part of the expression can always get a name of its own."""


# --- what other modules call


def read_source(path: str | Path) -> Source:
    """The text of a file; raises UnreadableFile for what cannot be a program."""
    shown = str(path)
    try:
        with Path(path).open("rb") as file:
            data = file.read(4 * MOST_CHARACTERS + 1)
    except FileNotFoundError:
        raise UnreadableFile(f"there is no file `{shown}`") from None
    except OSError as problem:
        raise UnreadableFile(f"`{shown}` cannot be read: {(problem.strerror or 'error').lower()}") from None
    if not data.strip():
        raise UnreadableFile(
            f"`{shown}` is empty", helps=["a program begins with `mixer name(inputs) -> outputs:`"]
        )
    if b"\0" in data:
        raise UnreadableFile(f"`{shown}` is binary, and a program is text")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        if len(data) <= 4 * MOST_CHARACTERS:
            raise UnreadableFile(
                f"`{shown}` is no text in UTF-8: byte {problem.start} cannot be read",
                helps=["save it as UTF-8"],
            ) from None
        text = data.decode("utf-8-sig", errors="ignore")
    return _sized(Source(text, shown))


def parse_file(path: str | Path) -> tuple[MixerAst, ...]:
    """The mixers of a file; raises UnreadableFile, InvalidSyntax or TooDeep."""
    return _mixers(read_source(path))


def parse_text(text: str, path: str = "<text>") -> tuple[MixerAst, ...]:
    """The mixers of a text; raises UnreadableFile (too large), InvalidSyntax or TooDeep."""
    return _mixers(_sized(Source(text, path)))


def parse_header(text: str, source: Source, offset: int = 0) -> Header:
    """The header that stands in `source` at `offset`; raises InvalidSyntax or TooDeep.

    >>> parse_header("q[..., h] -> o[...]", Source("q[..., h] -> o[...]")).outputs[0].name
    'o'
    """
    flat = text.replace("\r", " ").replace("\n", " ")
    return cast("Header", _parsed(flat, "header", source, offset))


def _sized(source: Source) -> Source:
    if len(source.text) > MOST_CHARACTERS:
        raise UnreadableFile(
            f"`{source.path}` has more than {MOST_CHARACTERS:,} characters, which is too large for a program"
        )
    return source


def _mixers(source: Source) -> tuple[MixerAst, ...]:
    mixers = cast("tuple[MixerAst, ...]", _parsed(f"{source.text}\n", "file", source, 0))
    if not mixers:
        raise InvalidSyntax(
            "there is no mixer in this text", at=Span(source, 0, 0), label="expected `mixer`",
            helps=["a program begins with `mixer name(inputs) -> outputs:`"],
        )  # fmt: skip
    first: dict[str, MixerAst] = {}
    for mixer in mixers:
        if mixer.name in first:
            raise ShadowedName(
                f"there are two mixers `{mixer.name}`", at=mixer.span, label="the second",
                labels=[Label(first[mixer.name].span, "the first")],
            )  # fmt: skip
        first[mixer.name] = mixer
    return mixers


# --- lark


class Lines(PostLex):
    """Tokens between the lexer and the parser: inside brackets a line's end means nothing, behind the
    last line stands one."""

    always_accept = ("_NEWLINE",)

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        opened = under_way().open
        last: Token | None = None
        for token in stream:
            if token in ("(", "["):
                opened.append(token)
                if len(opened) > MOST_NESTED:
                    raise _too_deep(token)
            elif token in (")", "]") and opened:
                opened.pop()
            elif token.type == "_NEWLINE" and opened:
                continue
            last = token
            yield token
        if last is not None and last.type != "_NEWLINE":
            end = last.end_pos
            yield Token("_NEWLINE", "\n", end, last.end_line, last.end_column, end_pos=end)


def _too_deep(token: Token) -> TooDeep:
    return TooDeep(
        f"more than {MOST_NESTED} brackets are open at once", at=span_of(token), label="one too many",
        helps=["give a part of the expression a name: `v = ...`"],
    )  # fmt: skip


@cache
def _parser() -> Lark:
    grammar = files(__name__.rpartition(".")[0]).joinpath("grammar.lark").read_text(encoding="utf-8")
    return Lark(
        grammar, start=["file", "header"], parser="lalr", lexer="contextual", transformer=Reading(),
        postlex=Lines(), maybe_placeholders=True,
    )  # fmt: skip


def _parsed(text: str, start: str, source: Source, offset: int) -> object:
    with reading(source, offset) as under:
        try:
            read = cast("Callable[..., object]", _parser().parse)  # pyright: ignore[reportUnknownMemberType]
            return read(text, start=start)
        except UnexpectedInput as problem:
            raise _invalid(problem, under) from None


# --- mistakes

VALUES = frozenset(
    ("NAME", "STRING", "NUMBER", "BATCH", "LPAR", "REDUCER", "MAKER", "SCAN", "PLACE", "MINUS", "TILDE")
)
OPERATORS = frozenset(("OTHERWISE", "VBAR", "AMPERSAND", "COMPARE", "PLUS", "MINUS", "MULTIPLY", "POWER"))
STATEMENTS = frozenset(
    ("RANGE", "LIKE", "TABLE", "VARIABLE", "REQUIRE", "GIVEN", "MODE", "NAME", "STRING", "LONG_STRING")
)
GROUPS = (
    ("a value", VALUES, "LPAR", "REDUCER"),
    ("an operator", OPERATORS, "MULTIPLY", "COMPARE"),
    ("a statement", STATEMENTS, "REQUIRE", "NAME"),
)
"""Terminals told as one, where both of the last two are among them."""

WORDS = {
    "NAME": "a name", "STRING": "a text in quotes", "LONG_STRING": "a text in quotes", "NUMBER": "a number",
    "BATCH": "`...`", "_NEWLINE": "the end of the line", "$END": "the end of the text", "_BODY": "`:`",
    "KIND": "a kind (real, int, bool or complex)", "SCANNING": "`last` or `reverse`",
    "RANGE": "`near`, `span` or `axis`", "TABLE": "`param`, `buffer` or `draw`",
    "VARIABLE": "`previous` or `cotangent`", "GIVEN": "`update` or `output`", "REDUCER": "a reduction",
    "MAKER": "an algorithm over axes", "COMPARE": "a comparison", "MULTIPLY": "`*`, `/`, `//` or `%`",
}  # fmt: skip
"""What a message calls the terminals that are not one word."""


def _invalid(problem: UnexpectedInput, text: Text) -> InvalidSyntax:
    expected = _expected(problem)
    notes = [f"expected {expected}"] if expected else []
    if not isinstance(problem, UnexpectedToken):
        return _unreadable(problem, text, notes)
    token = cast("Token", problem.token)  # pyright: ignore[reportUnknownMemberType]
    ends = token.type in ("$END", "_NEWLINE")
    if ends:
        end = min(text.offset + (token.start_pos or 0), len(text.source.text))
        where, said, label = Span(text.source, end, end), "the line ends too early", "something is missing"
    else:
        where, said, label = span_of(token), f"`{_short(token)}` is not expected here", "not expected"
    labels = [Label(span_of(text.open[-1]), "not closed before")] if text.open else []
    return InvalidSyntax(
        said, at=where, label=label, labels=labels, notes=notes, helps=_helps(problem, token)
    )


def _unreadable(problem: UnexpectedInput, text: Text, notes: list[str]) -> InvalidSyntax:
    """No token begins here."""
    place = text.offset + (problem.pos_in_stream or 0)
    found = text.source.text[place]
    where = Span(text.source, place, place + 1)
    if found == '"':
        return InvalidSyntax(
            "this text in quotes does not end on its line", at=where, label="begins here",
            helps=["close it with another one on the same line"],
        )  # fmt: skip
    shown = f"`{found}`" if found.isprintable() and not found.isspace() else f"U+{ord(found):04X}"
    return InvalidSyntax(
        f"the character {shown} has no meaning here", at=where, label="not expected", notes=notes
    )


def _expected(problem: UnexpectedInput) -> str:
    """What could come next, in words: `a value, `)` or the end of the line`."""
    parser = getattr(problem, "interactive_parser", None)
    names: set[str] = set(parser.accepts()) if parser is not None else set()
    said: list[str] = []
    for phrase, group, *signs in GROUPS:
        if names.issuperset(signs):
            said.append(phrase)
            names -= group
    said += sorted({_word(name) for name in names})
    return said[0] if len(said) == 1 else f"{', '.join(said[:-1])} or {said[-1]}" if said else ""


@cache
def _patterns() -> dict[str, str]:
    return {
        each.name: each.pattern.value for each in _parser().terminals if isinstance(each.pattern, PatternStr)
    }


def _word(name: str) -> str:
    return WORDS[name] if name in WORDS else f"`{_patterns()[name]}`"


def _short(token: Token) -> str:
    text = str(token)
    return text if len(text) <= 30 else f"{text[:27]}..."


def _helps(problem: UnexpectedToken, token: Token) -> list[str]:
    """Remedies for what people write who come from Python."""
    history = cast("list[Token] | None", problem.token_history)  # pyright: ignore[reportUnknownMemberType]
    before = history[-1] if history else None
    if before is not None and before.type in ("REDUCER", "MAKER", "SCAN", "PLACE"):
        usual = {"REDUCER": f"{before}[d](x)", "MAKER": f"{before}[h -> u](x)", "SCAN": "scan[t](p: step)"}
        said = f"write `{usual[before.type]}`" if before.type in usual else "write `place(y, h: e)`"
        return [said, f'a value of that name is written `"{before}"`']
    if token == "=" and "COMPARE" in (problem.accepts or ()):
        return ["`==` compares; `=` names a value, once at the beginning of a line"]
    if token.type == "NAME" and token in ("if", "else", "for", "while", "lambda", "def", "import", "return"):
        return ["a program is text without Python in it; `select(p, x, y)` chooses, `scan` repeats"]
    return []

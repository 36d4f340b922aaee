"""SQL with jinja in a form that comments and layout do not change."""

import functools
import re
from collections.abc import Iterator

_STRING = r"""(?: '(?:\\.|[^'\\])*' | "(?:\\.|[^"\\])*" )"""
_JINJA_COMMENT = r"\{\#.*?\#\}"
# Possessive throughout: a quote that is never closed would otherwise be tried in 2^n ways.
_JINJA = rf"""(?: \{{\{{ (?:{_STRING}|(?!\}}\}}).)*+ \}}\}} | \{{% (?:{_STRING}|(?!%\}}).)*+ %\}} )"""
_SQL = re.compile(
    rf"""
      (?P<jinja> {_JINJA} )
    | (?P<jinja_comment> {_JINJA_COMMENT} )
    | (?P<comment> --[^\n]* | /\*.*?\*/ )
    | (?P<quoted>
          \b[eE]'(?: {_JINJA} | {_JINJA_COMMENT} | \\. | '' | [^'\\] )*+'
        | '(?: {_JINJA} | {_JINJA_COMMENT} | '' | [^'] )*+'
        | "(?: {_JINJA} | {_JINJA_COMMENT} | "" | [^"] )*+"
        | (?P<dollar> \$\w*\$ ).*?(?P=dollar)
      )
    """,
    re.DOTALL | re.VERBOSE,
)
_JINJA_PARTS = re.compile(r"(\{[{%][-+]?)(.*?)([-+]?[}%]\})", re.DOTALL)
_QUOTED_IN_JINJA = re.compile(_STRING, re.DOTALL | re.VERBOSE)
_SPACE = re.compile(r"\s+")
_LOOSE_SPACE = re.compile(r" ?([,()=]) ?")


@functools.cache
def normal_form(sql: str) -> str:
    """Remove comments, and white space that separates nothing; the rest keeps its order and its case.

    SQL and jinja comments go. White space within quotes stays; elsewhere a run of it becomes one blank, and
    none beside ``, ( ) =``. A SQL comment that holds jinja stays, because dbt runs that.

    Not seen: a change of white space in the text of a macro that is called between SQL quotes.
    """
    return _squeezed(_sql_pieces(sql))


def without_strings(sql: str) -> str:
    """The normal form with every quoted text emptied, for looking up what the SQL calls."""
    return re.sub(_STRING, "''", normal_form(sql), flags=re.DOTALL | re.VERBOSE)


def _sql_pieces(sql: str) -> Iterator[tuple[bool, str]]:
    """The text cut into pieces that have to stay as they are (True) and pieces that may be squeezed."""
    position = 0
    for token in _SQL.finditer(sql):
        yield False, sql[position : token.start()]
        position = token.end()
        text = token.group()
        if token["jinja"]:
            yield True, _normal_jinja(text)
        elif token["quoted"] or (token["comment"] and re.search(r"\{[{%]", text)):
            yield True, text
        else:
            yield False, " "
    yield False, sql[position:]


def _normal_jinja(block: str) -> str:
    parts = _JINJA_PARTS.fullmatch(block)
    if parts is None:
        return block
    opening, inner, closing = parts.groups()
    return f"{opening} {_squeezed(_jinja_pieces(inner))} {closing}"


def _jinja_pieces(inner: str) -> Iterator[tuple[bool, str]]:
    position = 0
    for token in _QUOTED_IN_JINJA.finditer(inner):
        yield False, inner[position : token.start()]
        yield True, token.group()
        position = token.end()
    yield False, inner[position:]


def _squeezed(pieces: Iterator[tuple[bool, str]]) -> str:
    kept: list[str] = []
    loose = ""
    for stays, text in pieces:
        if stays:
            kept += [_squeeze(loose), text]
            loose = ""
        else:
            loose += text
    kept.append(_squeeze(loose))
    return "".join(kept).strip()


def _squeeze(text: str) -> str:
    return _LOOSE_SPACE.sub(r"\1", _SPACE.sub(" ", text))

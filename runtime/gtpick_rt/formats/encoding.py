"""The text of files that other programs have written, whatever its encoding, and as gemmi can take
it.

gemmi takes only ASCII outside quotes, though RELION writes bare names of any bytes, and only UTF-8
inside. So bare words of other letters are quoted, and bytes that are not UTF-8, which Python keeps
as lone surrogates, stand for the time being as characters that nobody uses.
"""

import codecs
import math
import re

from gemmi import cif

from gtpick_rt.formats.rows import WORDS, check_rows

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SURROGATES, _PRIVATE = range(0xDC80, 0xDD00), range(0x10FE80, 0x10FF00)
_HIDDEN = dict(zip(_SURROGATES, _PRIVATE, strict=True))
_SHOWN = {private: surrogate for surrogate, private in _HIDDEN.items()}
_LINE_ENDS = re.compile(r"\r\n|\r|\n")
"""gemmi takes a lone CR for part of a comment."""


def decode(data: bytes) -> str:
    """Decode UTF-8, with or without a byte order mark, or UTF-16 with one.

    Other bytes become lone surrogates, as in file names.
    """
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "surrogateescape" if encoding == "utf-8" else "replace")
    return data.decode("utf-8", "surrogateescape")


def parse(data: bytes) -> cif.Document:
    """Parse a STAR file; `word` reads its values. Raises ValueError or RuntimeError.

    A row that has more values than columns, or fewer, is told by its line.
    """
    lines = _LINE_ENDS.split(decode(data))
    check_rows(lines)
    text = "\n".join(lines)
    return cif.read_string(text if text.isascii() else _quoted(text.translate(_HIDDEN)))


def word(value: str) -> str:
    """What a value of a parsed file says, without its quotes."""
    return str(cif.as_string(value)).translate(_SHOWN)


def number(value: str) -> float:
    """What a value of a parsed file says as a number; NaN where it says none."""
    return float(cif.as_number(value)) if value.isascii() else math.nan


def _quoted(text: str) -> str:
    lines, inside = text.split("\n"), False
    for number, line in enumerate(lines):
        if line.startswith(";"):
            inside = not inside  # a text field, up to the next line that begins so
        elif not inside and not line.isascii():
            lines[number] = WORDS.sub(_quote, line)
    return "\n".join(lines)


def _quote(found: re.Match[str]) -> str:
    bare = found[0]
    if bare.isascii() or bare[0] in "'\"#":
        return bare
    quote = '"' if "'" in bare else "'"
    return f"{quote}{bare}{quote}"

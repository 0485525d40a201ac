"""Text files from the wild: any common encoding, any line ends, numbers with decimal points or commas.

Not a table reader: that is each format's own business.
"""

from __future__ import annotations

import codecs
from pathlib import Path

from rt_engine.errors import FileFormatError

LARGEST_BYTES = 512 * 2**20
"""A text file beyond this is no table of stimulations."""

MISSING_WORDS = frozenset({"", "(null)", "null", "nan", "na", "n/a", "none", "-", "--", "."})
"""How programs and people write that there is no number, in lower case."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def read_bytes(path: str | Path) -> bytes:
    """Read a file.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    bytes

    Raises
    ------
    FileFormatError
        There is no such file, it cannot be read, or it is too large.
    """
    path = Path(path)
    if not path.is_file():
        raise FileFormatError(f"There is no file {path}. Check the path.")
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise FileFormatError(f"{path} has {path.stat().st_size} bytes; expected a table of at most 512 MiB.")
        return path.read_bytes()
    except OSError as error:
        raise FileFormatError(f"Cannot read {path}: {error}. Check its permissions.") from error


def read_lines(path: str | Path) -> list[str]:
    """Read a text file's lines.

    Encodings: by the byte order mark; else UTF-16 where every other byte is zero, UTF-8 where that fits, and Latin-1
    (Windows-1252) otherwise. Lines may end with CR, LF or both.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    list of str
        Without line ends; line n of an editor is item n - 1.

    Raises
    ------
    FileFormatError
        There is no such file, or it is no text.
    """
    data = read_bytes(path)
    try:
        text = _decoded(data)
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path} is no text in {error.encoding}: byte {error.start}. Export it again.") from error
    if "\0" in text:
        raise FileFormatError(f"{path} holds zero bytes: it is no text file, or damaged. Export it again.")
    # Not splitlines(): it would also split at form feeds and the like, and line numbers would not be an editor's.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines[:-1] if lines and not lines[-1] else lines


def parse_number(text: str) -> float:
    """Read a number that may have a decimal comma.

    Parameters
    ----------
    text : str
        The cell's text.

    Returns
    -------
    float
        NaN where the text is a word for a missing value.

    Raises
    ------
    ValueError
        It is neither; or infinite, or has both a comma and a point, which could mean two numbers.
    """
    text = text.strip().strip('"').strip()
    if text.lower() in MISSING_WORDS:
        return float("nan")
    if "," in text:
        if text.count(",") > 1 or "." in text:
            raise ValueError(f"{text!r} could mean more than one number")
        text = text.replace(",", ".")
    if "_" in text:  # which Python would accept
        raise ValueError(f"{text!r} is no number")
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{text!r} is infinite")
    return number


def _decoded(data: bytes) -> str:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding)
    head = data[:400]
    if len(head) >= 4:
        for start, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
            half = head[start::2]
            if half.count(0) > 0.8 * len(half):
                return data.decode(encoding)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")

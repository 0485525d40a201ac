"""Small XML files as a tree that knows its lines; nothing in a file can make it grow or fetch anything.

Entities need a document type, and a file that declares one is refused before it is read on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from rt_engine.errors import FileFormatError
from trainer.importers.wild_text import read_bytes

DEEPEST = 64
"""Levels of elements; real files have about six."""


@dataclass(eq=False)
class Element:
    """One element: its name, the line that it begins in, attributes, text and children."""

    tag: str
    line: int
    attribute: dict[str, str]
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def all(self, tag: str) -> Iterator[Element]:
        """Give all elements of a name, this one and those below, in the file's order."""
        if self.tag == tag:
            yield self
        for child in self.children:
            yield from child.all(tag)

    def child(self, tag: str) -> Element | None:
        """Return the first child of a name."""
        return next((child for child in self.children if child.tag == tag), None)


def read_xml(path: str | Path) -> Element:
    """Read a file.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    Element
        The outermost element.

    Raises
    ------
    FileFormatError
        No such file, no XML, truncated, too deep, or with a document type.
    """
    data = read_bytes(path)
    top = Element("", 0, {})
    stack = [top]
    parser = expat.ParserCreate()

    def begin(tag: str, attribute: dict[str, str]) -> None:
        if len(stack) > DEEPEST:
            raise FileFormatError(f"{path}, line {parser.CurrentLineNumber}: more than {DEEPEST} elements deep.")
        element = Element(tag, parser.CurrentLineNumber, attribute)
        stack[-1].children.append(element)
        stack.append(element)

    def end(_: str) -> None:
        stack.pop()

    def text(characters: str) -> None:
        stack[-1].text += characters

    def refuse(*_: object) -> None:
        raise FileFormatError(
            f"{path}, line {parser.CurrentLineNumber}: the file declares a document type (DOCTYPE), with which it "
            "could define entities without end; no navigator's pose file needs one. Is it another program's format?"
        )

    parser.StartElementHandler = begin
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise FileFormatError(
            f"{path}, line {error.lineno}: no well-formed XML ({expat.ErrorString(error.code)}). Is the file "
            "truncated? Export or copy it again."
        ) from error
    except (LookupError, ValueError, UnicodeError) as error:  # an encoding that Python has not, or cannot give expat
        raise FileFormatError(
            f"{path}, line 1: the XML's encoding cannot be read ({error}). Export as UTF-8."
        ) from error
    return top.children[0]

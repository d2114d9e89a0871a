"""XMP packets (ISO 16684-1): parsed to find what must be removed, and cut there, so that every other byte is unchanged.

A serialiser would write other prefixes, no packet wrapper, and other white space.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from xml.parsers import expat

Name = tuple[str, str]
"""(namespace URI, local name)."""
Edit = tuple[int, int, bytes]
"""(start, end, what takes the place of the bytes between)."""

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
RDF, DESCRIPTION, ITEM = (_RDF, "RDF"), (_RDF, "Description"), (_RDF, "li")
# An element takes about a kilobyte and 10 microseconds, which four bytes of XML can cause.
_MAX_ELEMENTS = 100_000
_MAX_DEPTH = 100
# Names and numbers; the text of embedded pictures is not collected.
_MAX_TEXT = 10_000
# In a tag that is known to be well-formed.
_ATTRIBUTE = re.compile(rb"\s+([^\s=]+)\s*=\s*(\"[^\"]*\"|'[^']*')")
_TAG_START = re.compile(rb"<[^\s/>]+")


class XmpError(ValueError):
    """The packet is not well-formed, has a document type (where entities are declared), or too many or too deep elements."""


@dataclass(frozen=True)
class Attribute:
    """An attribute, and where in the packet it lies, with the white space before it."""

    text: str
    start: int
    end: int


@dataclass
class Element:
    """An element, and where in the packet it lies, from its start tag to its end tag."""

    name: Name
    start: int
    head_end: int
    """One past its start tag."""
    attributes: dict[Name, Attribute]
    end: int = 0
    children: list[Element] = field(default_factory=list)
    text: str = ""


Property = Attribute | Element


def parse(packet: bytes) -> Element:
    """The root element of a packet in UTF-8, the only encoding that JPEG and PNG allow.

    Raises:
        XmpError: see there.
    """
    parser = expat.ParserCreate("UTF-8", " ")
    parser.ordered_attributes = True
    parser.buffer_text = True
    open_elements: list[Element] = []
    roots: list[Element] = []
    count = 0

    def start(name: str, attributes: list[str]) -> None:
        nonlocal count
        count += 1
        if count > _MAX_ELEMENTS or len(open_elements) == _MAX_DEPTH:
            raise XmpError(f"it has more than {_MAX_ELEMENTS:,} elements, or more than {_MAX_DEPTH} within one another")
        element = _opened(packet, parser.CurrentByteIndex, name, attributes)
        (open_elements[-1].children if open_elements else roots).append(element)
        open_elements.append(element)

    def end(_: str) -> None:
        element = open_elements.pop()
        empty = packet[element.head_end - 2 : element.head_end] == b"/>"
        element.end = element.head_end if empty else packet.index(b">", parser.CurrentByteIndex) + 1

    def text(content: str) -> None:
        if open_elements and len(open_elements[-1].text) < _MAX_TEXT:
            open_elements[-1].text += content[:_MAX_TEXT]

    def refuse(*_: object) -> None:
        raise XmpError("it has a document type")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(packet.rstrip(b"\x00 \t\r\n"), True)
    except expat.ExpatError as error:
        raise XmpError(f"it is not well-formed: {error}") from error
    return roots[0]


def properties(root: Element) -> Iterator[tuple[Name, Property]]:
    """The top-level properties: the attributes and child elements of the descriptions in rdf:RDF."""
    for container in [root, *root.children]:
        if container.name == RDF:
            for description in container.children:
                yield from description.attributes.items()
                yield from ((child.name, child) for child in description.children)


def fields(element: Element) -> dict[Name, Property]:
    """The fields of a structure, however it is written: attributes, child elements, or those of a description in it."""
    found: dict[Name, Property] = dict(element.attributes)
    for child in element.children:
        if child.name == DESCRIPTION:
            found |= child.attributes
            found |= {grandchild.name: grandchild for grandchild in child.children}
        else:
            found[child.name] = child
    return found


def items(array: Property | None) -> list[Element]:
    """The items of an array (rdf:Bag, rdf:Seq or rdf:Alt); none of another property."""
    if not isinstance(array, Element):
        return []
    return [item for container in array.children for item in container.children if item.name == ITEM]


def text_of(value: Property | None) -> str:
    """The text of a simple property, or of the first language of a text in several; empty where there is none."""
    return next(iter(texts_of(value)), "")


def texts_of(value: Property | None) -> list[str]:
    """The texts of a simple property, of one in several languages, or of an array; without empty ones."""
    parts: Sequence[Property] = items(value) or ([value] if value is not None else [])
    return [text for part in parts if (text := part.text.strip())]


def edited(packet: bytes, edits: Iterable[Edit]) -> bytes:
    """The packet with the edits made; of two that overlap, the one that starts first, or else the longer one."""
    parts, position = [], 0
    for start, end, replacement in sorted(edits, key=lambda edit: (edit[0], -edit[1])):
        if start >= position:
            parts += [packet[position:start], replacement]
            position = end
    return b"".join(parts) + packet[position:]


def removal(part: Property) -> Edit:
    """The edit that takes an attribute or element away."""
    return part.start, part.end, b""


def _opened(packet: bytes, start: int, name: str, pairs: list[str]) -> Element:
    values = [(_name(pairs[index]), pairs[index + 1]) for index in range(0, len(pairs), 2)]
    tag = _TAG_START.match(packet, start)
    assert tag is not None
    position = tag.end()
    attributes: dict[Name, Attribute] = {}
    while match := _ATTRIBUTE.match(packet, position):
        position = match.end()
        # expat gives declarations of namespaces apart.
        if match[1] != b"xmlns" and not match[1].startswith(b"xmlns:"):
            key, value = values[len(attributes)]
            attributes[key] = Attribute(value, match.start(), match.end())
    return Element(_name(name), start, packet.index(b">", position) + 1, attributes)


def _name(qualified: str) -> Name:
    namespace, _, local = qualified.rpartition(" ")
    return namespace, local

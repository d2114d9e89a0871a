"""XMP packets for tests, and an independent reader of what is written: ElementTree, and JPEG segments by hand."""

from __future__ import annotations

import struct
from xml.etree import ElementTree

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
PREFIXES = {
    "rdf": RDF,
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "xmpGImg": "http://ns.adobe.com/xap/1.0/g/img/",
    "xmpNote": "http://ns.adobe.com/xmp/note/",
    "dc": "http://purl.org/dc/elements/1.1/",
    "hdrgm": "http://ns.adobe.com/hdr-gain-map/1.0/",
    "Container": "http://ns.google.com/photos/1.0/container/",
    "Item": "http://ns.google.com/photos/1.0/container/item/",
    "GCamera": "http://ns.google.com/photos/1.0/camera/",
    "GDepth": "http://ns.google.com/photos/1.0/depthmap/",
    "GImage": "http://ns.google.com/photos/1.0/image/",
    "mwg-rs": "http://www.metadataworkinggroup.com/schemas/regions/",
    "stArea": "http://ns.adobe.com/xmp/sType/Area#",
    "stDim": "http://ns.adobe.com/xap/1.0/sType/Dimensions#",
    "MP": "http://ns.microsoft.com/photo/1.2/",
    "MPRI": "http://ns.microsoft.com/photo/1.2/t/RegionInfo#",
    "MPReg": "http://ns.microsoft.com/photo/1.2/t/Region#",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
}
XMP, EXTENSION = b"http://ns.adobe.com/xap/1.0/\x00", b"http://ns.adobe.com/xmp/extension/\x00"


def packet(elements: str = "", attributes: str = "", *, wrapped: bool = False) -> bytes:
    """An XMP packet with properties as elements and as attributes; with its wrapper and padding where `wrapped`."""
    declared = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in PREFIXES.items() if prefix != "rdf")
    xml = (
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}">\n'
        f'<rdf:Description rdf:about="" {declared} {attributes}>\n{elements}\n</rdf:Description></rdf:RDF></x:xmpmeta>'
    )
    if wrapped:
        xml = f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n{xml}\n{" " * 200}<?xpacket end="w"?>'
    return xml.encode()


def names_in(xmp: bytes) -> set[str]:
    """`prefix:name` of every element and attribute of a packet that is well-formed, without those of RDF."""
    back = {uri: prefix for prefix, uri in PREFIXES.items()}
    found = set()
    for element in ElementTree.fromstring(xmp.rstrip(b"\x00 \n")).iter():
        for qualified in (element.tag, *element.attrib):
            uri, _, local = qualified.removeprefix("{").partition("}")
            if uri in back and uri != RDF:
                found.add(f"{back[uri]}:{local}")
    return found


def segments(data: bytes) -> list[tuple[int, bytes]]:
    """(marker, payload) of the segments of a JPEG file before its first scan."""
    found, position = [], 2
    while data[position + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", data, position + 2)
        found.append((data[position + 1], data[position + 4 : position + 2 + length]))
        position += 2 + length
    return found


def main_xmp(data: bytes) -> bytes:
    """The main packet of a JPEG file."""
    (found,) = [payload[len(XMP) :] for marker, payload in segments(data) if marker == 0xE1 and payload.startswith(XMP)]
    return found


def extended_xmp(data: bytes) -> tuple[str, bytes] | None:
    """(GUID, packet) of the extended XMP of a JPEG file, joined by its offsets; None where there is none."""
    headers = [p[len(EXTENSION) :] for marker, p in segments(data) if marker == 0xE1 and p.startswith(EXTENSION)]
    if not headers:
        return None
    guids = {header[:32] for header in headers}
    totals = {struct.unpack(">L", header[32:36])[0] for header in headers}
    assert len(guids) == len(totals) == 1
    whole = bytearray(totals.pop())
    covered = 0
    for header in headers:
        (offset,) = struct.unpack(">L", header[36:40])
        whole[offset : offset + len(header) - 40] = header[40:]
        covered += len(header) - 40
    assert covered == len(whole)
    return guids.pop().decode(), bytes(whole)

"""XMP in PNG: an iTXt chunk with a keyword of its own (ISO 16684-3)."""

from __future__ import annotations

import zlib

Chunk = tuple[bytes, bytes]
"""(type, data)."""

_KEYWORD = b"XML:com.adobe.xmp\x00"
_COMPRESSED = b"\x01"
_MAX_PACKET = 64 * 2**20


def is_xmp(chunk: Chunk) -> bool:
    """Whether the chunk is meant to hold an XMP packet."""
    kind, content = chunk
    return kind == b"iTXt" and content.startswith(_KEYWORD)


def packet_of(chunk: Chunk) -> bytes | None:
    """The XMP packet in a chunk; None where it holds none, or one that unpacks to more than 64 MiB.

    Raises:
        zlib.error: its compressed text is damaged.
    """
    if not is_xmp(chunk):
        return None
    _, content = chunk
    text = content[_text_at(content) :]
    if not _is_compressed(content):
        return text
    inflater = zlib.decompressobj()
    packet = inflater.decompress(text, _MAX_PACKET)
    return None if inflater.unconsumed_tail else packet


def with_packet(chunk: Chunk, packet: bytes) -> Chunk:
    """The chunk, which holds a packet, with another one in its place; the chunk itself where it is the same."""
    kind, content = chunk
    if packet_of(chunk) == packet:
        return chunk
    return kind, content[: _text_at(content)] + (zlib.compress(packet) if _is_compressed(content) else packet)


def _is_compressed(content: bytes) -> bool:
    return content[len(_KEYWORD) : len(_KEYWORD) + 1] == _COMPRESSED


def _text_at(content: bytes) -> int:
    """Where the text begins: behind the keyword, two bytes, and two more texts that end with zero (PNG 11.3.3.4)."""
    language_at = len(_KEYWORD) + 2
    return content.find(b"\x00", content.find(b"\x00", language_at) + 1) + 1

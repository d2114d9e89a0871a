"""The quantiser and the size of an AV1 still picture, from its sequence and frame headers (AV1 specification 1.0.0, 5.3, 5.5 and 5.9)."""

from __future__ import annotations

from dataclasses import dataclass

_SEQUENCE_HEADER, _FRAME_HEADER, _FRAME = 1, 3, 6
_SELECTED = 2
"""A tool that each frame header switches on or off."""
_KEY_FRAME = 0
_MAX_TILE_WIDTH, _MAX_TILE_AREA, _MAX_TILES = 4096, 4096 * 2304, 64


def base_quantiser(data: bytes) -> int | None:
    """`base_q_idx` (0 to 255) of the first frame; None where the headers are unreadable or of a kind that stills do not have.

    Args:
        data: the open bitstream units (OBU) of one picture.
    """
    sequence: _Sequence | None = None
    try:
        for kind, content in _units(data):
            if kind == _SEQUENCE_HEADER:
                sequence = _sequence(_Bits(content))
            elif kind in (_FRAME_HEADER, _FRAME) and sequence is not None:
                return _frame_quantiser(_Bits(content), sequence)
    except (EOFError, _UnusualError):
        pass
    return None


def sequence_size(data: bytes) -> tuple[int, int] | None:
    """(width, height), the most that a picture of the stream can have; None where the sequence header is unreadable.

    Args:
        data: the open bitstream units (OBU) of one picture.
    """
    try:
        header = next((content for kind, content in _units(data) if kind == _SEQUENCE_HEADER), None)
        return None if header is None else _sequence(_Bits(header)).size
    except (EOFError, _UnusualError):
        return None


class _UnusualError(Exception):
    """A header of a kind that still pictures do not have."""


class _Bits:
    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data[:64], "big"), 8 * len(data[:64])

    def take(self, count: int = 1) -> int:
        if count > self._left:
            raise EOFError
        self._left -= count
        return self._value >> self._left & ((1 << count) - 1)


@dataclass(frozen=True)
class _Sequence:
    """What of a sequence header the frame header depends on."""

    reduced: bool
    size_bits: tuple[int, int]
    size: tuple[int, int]
    frame_id_bits: int
    large_blocks: bool
    screen_tools: int
    integer_motion: int
    order_hint_bits: int
    super_resolution: bool


def _units(data: bytes) -> list[tuple[int, bytes]]:
    """(type, content) of the first units; those after the first frame's start are not needed."""
    units: list[tuple[int, bytes]] = []
    position = 0
    while position < len(data) and len(units) < 16:
        header = data[position]
        position += 2 if header & 4 else 1
        size = len(data) - position
        if header & 2:
            size, shift = 0, 0
            while True:
                if position >= len(data) or shift > 28:
                    raise EOFError
                size |= (data[position] & 0x7F) << shift
                position, shift = position + 1, shift + 7
                if not data[position - 1] & 0x80:
                    break
        units.append((header >> 3 & 15, data[position : position + min(size, 64)]))
        position += size
    return units


def _sequence(bits: _Bits) -> _Sequence:
    bits.take(3 + 1)
    reduced = bool(bits.take())
    if reduced:
        bits.take(5)
    else:
        if bits.take():  # timing
            raise _UnusualError
        delays = bits.take()
        for _ in range(bits.take(5) + 1):
            bits.take(12)
            if bits.take(5) > 7:
                bits.take()
            if delays and bits.take():
                bits.take(4)
    size_bits = bits.take(4) + 1, bits.take(4) + 1
    size = bits.take(size_bits[0]) + 1, bits.take(size_bits[1]) + 1
    frame_id_bits = 0
    if not reduced and bits.take():
        frame_id_bits = bits.take(4) + 2
        frame_id_bits += bits.take(3) + 1
    large_blocks = bool(bits.take())
    bits.take(2)
    screen_tools = integer_motion = _SELECTED
    order_hint_bits = 0
    if not reduced:
        bits.take(4)
        order_hints = bits.take()
        bits.take(2 * order_hints)
        screen_tools = _SELECTED if bits.take() else bits.take()
        if screen_tools:
            integer_motion = _SELECTED if bits.take() else bits.take()
        order_hint_bits = bits.take(3) + 1 if order_hints else 0
    return _Sequence(
        reduced=reduced,
        size_bits=size_bits,
        size=size,
        frame_id_bits=frame_id_bits,
        large_blocks=large_blocks,
        screen_tools=screen_tools,
        integer_motion=integer_motion,
        order_hint_bits=order_hint_bits,
        super_resolution=bool(bits.take()),
    )


def _frame_quantiser(bits: _Bits, sequence: _Sequence) -> int:
    if not sequence.reduced and (bits.take(), bits.take(2), bits.take()) != (0, _KEY_FRAME, 1):
        raise _UnusualError  # Not a shown key frame.
    no_adaptation = bits.take()
    screen_tools = bits.take() if sequence.screen_tools == _SELECTED else sequence.screen_tools
    if screen_tools and sequence.integer_motion == _SELECTED:
        bits.take()
    bits.take(sequence.frame_id_bits)
    own_size = not sequence.reduced and bits.take()
    bits.take(sequence.order_hint_bits)
    width, height = sequence.size
    if own_size:
        width, height = bits.take(sequence.size_bits[0]) + 1, bits.take(sequence.size_bits[1]) + 1
    if sequence.super_resolution and bits.take():
        raise _UnusualError
    if bits.take():  # size of the display
        bits.take(32)
    if screen_tools:
        bits.take()
    if not sequence.reduced and not no_adaptation:
        bits.take()
    _skip_tiles(bits, width, height, sequence.large_blocks)
    return bits.take(8)


def _skip_tiles(bits: _Bits, width: int, height: int, large_blocks: bool) -> None:
    """Read `tile_info` (5.9.15)."""
    side = 7 if large_blocks else 6
    columns, rows = (-(-(-(-length // 8) * 8) // 2**side) for length in (width, height))
    fewest_columns = _log2(_MAX_TILE_WIDTH >> side, columns)
    fewest = max(fewest_columns, _log2(_MAX_TILE_AREA >> 2 * side, rows * columns))
    if not bits.take():
        raise _UnusualError  # Tiles of different sizes.
    column_log = _increments(bits, fewest_columns, _log2(1, min(columns, _MAX_TILES)))
    row_log = _increments(bits, max(fewest - column_log, 0), _log2(1, min(rows, _MAX_TILES)))
    if column_log + row_log:
        bits.take(column_log + row_log + 2)


def _increments(bits: _Bits, value: int, limit: int) -> int:
    while value < limit and bits.take():
        value += 1
    return value


def _log2(block: int, target: int) -> int:
    """The smallest k with block * 2 ** k >= target."""
    exponent = 0
    while block << exponent < target:
        exponent += 1
    return exponent

"""Whether a file is as long as its own headers say: Matroska and WebM, MP4 and QuickTime, AVI.

What is cut off can often be decoded up to there without a complaint. All of these containers write in front how many
bytes a part has; a file that ends before is not whole, whatever it lacks. Some writers leave a length open (0, or
Matroska's "unknown", in streams): such a part says nothing.
"""

from __future__ import annotations

_EBML = b"\x1a\x45\xdf\xa3"
_BOXES = frozenset(
    (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"moof", b"mfra", b"sidx", b"styp", b"uuid", b"meta")
)
"""Kinds of boxes at the top of an MP4 file; anything else behind a whole file is not its own."""


def missing_bytes(data: bytes) -> int:
    """How many bytes a file's headers declare beyond its end; 0 if it is whole, or of another kind.

    Sources: RFC 8794 (EBML), ISO/IEC 14496-12 section 4.2 (boxes), Microsoft's AVI RIFF reference.
    """
    if data.startswith(_EBML):
        end = _end_of_elements(data)
    elif data.startswith(b"RIFF"):
        end = _end_of_chunks(data)
    else:
        end = _end_of_boxes(data)
    return max(0, end - len(data))


def _end_of_elements(data: bytes) -> int:
    """Where the last EBML element at the top ends that says so: the header, then the segment with everything."""
    at = end = 0
    while at < len(data):
        name = _length_of_number(data[at])
        size_at = at + name
        if not name or size_at >= len(data):
            break
        width = _length_of_number(data[size_at])
        field = data[size_at : size_at + width]
        if not width or len(field) < width:
            break
        most = (1 << 7 * width) - 1
        size = int.from_bytes(field, "big") & most
        if size == most:
            break
        at = end = size_at + width + size
    return end


def _length_of_number(first: int) -> int:
    """Bytes of an EBML number by its first byte, as many as the bit that is set first says; 0 if none is."""
    return 9 - first.bit_length() if first else 0


def _end_of_chunks(data: bytes) -> int:
    """Where the last RIFF chunk ends; a large AVI file has several."""
    at = end = 0
    while data[at : at + 4] == b"RIFF" and at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + size
        # Chunks begin at even places; the byte between may be left out at the end.
        at = end + size % 2
    return end


def _end_of_boxes(data: bytes) -> int:
    """Where the last box at the top ends that says so."""
    at = end = 0
    while data[at + 4 : at + 8] in _BOXES:
        size, head = int.from_bytes(data[at : at + 4], "big"), 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        if size < head:
            break
        at = end = at + size
    return end

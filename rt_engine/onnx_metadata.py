"""An ONNX file's metadata, read without ONNX Runtime.

A dozen lines of protobuf spare the engine the package `onnx`, and a file its session when only its metadata is wanted.
https://protobuf.dev/programming-guides/encoding
"""


def read_metadata(content: bytes) -> dict[str, str]:
    """Read `ModelProto.metadata_props` (field 14, entries with key = 1, value = 2) from an ONNX file's bytes.

    Raises
    ------
    IndexError, ValueError
        If the bytes are no protobuf, or a key stands in them twice.
    """
    properties: dict[str, str] = {}
    for number, entry in _protobuf_fields(content):
        if number == 14:
            pair = dict(_protobuf_fields(entry))
            key = pair.get(1, b"").decode()
            if key in properties:
                raise ValueError(f"metadata {key!r} stands in it twice")
            properties[key] = pair.get(2, b"").decode()
    return properties


def _protobuf_fields(content: bytes) -> list[tuple[int, bytes]]:
    """Return number and bytes of each length-delimited field, skipping the others."""
    fields: list[tuple[int, bytes]] = []
    at = 0
    while at < len(content):
        tag, at = _varint(content, at)
        wire_type = tag & 7
        if wire_type == 0:
            _, at = _varint(content, at)
        elif wire_type == 1:
            at += 8
        elif wire_type == 5:
            at += 4
        elif wire_type == 2:
            length, at = _varint(content, at)
            if at + length > len(content):
                raise ValueError("a field reaches beyond the end")
            fields.append((tag >> 3, content[at : at + length]))
            at += length
        else:
            raise ValueError(f"wire type {wire_type} at byte {at}")
    return fields


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError(f"overlong integer at byte {at}")

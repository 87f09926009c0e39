"""Records of TensorBoard's event files, with their checksums.

TensorBoard's own writer takes one byte after the other in Python, a second for the 8 MB of a clip, and importing it
takes longer than solving a small picture.
"""

import struct
from typing import Any

import numpy as np
from jaxtyping import UInt8, UInt32

POLYNOMIAL = 0x82F63B78
"""CRC-32C (Castagnoli), reflected."""

FEW = 512
"""Bytes below which one after the other is faster."""


def _byte_table() -> UInt32[np.ndarray, "256"]:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(POLYNOMIAL), table >> 1)
    return table


TABLE = _byte_table()


def write_record(file: Any, data: bytes) -> None:
    """Append a record: length, masked checksum of the length, data, masked checksum of the data."""
    length = struct.pack("<Q", len(data))
    file.write(length + struct.pack("<I", _masked(length)) + data + struct.pack("<I", _masked(data)))


def _masked(data: bytes) -> int:
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """The CRC-32C of bytes.

    The register is linear in itself and in the data, so pieces of equal length are taken side by side, each from a
    register of zeros, and joined by what as many bytes of zeros make of a register.

    Example:
        >>> hex(crc32c(b"123456789")), crc32c(bytes(range(256)) * 9) == crc32c(bytes(range(256)) * 9 + b"")
        ('0xe3069283', True)
    """
    content = np.frombuffer(data, np.uint8)
    width = int(len(content) ** 0.5) if len(content) >= FEW else 0
    count = len(content) // width if width else 0
    register, table = 0xFFFFFFFF, TABLE.tolist()
    for byte in data[: len(content) - count * width]:
        register = table[(register ^ byte) & 255] ^ register >> 8
    if count:
        pieces = content[len(content) - count * width :].reshape(count, width)
        bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
        moved = _through(bits, np.zeros((32, width), np.uint8))  # of each bit of a register
        # Of each value of each of its bytes: the sum of the bits that are set.
        is_set = (np.arange(256)[:, None] >> np.arange(8) & 1).astype(bool)
        tables = [np.bitwise_xor.reduce(np.where(is_set, each, 0), axis=1).tolist() for each in moved.reshape(4, 8)]
        for piece in _through(np.zeros(count, np.uint32), pieces).tolist():
            register = (
                piece
                ^ tables[0][register & 255]
                ^ tables[1][register >> 8 & 255]
                ^ (tables[2][register >> 16 & 255] ^ tables[3][register >> 24])
            )
    return register ^ 0xFFFFFFFF


def _through(registers: UInt32[np.ndarray, " L"], data: UInt8[np.ndarray, "L K"]) -> UInt32[np.ndarray, " L"]:
    """The registers after K bytes each."""
    for column in np.ascontiguousarray(data.T):
        registers = TABLE[(registers ^ column) & 255] ^ registers >> 8
    return registers

"""Records of a file of TensorBoard events: length and content, each with its checksum.

TensorBoard's own writer takes its checksums byte by byte in Python: half a second for the pictures of one fit.
"""

import struct
from functools import cache

import numpy as np
from jaxtyping import UInt32

POLYNOMIAL = 0x82F63B78
"""Castagnoli's, its bits mirrored."""

ALL = 0xFFFFFFFF
"""What a checksum begins with, and what its bits are turned by at the end."""

BLOCK = 256
"""Bytes that are taken one after the other, of all blocks at once."""


def record(content: bytes) -> bytes:
    """One record, in the format of TensorFlow's record files.

    Example:
        >>> record(b"abc")[:8], record(b"abc")[12:15]
        (b'\\x03\\x00\\x00\\x00\\x00\\x00\\x00\\x00', b'abc')
    """
    length = struct.pack("<Q", len(content))
    return b"".join([length, _masked(length), content, _masked(content)])


def _masked(content: bytes) -> bytes:
    """The checksum of a record, whose bits are moved: a checksum of checksums is a poor one."""
    found = crc32c(content)
    return struct.pack("<I", ((found >> 15 | found << 17) + 0xA282EAD8) & ALL)


def crc32c(content: bytes) -> int:
    """The checksum CRC-32C (RFC 3720, appendix B.4).

    The register after some bytes is linear in what it was before and in the bytes: so blocks are taken side by side,
    and joined two by two.

    Example:
        >>> hex(crc32c(b"123456789"))
        '0xe3069283'
    """
    # Bytes 0 in front leave a register of 0 as it is; the first four bytes turned begin it with ones.
    count = 1
    while count * BLOCK < len(content) + 4:
        count *= 2
    data = np.zeros(count * BLOCK, np.uint8)
    start = len(data) - len(content)
    data[start:] = np.frombuffer(content, np.uint8)
    first = min(4, len(content))
    data[start : start + first] ^= 0xFF
    register = np.zeros(count, np.uint32)
    for column in np.ascontiguousarray(data.reshape(count, BLOCK).T):
        register = _bytes()[(register ^ column) & 0xFF] ^ (register >> 8)
    step = _after_block()
    while len(register) > 1:
        register = _apply(step, register[::2]) ^ register[1::2]
        step = _apply(step, step)
    # Of fewer than four bytes, what is left of the ones has moved out of none of them.
    return int(register[0]) ^ (ALL >> 8 * first) ^ ALL


@cache
def _bytes() -> UInt32[np.ndarray, "256"]:
    """The register after one byte, of 0."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(POLYNOMIAL), table >> 1)
    return table


@cache
def _after_block() -> UInt32[np.ndarray, "32"]:
    """What each bit of the register becomes after a block of zeros."""
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    for _ in range(BLOCK):
        bits = _bytes()[bits & 0xFF] ^ (bits >> 8)
    return bits


def _apply(step: UInt32[np.ndarray, "32"], registers: UInt32[np.ndarray, " N"]) -> UInt32[np.ndarray, " N"]:
    """Registers after what `step` says of each bit."""
    found = np.zeros_like(registers)
    for bit, after in enumerate(step):
        found ^= np.where(registers >> np.uint32(bit) & 1, after, np.uint32(0))
    return found

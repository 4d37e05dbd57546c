"""PNG files without an imaging library: a smooth gradient with noise, which packs about as badly as a photograph."""
import os
import struct
import zlib


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(size, seed, level=6):
    """8-bit RGB, size x size; the rows are noise of 4 bits over a base that rises from row to row."""
    noise = os.urandom(size * size * 3)
    rows = bytearray()
    for y in range(size):
        base = (seed * 37 + y * 200 // size) % 200
        table = bytes(min(255, base + (value & 15)) for value in range(256))
        rows += b"\0" + noise[y * size * 3:(y + 1) * size * 3].translate(table)
    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(rows), level)) + chunk(b"IEND", b"")


def variant(picture, number):
    """The same pixels in different bytes, so that nothing is stored only once: a private chunk before the end."""
    return picture[:-12] + chunk(b"prVt", struct.pack(">Q", number)) + picture[-12:]

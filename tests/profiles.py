"""Profiles of colour, made by hand, and what they say, computed without a colour engine."""

import struct

import numpy as np
from numpy.typing import NDArray

GAMMA = 563 / 256
P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
"""XYZ of red, green and blue under D50, of Display P3; of sRGB below."""
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
WHITE = (0.96420, 1.0, 0.82491)


def display_p3() -> bytes:
    """A profile with the colours of Display P3 and a plain gamma."""
    curve = b"curv" + struct.pack(">IIHxx", 0, 1, round(GAMMA * 256))
    text = b"desc" + struct.pack(">II", 0, 6) + b"wide \0" + bytes(78)
    tags = {b"desc": text, b"cprt": b"text\0\0\0\0none\0\0\0\0", b"wtpt": _xyz(WHITE)}
    for letter, colour in zip("rgb", P3, strict=True):
        tags |= {f"{letter}XYZ".encode(): _xyz(colour), f"{letter}TRC".encode(): curve}
    body, table = b"", b""
    for name, content in tags.items():
        padded = content + bytes(-len(content) % 4)
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(content))
        body += padded
    head = struct.pack(">I4xI4s4s4s12x4s", 132 + len(table) + len(body), 0x02400000, b"mntr", b"RGB ", b"XYZ ", b"acsp")
    head += bytes(28) + b"".join(_fixed(value) for value in WHITE) + bytes(48)
    return head + struct.pack(">I", len(tags)) + table + body


def p3_as_srgb(colours: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Levels of sRGB, float [..., 3], of colours that are meant by `display_p3`."""
    light = (colours / 255.0) ** GAMMA @ np.array(P3) @ np.linalg.inv(np.array(SRGB))
    light = light.clip(0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def _xyz(colour: tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(_fixed, colour))


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))

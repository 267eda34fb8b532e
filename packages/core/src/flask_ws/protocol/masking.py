"""Masking (RFC 6455 section 5.3): in C where the ``speedups`` extra is installed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TypeAlias

    BytesLike: TypeAlias = bytes | bytearray | memoryview

__all__ = ["SPEEDUPS", "apply_mask", "apply_mask_python"]


def apply_mask_python(data: BytesLike, mask: bytes | bytearray) -> bytes:
    """Exclusive-or ``data`` with ``mask`` repeated: masks and unmasks.

    :param data: the payload.
    :param mask: the four bytes of the masking key.
    """
    size = len(data)
    # As two large integers, because a loop in Python over the bytes is slower.
    repeated = bytes(mask) * (size // 4) + bytes(mask[: size % 4])
    return (int.from_bytes(data, "little") ^ int.from_bytes(repeated, "little")).to_bytes(
        size, "little"
    )


apply_mask = apply_mask_python
#: Whether the C function of the ``speedups`` extra is in use.
SPEEDUPS = False

# The variable exists to measure and test the function above where the extra is installed.
if not os.environ.get("FLASK_WS_NO_SPEEDUPS"):
    try:
        from websockets.speedups import apply_mask

        SPEEDUPS = True
    except ImportError:
        pass

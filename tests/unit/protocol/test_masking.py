from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest

from flask_ws.protocol.masking import SPEEDUPS, apply_mask, apply_mask_python

MASK = b"\x37\xfa\x21\x3d"
SIZES = [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 125, 126, 65535, 65536, 65537]


def naive(data: bytes, mask: bytes) -> bytes:
    return bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))


@pytest.mark.parametrize("size", SIZES)
def test_python_masks_as_the_rfc_says(size: int) -> None:
    data = random.Random(size).randbytes(size)

    assert apply_mask_python(data, MASK) == naive(data, MASK)


@pytest.mark.skipif(not SPEEDUPS, reason="the speedups extra is not installed")
@pytest.mark.parametrize("size", SIZES)
def test_c_and_python_agree(size: int) -> None:
    data = random.Random(size).randbytes(size)

    assert apply_mask(data, MASK) == apply_mask_python(data, MASK)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("function", [apply_mask, apply_mask_python])
def test_any_bytes_like_data_is_masked(function: object, kind: type) -> None:
    assert function(kind(b"hello"), MASK) == naive(b"hello", MASK)  # type: ignore[operator]


@pytest.mark.parametrize("function", [apply_mask, apply_mask_python])
def test_the_result_is_bytes(function: object) -> None:
    assert type(function(bytearray(b"hello"), MASK)) is bytes  # type: ignore[operator]


def test_masking_twice_gives_the_data_back() -> None:
    assert apply_mask_python(apply_mask_python(b"hello", MASK), MASK) == b"hello"


@pytest.mark.parametrize(("value", "expected"), [("1", "False"), ("", str(SPEEDUPS))])
def test_the_speedups_can_be_switched_off(value: str, expected: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from flask_ws.protocol import masking; print(masking.SPEEDUPS)"],
        env={**os.environ, "FLASK_WS_NO_SPEEDUPS": value},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )

    assert done.stdout.strip() == expected

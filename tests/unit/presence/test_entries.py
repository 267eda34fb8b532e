"""What is said of a member."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flask_ws.presence.entries import make_entry, read_entry, read_key


def test_a_key_is_text_a_number_or_the_identity() -> None:
    assert read_key("ada", None) == "ada"
    assert read_key(7, "ignored") == "7"
    assert read_key(None, "ada") == "ada"


@pytest.mark.parametrize("key", [None, "", "x" * 256, "\ud800"])
def test_what_cannot_be_a_key_is_refused(key: str | None) -> None:
    with pytest.raises(ValueError, match="key"):
        read_key(key, None)


@pytest.mark.parametrize("key", [True, 1.5, b"ada", ["ada"]])
def test_what_is_no_key_is_refused(key: Any) -> None:
    with pytest.raises(TypeError, match=r"^A key is text or a whole number, not "):
        read_key(key, None)


@pytest.mark.parametrize("key", ["ada", 'a "b" c', "ünï¢ode", "a b", "\x1f"])
@pytest.mark.parametrize("info", [None, {}, {"name": "Ä d"}, [1, " "], "text", 0, False])
def test_an_entry_is_read_as_it_was_made(key: str, info: Any) -> None:
    found = read_entry(make_entry(key, info, json.dumps, 100))
    assert found is not None
    assert (found[0], json.loads(found[1])) == (key, {} if info is None else info)


def test_equal_infos_have_one_text() -> None:
    one = make_entry("7", {"a": 1, "b": 2}, json.dumps, 100)
    assert make_entry("7", {"b": 2, "a": 1}, lambda info: json.dumps(info, indent=2), 100) == one


def test_an_info_that_is_too_long_or_no_json_is_refused() -> None:
    make_entry("7", "x" * 98, json.dumps, 100)
    with pytest.raises(ValueError, match=r"101 bytes.*100 \(SOCK_PRESENCE_MAX_INFO\)"):
        make_entry("7", "x" * 99, json.dumps, 100)
    with pytest.raises(ValueError, match="NaN"):
        make_entry("7", float("nan"), json.dumps, 100)


def test_an_info_that_is_nested_too_deeply_is_refused() -> None:
    info: list[Any] = []
    for _ in range(100_000):
        info = [info]
    with pytest.raises(ValueError, match="nested too deeply"):
        make_entry("7", info, json.dumps, 10**6)


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"7 {}", b"nothing", pytest.param(b"[" * 100_000, id="deep")]
)
def test_what_others_have_put_there_is_none(data: bytes) -> None:
    assert read_entry(data) is None

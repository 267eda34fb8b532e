from __future__ import annotations

import pytest

from flask_ws.wording import (
    counted,
    describe_close,
    one_line,
    printable,
    shown_path,
    shown_url,
)


def test_one_is_counted_in_the_singular() -> None:
    assert [counted(number, "handler") for number in (0, 1, 2)] == [
        "0 handlers",
        "1 handler",
        "2 handlers",
    ]


@pytest.mark.parametrize(
    ("code", "reason", "described"),
    [
        (1006, "", "1006 lost without a close frame"),
        (4000, "", "4000"),
        (4000, "enough", "4000 enough"),
        (1001, "bye", "1001 bye"),
    ],
)
def test_an_end_is_described_by_its_reason_or_its_code(
    code: int, reason: str, described: str
) -> None:
    assert describe_close(code, reason) == described


def test_a_reason_stays_on_one_line() -> None:
    assert describe_close(4000, "a\r\nERROR \x1b[31m") == "4000 a\\r\\nERROR \\x1b[31m"


def test_what_a_terminal_would_obey_is_escaped() -> None:
    assert printable("\x1b[31mrot\N{SNOWMAN}\n\tblau") == "\\x1b[31mrot\N{SNOWMAN}\n\tblau"


@pytest.mark.parametrize(
    ("environ", "shown"),
    [
        ({"PATH_INFO": "/chat/7"}, "/chat/7"),
        ({"SCRIPT_NAME": "/app", "PATH_INFO": "/chat"}, "/app/chat"),
        ({"PATH_INFO": "/a\r\nERROR b"}, "/a%0D%0AERROR%20b"),
        ({"PATH_INFO": "/gr\xc3\xbcn"}, "/gr%C3%BCn"),
        ({"PATH_INFO": "/\N{SNOWMAN}"}, "/%E2%98%83"),
        ({}, ""),
    ],
)
def test_a_path_is_shown_on_one_line_as_in_a_url(environ: dict[str, str], shown: str) -> None:
    assert shown_path(environ) == shown


def test_what_others_wrote_stays_on_one_line() -> None:
    assert one_line("a\r\n\tb\u2028\x1b[0m") == "a\\r\\n\\tb\\u2028\\x1b[0m"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://example.com/a?token=secret#part", "https://example.com/a"),
        ("https://user:secret@example.com:8000/a", "https://example.com:8000/a"),
        ("/login?next=secret", "/login"),
        ("http://[::1", "(not a URL)"),
        ("http://host/\x1b[31m\n", "http://host/\\x1b[31m"),
    ],
)
def test_a_url_is_shown_without_query_and_password(url: str, shown: str) -> None:
    assert shown_url(url) == shown

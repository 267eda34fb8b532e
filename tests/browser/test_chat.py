"""The chat, in a real browser, on every server: what a newcomer does first."""

from __future__ import annotations

import pytest

from .tabs import OpenTab, Tab

pytestmark = pytest.mark.every_server


def say(tab: Tab, name: str, text: str) -> None:
    tab.find("name").clear()
    tab.write("name", name)
    tab.write("text", text)
    tab.find("send").click()


def test_two_tabs_talk_to_each_other(open_tab: OpenTab) -> None:
    """What one tab says the other shows, with markup as text; and again after a reload."""
    ann, bob = open_tab("chat"), open_tab("chat")
    for tab in (ann, bob):
        tab.await_state("open")
    ann.await_text("people", "2 people")
    say(ann, "Ann", "hello <b>Bob</b> \u2713")
    bob.await_text("messages", "hello <b>Bob</b> \u2713")
    say(bob, "Bob", "hello Ann")
    ann.await_text("messages", "hello Ann")

    bob.reload()
    bob.await_text("messages", "hello Ann")
    ann.await_text("people", "2 people")


def test_a_tab_that_is_left_is_not_there(open_tab: OpenTab) -> None:
    """Although the browser keeps its page for the way back, where it connects again."""
    ann, bob = open_tab("chat"), open_tab("chat")
    ann.await_text("people", "2 people")
    bob.page.get("about:blank")
    ann.await_text("people", "1 person")
    bob.page.back()
    ann.await_text("people", "2 people")


EXTENSIONS = """
const done = arguments[0];
const socket = new WebSocket(document.body.dataset.url, "flask-ws.v1");
socket.addEventListener("open", () => {
  done(socket.extensions);
  socket.close();
});
"""


def test_messages_are_compressed(open_tab: OpenTab) -> None:
    tab = open_tab("chat")
    assert tab.await_script(EXTENSIONS).startswith("permessage-deflate")


CLOSE_CODE = """
const done = arguments[0];
const { url } = document.body.dataset;
const socket = new WebSocket(url, "flask-ws.v1");
socket.addEventListener("close", ({ code, reason, wasClean }) => done({ code, reason, wasClean }));
socket.addEventListener("open", () => socket.send("no message of the page's"));
"""


def test_the_close_code_reaches_the_page(open_tab: OpenTab) -> None:
    tab = open_tab("chat")
    tab.await_state("open")
    assert tab.await_script(CLOSE_CODE) == {
        "code": 4400,
        "reason": "flask-ws.v1: a message is JSON",
        "wasClean": True,
    }

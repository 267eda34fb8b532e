"""The other examples' pages, in a real browser, on one server."""

from __future__ import annotations

from pathlib import Path

import pytest
from examples.stream import app as stream
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from tests.support.browsers import set_size
from tests.support.server import wait_until

from .tabs import OpenTab, Tab


def test_echo(open_tab: OpenTab) -> None:
    tab = open_tab("echo")
    tab.await_state("open")
    tab.write("text", Keys.END, " <i>Anybody?</i>", Keys.ENTER)
    tab.await_text("log", "Hello! <i>Anybody?</i>")


def test_an_answer_survives_a_reload_in_its_middle(
    open_tab: OpenTab, monkeypatch: pytest.MonkeyPatch
) -> None:
    tab = open_tab("stream")
    tab.find("question").submit()
    tab.await_text("answer", "on which both may speak")
    tab.reload()
    tab.await_text("status", "Done")
    whole = tab.run("return document.getElementById('answer').textContent")
    # Here nobody is to see it grow.
    monkeypatch.setattr(stream, "PAUSE", 0)
    assert whole == "".join(stream.generate("What is a WebSocket?"))


def test_files_are_uploaded_one_after_the_other(open_tab: OpenTab, tmp_path: Path) -> None:
    """With progress until each is saved; one that was cancelled is left out."""
    for name, size in (("large.bin", 2_000_000), ("empty.txt", 0)):
        (tmp_path / name).write_bytes(b"x" * size)
    tab = open_tab("upload")
    tab.run("const row = new Row(new File(['x'], 'late.txt')); row.cancel(); row.upload()")
    tab.write("files", f"{tmp_path / 'large.bin'}\n{tmp_path / 'empty.txt'}")
    tab.await_text("list", "Saved. SHA-256 e3b0c44298fc1c14")
    rows = tab.find("list").find_elements(By.TAG_NAME, "li")
    assert [row.get_attribute("data-state") for row in rows] == ["saved", "saved", "failed"]
    assert [row.find_element(By.TAG_NAME, "progress").get_property("value") for row in rows] == [
        1,
        1,
        0,
    ]


def log_in(tab: Tab) -> None:
    tab.page.find_element(By.NAME, "name").send_keys("ada")
    tab.page.find_element(By.NAME, "password").send_keys("engine", Keys.ENTER)
    tab.await_state("open")


def test_a_note_is_on_every_screen_until_its_owner_logs_out(open_tab: OpenTab) -> None:
    desk = open_tab("login")
    log_in(desk)
    phone = open_tab("login")
    phone.await_state("open")
    desk.write("note", "cards")
    wait_until(lambda: phone.find("note").get_property("value") == "cards", timeout=20)
    desk.page.find_element(By.TAG_NAME, "button").click()
    for tab in (desk, phone):
        tab.await_field("password")
    assert phone.text("reason") == "You have logged out on another screen."


def test_keys_that_are_pressed_reach_a_shell(open_tab: OpenTab) -> None:
    tab = open_tab("terminal")
    # The shell's prompt.
    wait_until(lambda: tab.text("screen"), timeout=10)
    tab.write("keys", "echo $((6*7))!; cat", Keys.ENTER)
    tab.await_text("screen", "42!")
    tab.write("keys", "a", Keys.BACKSPACE, "b\u00e9", Keys.ENTER)
    tab.await_text("screen", "\nb\u00e9\nb\u00e9")
    tab.find("interrupt").click()
    # Once it has its prompt again: to be interrupted makes a shell forget what is typed.
    wait_until(lambda: tab.text("screen").partition("^C\n")[2], timeout=10)
    tab.write("keys", "exit", Keys.ENTER)
    tab.await_text("status", "The command has ended.")


def test_what_is_said_in_a_room_stays_there(open_tab: OpenTab) -> None:
    tab = open_tab("chat")
    tab.page.find_element(By.LINK_TEXT, "tea").click()
    tab.await_state("open")
    tab.write("text", "Milk?", Keys.ENTER)
    tab.await_text("messages", "Milk?")
    tab.page.find_element(By.LINK_TEXT, "python").click()
    tab.await_state("open")
    tab.await_text("people", "1 person")
    assert "Milk?" not in tab.text("messages")
    tab.page.find_element(By.LINK_TEXT, "tea").click()
    tab.await_text("messages", "Milk?")


KEEP_END = """
const [done] = arguments;
const list = document.getElementById("messages");
const end = () => list.scrollHeight - list.clientHeight - list.scrollTop;
const shrink = () => {
  document.body.style.height = "20rem";
  // Twice: the first frame may have begun.
  requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => done(end()), 50)));
};
import("flask-ws").then(({ Live }) => {
  const { url, room } = document.body.dataset;
  const live = new Live(url);
  for (let n = 0; n < 40; n += 1) {
    live.publish(`chat:${room}`, { id: `line ${n}`, name: "Ada", text: `line ${n}` });
  }
  new MutationObserver((_, observer) => {
    if (list.textContent.includes("line 39")) {
      observer.disconnect();
      live.close();
      shrink();
    }
  }).observe(list, { childList: true });
});
"""


def test_the_end_of_the_chat_stays_when_the_window_shrinks(open_tab: OpenTab) -> None:
    """As it does when a phone shows its keyboard."""
    tab = open_tab("chat")
    tab.await_text("people", "1 person")
    assert tab.await_script(KEEP_END) <= 1


COUNT_DOWN = """
const [done] = arguments;
const status = document.getElementById("status");
const said = [];
new MutationObserver(() => {
  said.push(status.textContent);
  if (status.dataset.state === "open") {
    done(said);
  }
}).observe(status, { childList: true });
Math.random = () => 0.999;
// Finds out whether it lives, and dies of it.
const { send } = WebSocket.prototype;
WebSocket.prototype.send = function () {
  WebSocket.prototype.send = send;
  this.close(3001);
};
dispatchEvent(new Event("online"));
"""


def test_the_chat_counts_the_seconds_until_it_tries_again(open_tab: OpenTab) -> None:
    tab = open_tab("chat")
    tab.await_state("open")
    expected = ["Disconnected. Next try in 1 s", "Connecting\u2026", "Connected"]
    assert tab.await_script(COUNT_DOWN) == expected


def test_the_terminal_has_the_size_of_its_page(open_tab: OpenTab, browser: WebDriver) -> None:
    """On a phone, too, and when it is turned."""
    tab = open_tab("terminal")
    set_size(browser, 390, 844, phone=True)
    try:
        tab.reload()
        tab.await_state("open")
        upright = tab.run("return size")
        assert 38 <= upright["columns"] <= 60
        assert 30 <= upright["rows"] <= 50
        set_size(browser, 844, 390, phone=True)
        wait_until(lambda: tab.run("return size.columns") > upright["columns"], timeout=10)
        size = tab.run("return size")
        tab.write("keys", "stty size", Keys.ENTER)
        tab.await_text("screen", f"{size['rows']} {size['columns']}")
    finally:
        set_size(browser, 900, 700)


INK = """
const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
return data.some((value) => value > 0);
"""


def test_what_one_draws_on_the_board_the_other_sees(open_tab: OpenTab, browser: WebDriver) -> None:
    """And so does a page that is opened later."""
    ada, grace = open_tab("board"), open_tab("board")
    ada.await_text("people", "2 people")
    assert not grace.run(INK)
    canvas = ada.find("canvas")
    actions = ActionChains(browser).move_to_element(canvas).click_and_hold()
    actions.move_by_offset(60, 40).move_by_offset(-20, 30).release().perform()
    assert ada.run(INK)
    wait_until(lambda: grace.run(INK), timeout=10)
    later = open_tab("board")
    wait_until(lambda: later.run(INK), timeout=10)

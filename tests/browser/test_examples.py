"""The other examples' pages, in a real browser, on one server."""

from __future__ import annotations

from pathlib import Path

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from .tabs import OpenTab, Tab


def test_echo(open_tab: OpenTab) -> None:
    tab = open_tab("echo")
    tab.await_text("status", "Connected.")
    tab.write("text", Keys.END, " <i>Anybody?</i>\n")
    tab.await_text("log", "Hello! <i>Anybody?</i>")


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
    tab.page.find_element(By.NAME, "password").send_keys("engine\n")
    tab.await_state("open")


def test_a_note_is_on_every_screen_until_its_owner_logs_out(open_tab: OpenTab) -> None:
    desk = open_tab("login")
    log_in(desk)
    phone = open_tab("login")
    phone.await_state("open")
    desk.write("note", "cards")
    assert phone.await_script(
        """
        const [done] = arguments;
        (function look() { note.value === "cards" ? done(true) : setTimeout(look, 10); })();
        """
    )
    desk.page.find_element(By.TAG_NAME, "button").click()
    for tab in (desk, phone):
        assert tab.await_script(
            """
            const [done] = arguments;
            (function look() {
              document.querySelector("[name=password]") ? done(true) : setTimeout(look, 10);
            })();
            """
        )


def test_keys_that_are_pressed_reach_a_shell(open_tab: OpenTab) -> None:
    tab = open_tab("terminal")
    tab.await_state("open")
    tab.write("keys", "echo $((6*7))!", Keys.ENTER)
    tab.await_text("screen", "\n42!")
    tab.write("keys", "cat", Keys.ENTER)
    tab.write("keys", "a", Keys.BACKSPACE, "b\u00e9", Keys.ENTER)
    tab.await_text("screen", "\nb\u00e9\nb\u00e9")
    tab.find("interrupt").click()
    tab.write("keys", "exit", Keys.ENTER)
    tab.await_text("status", "The command has ended.")

"""What the pages have for browsers, in one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait

from .markdown import PAGES, PROJECTS, Block, read_blocks, read_start_commands
from .serving import replace_port, serve
from .test_code import APP
from .test_projects import write_project

SCRIPTS = [block for page in PAGES for block in read_blocks(page) if block.language == "js"]

#: What is logged, also goes where a test can read it.
LOG = "const console = { log: (text) => { document.title += `|${text}`; } };"

#: It ends each connection after a message, so that a page has to connect again.
SHORT = APP.replace("    for message in ws:\n        ws.send(message)", "    ws.send(ws.receive())")


@pytest.mark.parametrize("block", SCRIPTS, ids=str)
def test_the_script_logs_its_own_greeting(block: Block, browser: WebDriver, tmp_path: Path) -> None:
    """From the console of any page; and a second time, if it connects again."""
    again = "setTimeout(connect" in block.code
    greeting = block.code.partition('ws.send("')[2].partition('"')[0]
    (tmp_path / "app.py").write_text(SHORT if again else APP)

    def has_logged(_: object) -> bool:
        logged: list[str] = browser.execute_script("return document.title.split('|')")
        return logged.count(greeting) >= (2 if again else 1)

    with serve("flask --app app run", folder=tmp_path) as served:
        served.await_response()
        browser.get(f"http://127.0.0.1:{served.port}/any/page")
        browser.execute_script(f"{LOG} {replace_port(block.code, served.port)}")
        WebDriverWait(browser, 20, 0.05).until(has_logged)
        browser.get("about:blank")


def test_two_tabs_of_the_chat_talk_to_each_other(browser: WebDriver, tmp_path: Path) -> None:
    page = PROJECTS[0]
    write_project(page, tmp_path)

    def wait_for(element: str, text: str) -> None:
        # The next page may just be coming.
        WebDriverWait(browser, 20, 0.05, (WebDriverException,)).until(
            lambda _: text in browser.find_element(By.ID, element).text
        )

    with serve(read_start_commands(page)[-1], folder=tmp_path) as served:
        served.await_response()
        url = f"http://127.0.0.1:{served.port}/"
        browser.get(url)
        wait_for("state", "1 in lobby")
        first = browser.current_window_handle
        browser.switch_to.new_window("tab")
        browser.get(url)
        wait_for("state", "2 in lobby")
        name = browser.find_element(By.ID, "name").get_property("value")
        assert re.fullmatch(r"Guest \d{3}", str(name))
        browser.find_element(By.ID, "text").send_keys("Hello <b>there</b>!", Keys.ENTER)
        wait_for("said", f"{name}: Hello <b>there</b>!")
        # Another room, in the same tab.
        browser.get(f"{url}#kitchen")
        wait_for("state", "1 in kitchen")
        browser.close()
        browser.switch_to.window(first)
        wait_for("said", f"{name}: Hello <b>there</b>!")
        wait_for("state", "1 in lobby")

"""Take pictures of the chat with Chromium: `uv run python docs/pictures/screenshots.py`."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs/_static"
PORT = 5058
PAGE = f"http://127.0.0.1:{PORT}/python"
SIZE = {"width": 760, "height": 530, "deviceScaleFactor": 1.5, "mobile": False}
ME = "Grace"
#: Who says what; what `ME` says is typed into the page.
TALK = (
    ("Ada", "Has anybody moved an app over yet?"),
    ("Grace", "Ours runs since Monday: one changed import."),
    ("Ada", "On which server?"),
    ("Grace", "The same Gunicorn as before, with four threads."),
    ("Charles", "Four threads are enough for ten thousand of us."),
)


@contextmanager
def run_chat() -> Iterator[None]:
    command = ["-m", "flask", "--app", "examples/chat/app", "run", "--port", str(PORT)]
    with subprocess.Popen([sys.executable, *command], cwd=ROOT, stderr=subprocess.DEVNULL) as chat:
        try:
            for _ in range(100):
                try:
                    urlopen(PAGE, timeout=5).close()
                    break
                except OSError:
                    time.sleep(0.1)
            yield
        finally:
            chat.terminate()


@contextmanager
def run_browser() -> Iterator[WebDriver]:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield browser
    finally:
        browser.quit()


@contextmanager
def enter(name: str) -> Iterator[ClientConnection]:
    """Be somebody else in the room."""
    url = f"ws://127.0.0.1:{PORT}/chat/python?secret={quote(name)}"
    with connect(url, subprotocols=[Subprotocol("flask-ws.v1")], proxy=None) as client:
        ask(client, "join", info={"name": name})
        yield client


def ask(client: ClientConnection, kind: str, **more: object) -> None:
    client.send(json.dumps({"type": kind, "id": 1, "channel": "chat:python", **more}))


def say(browser: WebDriver, others: dict[str, ClientConnection], name: str, text: str) -> None:
    if name == ME:
        browser.find_element(By.ID, "text").send_keys(f"{text}\n")
    else:
        ask(others[name], "publish", data={"id": text, "name": name, "text": text})
    messages = (By.ID, "messages")
    WebDriverWait(browser, 10).until(lambda _: text in browser.find_element(*messages).text)


def main() -> None:
    with run_chat(), run_browser() as browser, enter("Ada") as ada, enter("Charles") as charles:
        others = {"Ada": ada, "Charles": charles}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", SIZE)
        browser.get(PAGE)
        name_box = browser.find_element(By.ID, "name")
        name_box.clear()
        name_box.send_keys(f"{ME}\t")
        names = (By.ID, "names")
        WebDriverWait(browser, 10).until(
            lambda _: browser.find_element(*names).text == "Ada, Charles, Grace"
        )
        for name, text in TALK:
            say(browser, others, name, text)
        # As it looks when nobody is typing.
        browser.execute_script("document.activeElement.blur()")
        for theme in ("light", "dark"):
            feature = {"name": "prefers-color-scheme", "value": theme}
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
            time.sleep(0.3)
            picture = browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
            (FOLDER / f"chat-{theme}.png").write_bytes(base64.b64decode(picture["data"]))


if __name__ == "__main__":
    main()

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
from urllib.request import urlopen

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from websockets.sync.client import connect

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


def say(browser: WebDriver, name: str, text: str) -> None:
    if name == ME:
        browser.find_element(By.ID, "text").send_keys(f"{text}\n")
    else:
        with connect(f"ws://127.0.0.1:{PORT}/chat/python", proxy=None) as client:
            client.send(json.dumps({"name": name, "text": text}))
            # Its own message comes back when it has been said.
            while text not in str(client.recv(timeout=5)):
                pass
    messages = (By.ID, "messages")
    WebDriverWait(browser, 10).until(lambda _: text in browser.find_element(*messages).text)


def main() -> None:
    with run_chat(), run_browser() as browser:
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", SIZE)
        browser.get(PAGE)
        browser.execute_script(f"document.getElementById('name').value = '{ME}'")
        WebDriverWait(browser, 10).until(
            lambda _: browser.execute_script("return !button.disabled")
        )
        for name, text in TALK:
            say(browser, name, text)
        # As it looks when nobody is typing; and with those who have spoken.
        browser.execute_script("document.activeElement.blur(); receive({people: 3})")
        for theme in ("light", "dark"):
            feature = {"name": "prefers-color-scheme", "value": theme}
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
            time.sleep(0.3)
            picture = browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
            (FOLDER / f"chat-{theme}.png").write_bytes(base64.b64decode(picture["data"]))


if __name__ == "__main__":
    main()

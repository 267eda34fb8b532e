"""Browsers without a window, as tests start them: Chromium, or another that is asked for."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.firefox.service import Service as FirefoxService
from selenium.webdriver.remote.client_config import ClientConfig
from selenium.webdriver.remote.file_detector import UselessFileDetector
from selenium.webdriver.remote.remote_connection import RemoteConnection
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.webkitgtk.service import Service as WebKitService

#: Of tests/browser: chromium, firefox or webkit. The last wants a display: xvfb-run has one.
NAME = os.environ.get("FLASK_WS_BROWSER", "chromium")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
FIREFOX_DRIVER = shutil.which("geckodriver")
WEBKIT = next(Path("/usr/lib").glob("*/webkit2gtk-4.*/MiniBrowser"), None)
WEBKIT_DRIVER = shutil.which("WebKitWebDriver")


@contextlib.contextmanager
def open_browser(folder: Path) -> Iterator[WebDriver]:
    """Start the browser that the environment names, and end it; a test skips where it is missing.

    :param folder: for its profile.
    """
    if NAME == "firefox":
        opened: contextlib.AbstractContextManager[WebDriver] = firefox(folder)
    elif NAME == "webkit":
        opened = webkit(folder)
    elif NAME == "chromium":
        opened = chromium(folder)
    else:
        pytest.fail(f"FLASK_WS_BROWSER is {NAME!r}, not chromium, firefox or webkit", pytrace=False)
    with opened as browser:
        yield browser


def set_size(browser: WebDriver, width: int, height: int, *, phone: bool = False) -> None:
    """Give the page a size in pixels; in other browsers than Chromium the window, not a small one.

    :param phone: whether Chromium is to do as it does on a phone.
    """
    if isinstance(browser, webdriver.Chrome):
        # Of the tab in front.
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    else:
        browser.set_window_size(width, height)


@contextlib.contextmanager
def chromium(profile: Path, *arguments: str) -> Iterator[webdriver.Chrome]:
    """Start Chromium, and end it; a test skips where it is missing.

    :param profile: the folder of its profile.
    :param arguments: further arguments.
    """
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("Chromium and its driver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        f"--user-data-dir={profile}",
        *arguments,
    ):
        options.add_argument(argument)
    browser = webdriver.Chrome(options=options, service=Service(DRIVER))
    with ending(browser):
        yield browser


@contextlib.contextmanager
def firefox(folder: Path) -> Iterator[webdriver.Firefox]:
    """Start Firefox, and end it; a test skips where it, or geckodriver, is missing."""
    if FIREFOX is None or FIREFOX_DRIVER is None:
        pytest.skip("Firefox and geckodriver are not installed")
    options = webdriver.FirefoxOptions()
    options.binary_location = FIREFOX
    options.add_argument("-headless")
    service = FirefoxService(FIREFOX_DRIVER, log_output=str(folder / "log"))
    browser = webdriver.Firefox(options=options, service=service)
    with ending(browser):
        yield browser


@contextlib.contextmanager
def webkit(folder: Path) -> Iterator[WebDriver]:
    """Start WebKitGTK's MiniBrowser, and end it; a test skips where it is missing."""
    if WEBKIT is None or WEBKIT_DRIVER is None:
        pytest.skip("webkit2gtk-driver is not installed")
    options = webdriver.WebKitGTKOptions()
    options.binary_location = str(WEBKIT)
    options.add_argument("--automation")
    service = WebKitService(WEBKIT_DRIVER, log_output=str(folder / "log"))
    # Selenium's own class for it does what Selenium warns of.
    service.start()
    try:
        connection = RemoteConnection(client_config=ClientConfig(service.service_url))
        # Its driver is here, and reads files itself.
        files = UselessFileDetector()
        browser = webdriver.Remote(connection, options=options, file_detector=files)
        with ending(browser):
            yield browser
    finally:
        service.stop()


@contextlib.contextmanager
def ending(browser: WebDriver) -> Iterator[None]:
    """End a browser, and limit what it waits for until then."""
    try:
        browser.set_page_load_timeout(30)
        browser.set_script_timeout(30)
        yield
    finally:
        browser.quit()

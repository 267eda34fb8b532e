"""A tab of the browser, and what is done in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement
from tests.support.browsers import NAME
from tests.support.server import wait_until

SECONDS = 20.0

#: Firefox runs a script beside the page, where what the page declares by let and const is not seen.
IN_PAGE = """
const [script, ...rest] = arguments;
return window.eval(`(function () {${script}})`).apply(null, rest);
"""


class Tab:
    """A page that is open in a tab."""

    def __init__(self, browser: WebDriver, url: str) -> None:
        self._browser = browser
        # WebKit draws no frame of a tab that is behind another.
        browser.switch_to.new_window("window" if NAME == "webkit" else "tab")
        self._handle = browser.current_window_handle
        browser.get(url)

    @property
    def page(self) -> WebDriver:
        """The browser, with this tab in front."""
        self._browser.switch_to.window(self._handle)
        return self._browser

    def find(self, name: str) -> WebElement:
        """The element of this id."""
        return self.page.find_element(By.ID, name)

    def text(self, name: str) -> str:
        return self.find(name).text

    def write(self, name: str, *keys: str) -> None:
        self.find(name).send_keys(*keys)

    def await_text(self, name: str, text: str) -> None:
        """Wait until the text of an element has this in it."""
        self._await(lambda: text in self.text(name), text)

    def await_state(self, state: str) -> None:
        """Wait until the page says that the connection is in a state."""
        self._await(
            lambda: self.find("status").get_attribute("data-state") == state, f"the state {state}"
        )

    def await_field(self, name: str) -> None:
        """Wait until the page has a field of this name."""
        self._await(lambda: bool(self.page.find_elements(By.NAME, name)), name)

    def _await(self, condition: Callable[[], bool], what: str) -> None:
        def holds() -> bool:
            try:
                return condition()
            except (NoSuchElementException, StaleElementReferenceException):
                # The next page is just coming.
                return False

        wait_until(holds, timeout=SECONDS, what=what, every=0.03)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.page.execute_script(IN_PAGE, script, *arguments)

    def wait_for(self, condition: str, *arguments: Any) -> None:
        """Wait until a condition of JavaScript holds."""
        script = f"return Boolean({condition})"
        wait_until(
            lambda: bool(self.run(script, *arguments)), timeout=SECONDS, what=condition, every=0.03
        )

    def await_script(self, script: str, *arguments: Any) -> Any:
        """Run a script that calls its last argument with a result."""
        return self.page.execute_async_script(IN_PAGE, script, *arguments)

    def command(self, name: str, **parameters: Any) -> None:
        """Give Chromium a command of its DevTools protocol."""
        page: Any = self.page
        page.execute_cdp_cmd(name, parameters)

    def reload(self) -> None:
        self.page.refresh()

    def close(self) -> None:
        self.page.close()


OpenTab: TypeAlias = Callable[[str], Tab]

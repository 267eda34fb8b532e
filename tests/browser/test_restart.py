"""Pages in a real browser while their server is restarted, on every server."""

from __future__ import annotations

import pytest
from selenium.webdriver.common.keys import Keys

from .conftest import Site
from .tabs import OpenTab

pytestmark = pytest.mark.every_server

# The page shall try again soon, however long the server takes on a busy machine.
KEEP_CODE = """
setInterval(() => { delay = 300; }, 100);
socket.addEventListener("close", (event) => { document.body.dataset.code = event.code; });
"""
# As if the network were back again and again.
HURRY = "setInterval(() => dispatchEvent(new Event('online')), 200)"


def test_pages_are_told_of_a_stop_and_come_back(open_tab: OpenTab, site: Site) -> None:
    """The close code is 1001, and each page connects again by itself."""
    chat, dashboard = open_tab("chat"), open_tab("dashboard")
    for tab in (chat, dashboard):
        tab.await_state("open")
    dashboard.run(KEEP_CODE)
    chat.run(HURRY)
    site.stop()
    for tab in (chat, dashboard):
        tab.await_state("closed")
    assert dashboard.run("return document.body.dataset.code") == "1001"
    # It waits for the next connection.
    chat.write("text", "said while away", Keys.ENTER)
    site.start()
    for tab in (chat, dashboard):
        tab.await_state("open")
    chat.await_text("messages", "said while away")
    chat.write("text", "back again", Keys.ENTER)
    chat.await_text("messages", "back again")
    dashboard.await_text("cpu", "%")

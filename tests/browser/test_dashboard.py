"""The dashboard, in a real browser, on every server."""

from __future__ import annotations

import pytest
from tests.support.server import wait_until

from .tabs import OpenTab

pytestmark = pytest.mark.every_server


def test_the_plot_moves_until_it_is_paused(open_tab: OpenTab) -> None:
    tab = open_tab("dashboard")
    tab.await_text("cpu", "%")
    picture = "return document.getElementById('plot').toDataURL()"
    first = tab.run(picture)
    wait_until(lambda: tab.run(picture) != first, timeout=10)
    # More than slides: there are new samples.
    known = tab.run("return samples.length")
    wait_until(lambda: tab.run("return samples.length") > known, timeout=10)

    tab.find("pause").click()
    tab.await_text("status", "Paused")
    # What was on its way has come once the answer to the next message has.
    tab.find("pause").click()
    tab.await_text("status", "Live")
    known = tab.run("return samples.at(-1).time")
    wait_until(lambda: tab.run("return samples.at(-1).time") > known, timeout=10)

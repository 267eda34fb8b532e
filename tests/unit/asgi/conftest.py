from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.asgi_site import Site
from tests.support.waiting import until

from flask_ws.budget import budget
from flask_ws.loop.monitor import count_connections
from flask_ws.loop.pool import thread_pool


@pytest.fixture
def site(counted_from_nothing: None) -> Iterator[Site]:
    yield Site()
    until(lambda: count_connections() == 0)
    until(lambda: len(thread_pool()) == 0)
    assert budget.total == 0

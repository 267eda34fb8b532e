from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.presence import World


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World(monkeypatch)
    yield world
    world.close()

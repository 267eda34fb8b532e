"""Whether the server has several processes, as its own functions know."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from tests.support.asgi import make_scope

from flask_ws_asgi import environ
from flask_ws_asgi.environ import make_environ
from flask_ws_asgi.workers import count_workers


def call_from(module: str, **local: Any) -> int:
    """Count from a server's function, which has local variables."""
    parameters = ", ".join(["count", *local])
    server: dict[str, Any] = {"__name__": module}
    exec(f"def serve({parameters}): return count()", server)
    counted: int = server["serve"](count_workers, **local)
    return counted


@pytest.mark.parametrize(
    ("module", "local"),
    [
        ("uvicorn._subprocess", {"config": SimpleNamespace(workers=3, should_reload=False)}),
        ("hypercorn.asyncio.run", {"config": SimpleNamespace(workers=3)}),
        ("gunicorn.workers.base", {"self": SimpleNamespace(cfg=SimpleNamespace(workers=3))}),
        ("granian.server.common", {"self": SimpleNamespace(workers=3)}),
        ("granian.server.mp", {"worker_id": 3}),
    ],
)
def test_first_worker_knows_of_the_others(module: str, local: dict[str, Any]) -> None:
    assert call_from(module, **local) == 3


def test_reloader_begins_one_after_another() -> None:
    assert (
        call_from("uvicorn._subprocess", config=SimpleNamespace(workers=3, should_reload=True)) == 1
    )


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [(["--workers", "4"], "", 4), ([], "4", 4), ([], "", 1)],
)
def test_granian_that_does_not_fork_is_asked_by_its_command(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], environment: str, expected: int
) -> None:
    pytest.importorskip("granian.cli")
    monkeypatch.setattr(sys, "argv", ["granian", *arguments, "asgi:asgi"])
    if environment:
        monkeypatch.setenv("GRANIAN_WORKERS", environment)
    assert call_from("granian.server.mp", worker_id=1) == expected


def test_server_that_tells_nothing_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "granian.cli", ModuleType("granian.cli"))
    assert count_workers() == 1
    assert call_from("uvicorn._subprocess", other=1) == 1
    assert call_from("granian.server.mp", worker_id=1) == 1


@pytest.mark.parametrize("has_siblings", [False, True])
def test_environ_says_so(monkeypatch: pytest.MonkeyPatch, has_siblings: bool) -> None:
    monkeypatch.setattr(environ, "has_siblings", lambda: has_siblings)
    assert make_environ(make_scope())["wsgi.multiprocess"] is has_siblings

"""Gunicorn's tornado worker, which gives an app no socket."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.docs.serving import serve
from tests.docs.test_code import APP
from websockets.exceptions import InvalidStatus


def test_a_handshake_is_told_what_to_use_instead(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    with serve("gunicorn --worker-class tornado app:app", folder=tmp_path) as served:
        served.await_response()
        with pytest.raises(InvalidStatus) as raised, served.connect():
            pass
    response = raised.value.response
    assert response.status_code == 501
    assert b"tornado worker" in response.body
    assert b"--worker-class gthread" in response.body

"""The upload: a file arrives whole, or not at all."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from examples.upload.app import PIECE, app

from flask_ws.testing import connect


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(app.config, "UPLOAD_FOLDER", tmp_path / "uploads")
    return tmp_path / "uploads"


def test_a_file_arrives_whole_and_each_piece_is_acknowledged(folder: Path) -> None:
    content = os.urandom(2 * PIECE + 17)
    with connect(app, "/upload") as ws:
        ws.send_json({"name": "noise.bin", "size": len(content)})
        for start in range(0, len(content), PIECE):
            ws.send(content[start : start + PIECE])
        answers = [ws.receive_json() for _ in range(4)]
    assert [answer.get("received") for answer in answers[:3]] == [PIECE, 2 * PIECE, len(content)]
    assert answers[3] == {"sha256": hashlib.sha256(content).hexdigest()}
    (saved,) = folder.iterdir()
    assert saved.name.endswith("-noise.bin")
    assert saved.read_bytes() == content


def test_an_empty_file_is_a_file(folder: Path) -> None:
    with connect(app, "/upload") as ws:
        ws.send_json({"name": "empty", "size": 0})
        assert "sha256" in ws.receive_json()
    (saved,) = folder.iterdir()
    assert saved.read_bytes() == b""


def test_a_path_in_the_name_leads_nowhere(folder: Path) -> None:
    with connect(app, "/upload") as ws:
        ws.send_json({"name": "../../etc/passwd", "size": 0})
        ws.receive_json()
    (saved,) = folder.iterdir()
    assert saved.name.endswith("-etc_passwd")


@pytest.mark.parametrize(
    "offer", ["no JSON", "[]", '{"name": "a"}', '{"name": "a", "size": -1}', '{"size": 3}']
)
def test_without_an_offer_there_is_no_upload(folder: Path, offer: str) -> None:
    with connect(app, "/upload") as ws:
        ws.send(offer)
        assert list(ws) == []
        assert ws.close_code == 1008


def test_a_file_that_is_too_large_is_refused_before_it_is_sent(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(app.config, "MAX_FILE_SIZE", 1000)
    with connect(app, "/upload") as ws:
        ws.send_json({"name": "a", "size": 1001})
        assert list(ws) == []
        assert (ws.close_code, ws.close_reason) == (1009, "A file may have 1000 bytes.")


@pytest.mark.parametrize("piece", [b"four", "abc"])
def test_what_was_not_announced_is_not_kept(folder: Path, piece: Any) -> None:
    with connect(app, "/upload") as ws:
        ws.send_json({"name": "a", "size": 3})
        ws.send(piece)
        assert list(ws) == []
        assert ws.close_code == 1008
    assert list(folder.iterdir()) == []


def test_a_file_that_was_cut_off_is_not_kept(folder: Path) -> None:
    with connect(app, "/upload") as ws:
        ws.send_json({"name": "a", "size": 3})
        ws.send(b"ab")
        assert ws.receive_json() == {"received": 2}
    assert list(folder.iterdir()) == []

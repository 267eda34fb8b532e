"""Refusals of a handshake whose reason the log says, and the client is not told."""

from __future__ import annotations

from typing import Any

from werkzeug.exceptions import HTTPException

__all__ = ["Refusal", "reason"]


class Refusal(HTTPException):
    """Such a refusal; another one of werkzeug's exceptions gives it its status.

    :param why: the reason.
    """

    def __init__(self, why: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.why = why


def reason(error: HTTPException) -> str:
    """Return what only the log says of an exception, if there is such."""
    return error.why if isinstance(error, Refusal) else ""

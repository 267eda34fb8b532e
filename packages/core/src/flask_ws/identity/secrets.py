"""Credentials, which are not shown."""

from __future__ import annotations

__all__ = ["Secret"]


class Secret(str):
    """A text whose ``repr``, which tracebacks and logs have, does not show it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'(hidden)'"

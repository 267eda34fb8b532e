"""Text that lets somebody in, and is not shown."""

from __future__ import annotations

__all__ = ["Secret"]


class Secret(str):
    """Such a text. It is like any other, but for its ``repr``, which tracebacks and logs have."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'(hidden)'"

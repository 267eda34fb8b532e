"""Telling when a handler first uses its connection: the test client waits for that."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["telling"]

T = TypeVar("T")

#: The methods that wait for the peer, or send it something.
USES = ("receive", "__iter__", "__anext__", "send", "ping", "close")


@functools.cache
def telling(kind: type[T]) -> Callable[..., T]:
    """Derive a class whose methods tell of it before they wait or send.

    :param kind: the class of a handler's ``ws``.
    :return: the class; it takes one argument more, ``tell_use``, a function that is called.
    """

    def init(self: Any, *args: Any, tell_use: Callable[[], object], **kwargs: Any) -> None:
        kind.__init__(self, *args, **kwargs)
        self._tell_use = tell_use

    def derive(name: str) -> Callable[..., Any]:
        method = getattr(kind, name)

        @functools.wraps(method)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            self._tell_use()
            return method(self, *args, **kwargs)

        return call

    members = {name: derive(name) for name in USES if hasattr(kind, name)}
    own = {"__init__": init, "__slots__": ("_tell_use",), "__module__": kind.__module__}
    derived: type[T] = type(kind.__name__, (kind,), {**members, **own})
    return derived

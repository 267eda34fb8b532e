"""Publishing on a channel with history that no other process has.

Most of what a broker needs is not needed here: no publication has to be recognised when it is
brought back, and none can arrive in another order.
"""

from __future__ import annotations

from collections.abc import Collection

from ..connection.async_connection import AnyConnection
from ..plugin.history import Retention
from ..plugin.memory import MemoryBroker
from ..protocol.frames import BINARY, TEXT
from ..protocol.shared import SharedMessage
from .history import KeptSubscribers
from .publication import ORIGIN_SIZE, pack
from .results import Published
from .subscriptions import Subscriptions

__all__ = ["publish_in_memory"]

#: What publications begin with: they are of no process, and have no number there.
HEADS = {first: pack(bytes(ORIGIN_SIZE), 0, first, b"") for first in (TEXT, BINARY)}
JSON_HEAD = pack(bytes(ORIGIN_SIZE), 0, TEXT, b"", is_json=True)


def publish_in_memory(
    broker: MemoryBroker,
    subscriptions: Subscriptions,
    channel: str,
    first: int,
    payload: bytes,
    excluded: Collection[AnyConnection],
    retention: Retention,
    *,
    is_json: bool,
) -> Published:
    """Keep a message, and send it to all subscribers.

    :param first: the first byte of its frame.
    :param excluded: who does not get it.
    :param retention: how much of the channel is kept.
    :param is_json: whether it is text that was made as JSON.
    :raises BrokerError: the broker is closed.
    """
    head = JSON_HEAD if is_json else HEADS[first]
    with broker.keeping:
        position = broker.keep(channel, head + payload, retention)
        # One who subscribes after this reads it.
        subscribers = subscriptions.get(channel)
        if subscribers is not None:
            assert isinstance(subscribers, KeptSubscribers)
            message = SharedMessage(first, payload, is_json=is_json)
            message.position = position
            subscribers.follow(message, position, excluded)
    if broker.is_due:
        broker.count()
    if subscribers is not None:
        subscribers.send_waiting()
    return Published(True, position)

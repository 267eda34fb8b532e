"""Publishing a message: by the broker, or without one, on a channel with history or without."""

from __future__ import annotations

from collections.abc import Collection

from ..connection.async_connection import AnyConnection
from ..exceptions import BrokerError
from ..plugin.brokers import Broker
from ..plugin.history import Retention
from ..plugin.memory import MemoryBroker
from ..protocol.shared import SharedMessage
from .history import KeptSubscribers
from .in_memory import publish_in_memory
from .opening import Opened
from .publication import pack
from .results import NOT_TAKEN, TAKEN, Published

__all__ = ["publish"]


def publish(
    opened: Opened,
    channel: str,
    first: int,
    payload: bytes,
    excluded: Collection[AnyConnection],
    *,
    is_json: bool,
) -> Published:
    """Send a message to all subscribers of a channel, here and in other processes.

    :param first: the first byte of its frame.
    :param excluded: who does not get it.
    :param is_json: whether it is text that was made as JSON.
    """
    find_retention, broker = opened.find_retention, opened.broker
    if find_retention is not None:
        retention = find_retention(channel)
        if retention is not None:
            if isinstance(broker, MemoryBroker):
                return publish_in_memory(
                    broker,
                    opened.subscriptions,
                    channel,
                    first,
                    payload,
                    excluded,
                    retention,
                    is_json=is_json,
                )
            return _publish_kept(
                opened, channel, first, payload, excluded, retention, is_json=is_json
            )
    number = next(opened.numbers)
    subscribers = opened.subscriptions.get(channel)
    if subscribers is not None and not broker.brings_back:
        subscribers.send(SharedMessage(first, payload, is_json=is_json), excluded)
        subscribers = None
    if isinstance(broker, MemoryBroker):
        return TAKEN
    if subscribers is not None:
        subscribers.expect(number, SharedMessage(first, payload, is_json=is_json), excluded)
    is_taken = False
    try:
        is_taken = _hand_over(opened, channel, first, payload, number, is_json=is_json)
    finally:
        if subscribers is None:
            pass
        elif is_taken:
            is_deaf = broker.is_deaf(opened.prefix + channel)
            subscribers.taken(number, next(opened.numbers), is_deaf=is_deaf)
        else:
            subscribers.send_own(number)
    return TAKEN if is_taken else NOT_TAKEN


def _hand_over(
    opened: Opened, channel: str, first: int, payload: bytes, number: int, *, is_json: bool
) -> bool:
    """Hand a publication over to the broker; ``False`` if it cannot be reached."""
    try:
        publication = pack(opened.origin, number, first, payload, is_json=is_json)
        opened.broker.publish(opened.prefix + channel, publication)
    except BrokerError as error:
        _note_failure(opened.broker, error)
        return False
    return True


def _note_failure(broker: Broker, error: BrokerError) -> None:
    if not broker.is_away:
        broker.went_away(str(error))


def _publish_kept(
    opened: Opened,
    channel: str,
    first: int,
    payload: bytes,
    excluded: Collection[AnyConnection],
    retention: Retention,
    *,
    is_json: bool,
) -> Published:
    """Publish on a channel with history."""
    broker, number, name = opened.broker, next(opened.numbers), opened.prefix + channel
    subscribers = opened.subscriptions.get(channel)
    if subscribers is not None:
        subscribers.expect(number, SharedMessage(first, payload, is_json=is_json), excluded)
    position = None
    try:
        publication = pack(opened.origin, number, first, payload, is_json=is_json)
        position = broker.publish_kept(name, publication, retention)
    except BrokerError as error:
        _note_failure(broker, error)
    finally:
        if isinstance(subscribers, KeptSubscribers):
            if position is None:
                subscribers.send_own(number)
            else:
                is_deaf = broker.brings_back and broker.is_deaf(name)
                subscribers.taken_at(number, next(opened.numbers), position, is_deaf=is_deaf)
    return NOT_TAKEN if position is None else Published(True, position)

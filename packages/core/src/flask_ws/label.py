"""Who a connection is, in logs and in numbers."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

    from .tally import Tally

__all__ = ["FIELD", "LABEL", "Label"]

#: The environ key of a connection's label.
LABEL = "flask_ws.label"
#: The prefix of the fields of log records.
FIELD = "ws_"


class Label(str):
    """The name of a connection in logs, with the parts that it is made of.

    A line of the log that has it as an argument gets these as fields, for logs in JSON: ``ws_id``,
    ``ws_address``, ``ws_path`` and ``ws_endpoint``.

    :param text: the name.
    :param own: the id, which is unique, also across processes.
    :param address: the client's address.
    :param path: the path of its URL.
    :param endpoint: the route's endpoint.
    """

    __slots__ = ("address", "client", "endpoint", "id", "path", "tally")

    def __new__(
        cls, text: str, own: str = "-", address: str = "-", path: str = "-", endpoint: str = "-"
    ) -> Self:
        """Make a label of its text and its parts."""
        label = super().__new__(cls, text)
        label.id = own
        label.address = address
        label.path = path
        label.endpoint = endpoint
        label.tally = None
        label.client = None
        return label

    #: Set by ``__new__``, because a ``str`` has its value from there.
    id: str
    address: str
    path: str
    endpoint: str
    #: The numbers of its route; ``None`` where nobody counts, as at a client's end.
    tally: Tally | None
    #: Its client, where what that may do is limited.
    client: Any

    @classmethod
    def make(cls, address: str, path: str, endpoint: str) -> Label:
        """Make the label of a new connection, with an id of its own.

        :param address: the client's address, as a log may show it.
        :param path: the path of its URL, as a log may show it.
        :param endpoint: the route's endpoint.
        """
        own = os.urandom(6).hex()
        text = f"WebSocket {own} {address} {path}"
        return cls(text, own, address, path, endpoint)

    def fields(self) -> dict[str, str]:
        """Return the parts, by the names that they have in a log record."""
        return {FIELD + name: value for name, value in self.parts().items()}

    def parts(self) -> dict[str, str]:
        """Return the parts by their names."""
        return {
            "id": self.id,
            "address": self.address,
            "path": self.path,
            "endpoint": self.endpoint,
        }


def add_fields(record: logging.LogRecord) -> bool:
    """Give a log record the fields of the connection that it is about; a logger's filter."""
    if isinstance(record.args, tuple):
        for argument in record.args:
            if isinstance(argument, Label):
                record.__dict__.update(argument.fields())
                break
    return True


logging.getLogger("flask_ws").addFilter(add_fields)

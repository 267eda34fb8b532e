"""The fields of a connection in every line of a log."""

from __future__ import annotations

import logging

import flask

from ..label import FIELD, LABEL, Label

__all__ = ["LogFilter"]

#: What lines have that are about no connection.
NOBODY = Label("-")


class LogFilter(logging.Filter):
    """Gives every line the fields of its connection: those of the app and of its libraries, too.

    flask-ws's own lines have ``ws_id``, ``ws_address``, ``ws_path`` and ``ws_endpoint`` by
    themselves. With this filter on a handler of :mod:`logging`, so have all lines that are logged
    while a WebSocket handler or a method of an event view runs; the others have ``-`` in them. So a
    format may contain ``%(ws_id)s``.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields; every line passes."""
        if not hasattr(record, FIELD + "id"):
            label = NOBODY
            if flask.has_request_context():
                label = flask.request.environ.get(LABEL, NOBODY)
            record.__dict__.update(label.fields())
        return True

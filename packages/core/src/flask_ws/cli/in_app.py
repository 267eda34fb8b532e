"""``flask ws connect /path``: the handshake with the app itself, without a server."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import click
import flask

from flask_ws.connection.endpoint import connection_of
from flask_ws.testing import HandshakeRefused
from flask_ws.testing import connect as connect_to_app

from .handshake import Headers, Opened, describe_refusal

__all__ = ["open_in_app"]


@contextlib.contextmanager
def open_in_app(
    app: flask.Flask,
    path: str,
    headers: Headers,
    subprotocols: tuple[str, ...],
    *,
    timeout: float,
    show_head: Callable[[list[str]], object],
) -> Iterator[Opened]:
    """Connect to an app of this process, in memory.

    :param app: the app.
    :param path: the path, with the query.
    :param headers: headers to send besides those of a handshake, or in their place.
    :param subprotocols: the subprotocols to offer.
    :param timeout: seconds that the handshake may take, and the handler at the end.
    :param show_head: called with the status line and the headers of the answer, whatever it is.
    :raises ClickException: the handshake is refused, or the app does not answer.
    """
    # A handler's exception is logged, and closes the connection, as on a server.
    app.config["PROPAGATE_EXCEPTIONS"] = False
    connecting = connect_to_app(
        app, path, headers=headers, subprotocols=subprotocols, timeout=timeout
    )
    with contextlib.ExitStack() as stack:
        try:
            ws = stack.enter_context(connecting)
        except HandshakeRefused as refused:
            answer = refused.response
            show_head([f"HTTP/1.1 {answer.status}", *_lines(answer.headers.to_wsgi_list())])
            raise click.ClickException(
                describe_refusal(
                    answer.status,
                    answer.location,
                    answer.mimetype or "",
                    answer.get_data(as_text=True),
                )
            ) from None
        except TimeoutError as error:
            raise click.ClickException(str(error)) from None
        head = ws.response
        show_head([f"HTTP/1.1 {head.status}", *_lines(head.headers.to_wsgi_list())])
        extensions = head.headers.get("Sec-WebSocket-Extensions", "")
        yield Opened(connection_of(ws), ws.subprotocol, bool(extensions))
        try:
            stack.close()
        except TimeoutError as error:
            click.echo(str(error), err=True)


def _lines(headers: Headers) -> list[str]:
    return [f"{name}: {value}" for name, value in headers]

"""``flask ws publish``, ``channels``, ``presence`` and ``disconnect``."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator

import click
import flask
from flask.cli import with_appcontext

from flask_ws.channels.settings import DEFAULT_URL, URL_KEY
from flask_ws.connection.endpoint import check_close
from flask_ws.exceptions import BrokerError, FlaskWSError
from flask_ws.identity.identities import DISMISSED, check_identity
from flask_ws.routes.state import AppState

from .conversation import read_input
from .tables import show

__all__ = ["disconnect", "list_channels", "publish", "show_presence"]

#: Each command runs in its own process.
ALONE = (
    f"{URL_KEY} is memory://: a server's channels are known to its own process only. "
    "With a broker, such as redis://, this command reaches them."
)


@click.command("publish")
@click.argument("channel")
@click.argument("text")
@with_appcontext
def publish(channel: str, text: str) -> None:
    """Send TEXT to all subscribers of CHANNEL; with '-', each line of the input.

    They are in the processes of the app's servers, which a broker (SOCK_BROKER_URL) connects.
    """
    state = AppState.of(flask.current_app)
    _check_broker()
    with _quiet_log() as said:
        for message in read_input(str) if text == "-" else [text]:
            try:
                taken = state.channels.publish(channel, message)
            except (FlaskWSError, ValueError) as error:
                raise click.ClickException(str(error)) from error
            if not taken:
                raise click.ClickException(
                    " ".join(["The broker is away: nobody has got the message.", *said[-1:]])
                )


@click.command("disconnect")
@click.argument("identity")
@click.option("--code", default=DISMISSED, show_default=True, help="The close code.")
@click.option("--reason", default="", help="A text for the client.")
@with_appcontext
def disconnect(identity: str, code: int, reason: str) -> None:
    """Close all connections of the user IDENTITY, in every process.

    The identity is what the app's sock.identify function returns. The processes are those of the
    app's servers, which a broker (SOCK_BROKER_URL) connects. A user who is still logged in can
    come back.
    """
    state = AppState.of(flask.current_app)
    _check_broker()
    with _quiet_log() as said:
        try:
            check_identity(identity)
            check_close(code, reason)
            taken = state.channels.disconnect(identity, code, reason)
        except (FlaskWSError, ValueError) as error:
            raise click.ClickException(str(error)) from error
        if not taken:
            raise click.ClickException(
                " ".join(["The broker is away: nobody was disconnected.", *said[-1:]])
            )


@click.command("channels")
@with_appcontext
def list_channels() -> None:
    """List the channels that have subscribers, in any process.

    The broker (SOCK_BROKER_URL) is asked. It counts processes, not connections.
    """
    state = AppState.of(flask.current_app)
    _check_broker()
    with _quiet_log():
        try:
            found = state.channels.list_all()
        except BrokerError as error:
            raise click.ClickException(f"The broker is away: {error}") from error
        except FlaskWSError as error:
            raise click.ClickException(str(error)) from error
    if found is None:
        raise click.ClickException("This broker cannot tell which channels there are.")
    if not found:
        click.echo("Nobody is subscribed to a channel.")
    else:
        show(["Channel", "Processes"], [[name, str(found[name])] for name in sorted(found)])


@click.command("presence")
@click.argument("channel")
@with_appcontext
def show_presence(channel: str) -> None:
    """Show who is there: the members of CHANNEL, in every process.

    The broker (SOCK_BROKER_URL) is asked. Each key is there once, with what is known of its
    connections.
    """
    state = AppState.of(flask.current_app)
    _check_broker()
    with _quiet_log():
        try:
            broker = state.channels.attendance.open().broker
            found = json.loads(state.channels.attendance.read(channel))
        except BrokerError as error:
            raise click.ClickException(f"The broker is away: {error}") from error
        except (FlaskWSError, ValueError) as error:
            raise click.ClickException(str(error)) from error
    if not broker.tracks_presence:
        raise click.ClickException("This broker cannot tell who is there.")
    if not found:
        click.echo("Nobody is there.")
    else:
        rows = [[key, ", ".join(map(json.dumps, found[key]))] for key in sorted(found)]
        show(["Key", "Infos"], rows)


def _check_broker() -> None:
    url = flask.current_app.config.get(URL_KEY) or DEFAULT_URL
    if str(url).startswith("memory:"):
        raise click.ClickException(ALONE)


@contextlib.contextmanager
def _quiet_log() -> Iterator[list[str]]:
    """Keep from the log what is meant for servers: the command says what there is to say.

    :return: what was to be logged: of each line the last value, which is the cause.
    """
    said: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING and isinstance(record.args, tuple) and record.args:
            said.append(str(record.args[-1]))
        return False

    logger = logging.getLogger("flask_ws")
    logger.addFilter(keep)
    try:
        yield said
    finally:
        logger.removeFilter(keep)

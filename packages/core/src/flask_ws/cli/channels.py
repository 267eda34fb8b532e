"""``flask ws publish`` and ``flask ws channels``."""

from __future__ import annotations

import click
import flask
from flask.cli import with_appcontext

from flask_ws.channels.settings import DEFAULT_URL, URL_KEY
from flask_ws.exceptions import BrokerError, FlaskWSError
from flask_ws.routes.extension import AppState

from .tables import show

__all__ = ["list_channels", "publish"]

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
    """Send TEXT to all subscribers of CHANNEL.

    They are in the processes of the app's servers, which a broker (SOCK_BROKER_URL) connects.
    """
    state = AppState.of(flask.current_app)
    _check_broker()
    try:
        if not state.channels.publish(channel, text):
            raise click.ClickException("The broker is away: nobody has got the message.")
    except (FlaskWSError, ValueError) as error:
        raise click.ClickException(str(error)) from error


@click.command("channels")
@with_appcontext
def list_channels() -> None:
    """List the channels that have subscribers, in any process.

    The broker (SOCK_BROKER_URL) is asked. It counts processes, not connections.
    """
    state = AppState.of(flask.current_app)
    _check_broker()
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


def _check_broker() -> None:
    url = flask.current_app.config.get(URL_KEY) or DEFAULT_URL
    if str(url).startswith("memory:"):
        raise click.ClickException(ALONE)

"""What flask-ws keeps of an app."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import flask

from ..channels.channels import Channels
from ..channels.hooks import Hook
from ..channels.listening import Message
from ..channels.settings import read_broker, read_history
from ..exceptions import ConfigurationError
from ..http.detach import Detacher
from ..http.gateway import GATEWAY, switching
from ..options import PREFIX, Options
from ..plugin.manager import plugins
from ..views.signals import broker_away, broker_back, tell
from .advice import explain_routing, warn_of_silence, warn_of_variables, warn_of_wrapper
from .called_as_asgi import answer_in_words

__all__ = ["AppState"]

EXTENSION = "flask_ws"


class AppState:
    """What flask-ws keeps of an app: its options, and its channels.

    The options are read again when the app's configuration has changed.
    """

    def __init__(self, app: flask.Flask) -> None:
        self._config = app.config
        # All keys, and those of our options: comparing keys is faster than searching them again.
        self._keys: set[str] = set()
        self._own: list[str] = []
        self._seen: dict[str, Any] = {}
        self._options = Options()
        self._looked = False
        #: Of each ``Sock`` that the app was initialised with, the blueprints with its routes.
        self.blueprints: list[list[flask.Blueprint]] = []
        self.read()
        # A wrong URL is reported now; each process opens a broker of its own later.
        self._broker = plugins.open_broker(read_broker(app.config)[0])
        read_history(app.config)
        #: The app's channels.
        self.channels = Channels(app.config, functools.partial(tell_of_broker, app))

    @classmethod
    def of(cls, app: flask.Flask) -> AppState:
        """Return an app's state; the app may be ``current_app``.

        :raises ConfigurationError: an option has an unknown name or a wrong value.
        """
        state = app.extensions.get(EXTENSION)
        if state is None:
            state = app.extensions[EXTENSION] = cls(app)
            # The first in the list runs last: a 101 that another function returns is handled, too.
            app.after_request_funcs.setdefault(None, []).insert(0, accept_answer)
            app.wsgi_app = Detacher(app.wsgi_app, state.read)  # type: ignore[method-assign]
            answer_in_words(app)
        assert isinstance(state, AppState)
        return state

    def read(self) -> Options:
        """Return the options as they are now."""
        config = self._config
        if config.keys() != self._keys:
            keys = set(config)
            self._own = [key for key in keys if key.startswith(PREFIX)]
            self._keys = keys
        seen = {key: config[key] for key in self._own if key in config}
        if seen != self._seen:
            self._options = Options.from_config(seen)
            self._seen = seen
        return self._options

    def unregistered(self, app: flask.Flask) -> Iterator[str]:
        """Name the blueprints that have WebSocket routes and are not registered on the app."""
        names = {blueprint.name for own in self.blueprints for blueprint in own}
        known = {blueprint.name for blueprint in app.blueprints.values()}
        yield from sorted(names - known)

    def add_hook(
        self, app: flask.Flask, pattern: str, function: Callable[[Message], object], *, once: bool
    ) -> None:
        """Have a function called for what is published.

        :param app: the app, in whose context it is called.
        :raises ConfigurationError: it is to be called once, and the broker cannot tell.
        """
        if once and not self._broker.uses_once:
            raise ConfigurationError(
                f"on_publish({pattern!r}, once=True): the broker, {type(self._broker).__name__}, "
                "cannot tell what is done once in all processes."
            )
        call = functools.partial(call_in_app, app, app.ensure_sync(function))
        name = f"{function.__module__}.{getattr(function, '__qualname__', repr(function))}"
        self.channels.hooks.add(Hook(pattern, call, once, name))

    def begin_request(self) -> None:
        """Have this process call functions for what is published, from its first request on.

        And say why a handshake reaches no route, if that is so.
        """
        if self.channels.hooks.is_due:
            self.channels.begin()
        if not self._looked:
            # At the first request all routes have been declared.
            self._looked = True
            warn_of_variables(flask.current_app)
            warn_of_silence(flask.request.environ)
            warn_of_wrapper(flask.request.environ)
        error = flask.request.routing_exception
        if error is not None:
            explain_routing(error, self.unregistered(flask.current_app))


def call_in_app(app: flask.Flask, function: Callable[[Message], object], message: Message) -> None:
    """Call a function in an app context."""
    with app.app_context():
        function(message)


def tell_of_broker(app: flask.Flask, reason: str | None) -> None:
    """Send the signal for a broker that is away, or back."""
    if reason is None:
        tell(broker_back, app)
    else:
        tell(broker_away, app, reason=reason)


def accept_answer(response: flask.Response) -> flask.Response:
    """Open the WebSocket for a 101 that an ``after_request`` function has made."""
    if response.status_code == 101 and GATEWAY in flask.request.environ:
        switching(response)
    return response

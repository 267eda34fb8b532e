"""Finding the server plugins, asking them, and the hint when none answers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, distributions
from typing import TYPE_CHECKING

import pluggy

from . import hookspecs
from .brokers import Broker, MemoryBroker
from .exceptions import ConfigurationError
from .hookspecs import PROJECT, ServerSocket

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["FoundPlugin", "Plugins", "hint", "plugins"]

logger = logging.getLogger("flask_ws")


@dataclass
class FoundPlugin:
    """A plugin that an installed distribution announces, and how loading it went."""

    #: The entry point's name.
    name: str
    #: The entry point's value: the module that implements the hooks.
    module: str
    #: The distribution's name and version.
    distribution: str
    version: str
    #: What importing it raised, or ``None`` if it loaded.
    error: Exception | None = None


class Plugins:
    """The plugins of this process: found by entry point, loaded once, when first asked.

    :param group: the entry point group.
    """

    def __init__(self, group: str = PROJECT) -> None:
        self.group = group
        self.manager = pluggy.PluginManager(PROJECT)
        self.manager.add_hookspecs(hookspecs)
        self._found: list[FoundPlugin] | None = None
        self._lock = threading.Lock()

    def register(self, plugin: object, name: str | None = None) -> None:
        """Add a plugin by hand: a module, or an object, with hook implementations."""
        self.manager.register(plugin, name)

    def unregister(self, plugin: object) -> None:
        """Take back what :meth:`register` added."""
        self.manager.unregister(plugin)

    def load(self) -> list[FoundPlugin]:
        """Load the installed plugins, unless that is done, and return all that were found.

        One that cannot be imported is logged by name and does not take the others down.
        """
        if self._found is None:
            with self._lock:
                if self._found is None:
                    self._found = [self._load(*announced) for announced in self._announced()]
        return self._found

    def get_socket(self, environ: WSGIEnvironment) -> ServerSocket | None:
        """Ask the plugins for the socket of a request; ``None`` if no plugin knows its server."""
        self.load()
        found: ServerSocket | None = self.manager.hook.flask_ws_get_socket(environ=environ)
        return found

    def open_broker(self, url: str) -> Broker:
        """Make the broker for a URL; ``memory://`` is no plugin's.

        :raises ConfigurationError: no plugin knows the URL's scheme, or the URL is wrong.
        """
        scheme, colon, _ = url.partition(":")
        if not colon:
            # It may be nothing but a password.
            raise ConfigurationError("SOCK_BROKER_URL must be a URL, such as 'memory://'.")
        if scheme == "memory":
            return MemoryBroker()
        self.load()
        broker: Broker | None = self.manager.hook.flask_ws_open_broker(url=url)
        if broker is None:
            raise ConfigurationError(_broker_hint(scheme))
        return broker

    def _announced(self) -> Iterator[tuple[Distribution, EntryPoint]]:
        seen: set[str] = set()
        for distribution in distributions():
            for entry_point in distribution.entry_points:
                # A distribution on two entries of sys.path is announced twice.
                if entry_point.group == self.group and entry_point.value not in seen:
                    seen.add(entry_point.value)
                    yield distribution, entry_point

    def _load(self, distribution: Distribution, entry_point: EntryPoint) -> FoundPlugin:
        found = FoundPlugin(
            entry_point.name,
            entry_point.value,
            distribution.metadata["Name"],
            distribution.version,
        )
        try:
            plugin = entry_point.load()
            self.manager.register(plugin, entry_point.value)
            self.manager.check_pending()
        except Exception as error:
            if self.manager.has_plugin(entry_point.value):
                self.manager.unregister(name=entry_point.value)
            found.error = error
            logger.error(
                "Plugin %s (%s %s) could not be loaded and is left out: %s: %s",
                found.name,
                found.distribution,
                found.version,
                type(error).__name__,
                error,
            )
        return found


#: The extra to install for the schemes of broker URLs that a plugin of ours knows.
BROKER_EXTRAS = {"redis": "redis", "rediss": "redis", "unix": "redis"}


def _broker_hint(scheme: str) -> str:
    extra = BROKER_EXTRAS.get(scheme)
    advice = (
        f"pip install 'flask-ws[{extra}]'"
        if extra
        else "there are memory:// and, from flask-ws[redis], redis://, rediss:// and unix://"
    )
    return f"SOCK_BROKER_URL: no installed plugin knows the scheme {scheme!r}: {advice}"


#: The plugins of this process.
plugins = Plugins()


#: How each server that has a plugin of ours is known: an environ key, or the start of
#: SERVER_SOFTWARE; and the extra to install.
HINTS = (
    ("gunicorn.socket", None, "gunicorn"),
    ("werkzeug.socket", None, "werkzeug"),
    ("eventlet.input", None, "eventlet"),
    (None, "gevent/", "gevent"),
    (None, "gunicorn/", "gunicorn"),
    (None, "werkzeug/", "werkzeug"),
)


def hint(environ: WSGIEnvironment) -> str:
    """Say why no plugin has claimed a request, and what to do about it.

    :param environ: the WSGI environ of the request.
    """
    software = str(environ.get("SERVER_SOFTWARE", ""))
    found = plugins.load()
    for key, start, extra in HINTS:
        known = key in environ if key else software.lower().startswith(start or "")
        if not known:
            continue
        if any(plugin.name == extra and plugin.error is None for plugin in found):
            return (
                f"The {extra} plugin found no socket behind this request. The server's worker, "
                "or its HTTP version, gives a WSGI application none."
            )
        return f"Install the plugin for this server: pip install 'flask-ws[{extra}]'"
    installed = ", ".join(sorted(plugin.name for plugin in found if plugin.error is None))
    server = f"the server {software!r}" if software else "this server"
    return (
        f"No installed plugin knows {server} (installed: {installed or 'none'}). flask-ws has "
        "plugins for werkzeug, gunicorn, eventlet and gevent: pip install 'flask-ws[NAME]'"
    )

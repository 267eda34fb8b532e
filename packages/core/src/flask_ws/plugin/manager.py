"""Finds the plugins, calls them, and explains why none has answered."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import (
    Distribution,
    EntryPoint,
    PackageNotFoundError,
    distributions,
    version,
)
from typing import TYPE_CHECKING

import pluggy

from ..exceptions import ConfigurationError, FlaskWSError, NoSocket
from ..once import NotYetError, Once
from . import hookspecs
from .asgi import find_wrapper, wrapped
from .brokers import Broker
from .hookspecs import PROJECT, ServerSocket
from .memory import MemoryBroker

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["FoundPlugin", "Plugins", "hint", "plugins"]

logger = logging.getLogger("flask_ws")

#: The distribution that this module belongs to.
CORE = "flask-ws"
#: Matches the oldest core version in a plugin's requirements.
LOWEST_CORE = re.compile(r"flask[-_.]ws(?![\w.-])[^;]*?>=\s*(\d[\d.]*)", re.IGNORECASE)


class TooOldError(FlaskWSError):
    """A plugin requires a newer core than this one."""


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
    #: Whether it is for a broker, not a server.
    is_broker: bool = False

    def __str__(self) -> str:
        return f"{self.name} ({self.distribution} {self.version})"


class Plugins:
    """The plugins of this process: found by entry point, loaded once, at first use.

    :param group: the entry point group.
    """

    def __init__(self, group: str = PROJECT) -> None:
        self.group = group
        self.manager = pluggy.PluginManager(PROJECT)
        self.manager.add_hookspecs(hookspecs)
        self._found: list[FoundPlugin] | None = None
        # Once holds no lock while it runs imports and logging, which are foreign code.
        self._loading = Once(self._load_all)

    def register(self, plugin: object, name: str | None = None) -> None:
        """Add a plugin by hand: a module, or an object, with hook implementations."""
        self.manager.register(plugin, name)

    def unregister(self, plugin: object) -> None:
        """Remove what :meth:`register` added."""
        self.manager.unregister(plugin)

    def load(self) -> list[FoundPlugin]:
        """Load the installed plugins, unless that is done, and return all that were found.

        A plugin that cannot be imported is logged by name, and the others are loaded.
        """
        if self._found is None:
            try:
                self._found = self._loading.get()
            except NotYetError:
                # Called by a plugin that is being imported, or by a log handler meanwhile.
                return []
        return self._found

    def _load_all(self) -> list[FoundPlugin]:
        return [self._load(*announced) for announced in self._announced()]

    def get_socket(self, environ: WSGIEnvironment) -> ServerSocket | None:
        """Ask the plugins for the socket of a request; ``None`` if no plugin knows its server.

        A plugin that fails is logged by name, and the others are called.

        :param environ: the WSGI environ of the request.
        :raises NoSocket: a plugin knows the server and has no socket, or failed to find it.
        """
        self.load()
        try:
            found = self.manager.hook.flask_ws_get_socket(environ=environ)
        except NoSocket:
            raise
        except Exception:
            return self._ask_each(environ)
        if found is None or isinstance(found, ServerSocket):
            return found
        return self._ask_each(environ)

    def _ask_each(self, environ: WSGIEnvironment) -> ServerSocket | None:
        """Call one plugin after the other, to find the one that fails."""
        failed: list[str] = []
        arguments = {"environ": environ}
        for implementation in reversed(self.manager.hook.flask_ws_get_socket.get_hookimpls()):
            try:
                found = implementation.function(*map(arguments.get, implementation.argnames))
                if isinstance(found, ServerSocket):
                    return found
                if found is not None:
                    raise TypeError(f"flask_ws_get_socket returned {found!r}, not a ServerSocket")
            except NoSocket:
                raise
            except Exception:
                name = self._describe(implementation.plugin_name)
                logger.exception("Plugin %s failed with %s %s.", name, CORE, read_core_version())
                failed.append(name)
        if failed:
            raise NoSocket(
                f"A plugin failed to find the socket behind this request: {', '.join(failed)}. "
                "The log has the details."
            )
        return None

    def _describe(self, module: str) -> str:
        found = (plugin for plugin in self._found or () if plugin.module == module)
        return str(next(found, module))

    def open_broker(self, url: str) -> Broker:
        """Make the broker for a URL; ``memory://`` needs no plugin.

        :raises ConfigurationError: no plugin knows the URL's scheme, or the URL is wrong.
        """
        scheme, colon, _ = url.partition(":")
        if not colon:
            # The value is not shown: it may be a password.
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
            _check_core(distribution)
            plugin = entry_point.load()
            self.manager.register(plugin, entry_point.value)
            self.manager.check_pending()
            hooks = {caller.name for caller in self.manager.get_hookcallers(plugin) or ()}
            found.is_broker = hooks == {"flask_ws_open_broker"}
        except Exception as error:
            if self.manager.has_plugin(entry_point.value):
                self.manager.unregister(name=entry_point.value)
            found.error = error
            logger.error(
                "Plugin %s could not be loaded by %s %s and is left out: %s: %s",
                found,
                CORE,
                read_core_version(),
                type(error).__name__,
                error,
            )
        return found


@functools.cache
def read_core_version() -> str:
    """Return the version of flask-ws that is installed."""
    try:
        return version(CORE)
    except PackageNotFoundError:
        return "(not installed)"


def _check_core(distribution: Distribution) -> None:
    """Check that this core is as new as a plugin requires, however they were installed.

    :raises TooOldError: it is not.
    """
    for requirement in distribution.requires or ():
        lowest = LOWEST_CORE.match(requirement)
        if lowest is not None and _release(read_core_version()) < _release(lowest[1]):
            raise TooOldError(f"it requires {requirement}, and this is {read_core_version()}")


def _release(number: str) -> list[int]:
    """The numbers of a version's release, without trailing zeros."""
    numbers = [int(part) for part in re.findall(r"\d+", re.match(r"[\d.]*", number)[0])]  # type: ignore[index]
    while numbers and numbers[-1] == 0:
        # 1.0 equals 1.
        del numbers[-1]
    return numbers


#: The extra to install for each scheme of broker URLs that one of our plugins handles.
BROKER_EXTRAS = {
    **dict.fromkeys(("redis", "rediss", "unix", "redis+cluster", "rediss+cluster"), "redis"),
    **dict.fromkeys(("postgresql", "postgres"), "postgresql"),
}


def _broker_hint(scheme: str) -> str:
    extra = BROKER_EXTRAS.get(scheme)
    advice = (
        f'pip install "flask-ws[{extra}]"'
        if extra
        else "there are memory://, from flask-ws[redis] redis://, rediss:// and unix://, and from "
        "flask-ws[postgresql] postgresql://"
    )
    return f"SOCK_BROKER_URL: no installed plugin knows the scheme {scheme!r}: {advice}"


#: The plugins of this process.
plugins = Plugins()


#: How each server that has one of our plugins is recognised: an environ key, or the start of
#: SERVER_SOFTWARE; and the extra to install.
HINTS = (
    ("gunicorn.socket", None, "gunicorn"),
    ("werkzeug.socket", None, "werkzeug"),
    ("eventlet.input", None, "eventlet"),
    ("waitress.client_disconnected", None, "waitress"),
    ("uwsgi.version", None, "uwsgi"),
    ("asgi.scope", None, "asgi"),
    (None, "gevent/", "gevent"),
    (None, "gunicorn/", "gunicorn"),
    (None, "werkzeug/", "werkzeug"),
    (None, "waitress", "waitress"),
)


def hint(environ: WSGIEnvironment) -> str:
    """Say why no plugin has claimed a request, and what to do about it.

    :param environ: the WSGI environ of the request.
    """
    if wrapper := find_wrapper(environ):
        return wrapped(wrapper)
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
        return f'Install the plugin for this server: pip install "flask-ws[{extra}]"'
    servers = [plugin for plugin in found if plugin.error is None and not plugin.is_broker]
    installed = ", ".join(sorted(plugin.name for plugin in servers))
    server = f"the server {software!r}" if software else "this server"
    extras = ", ".join(sorted({extra for *_, extra in HINTS}))
    return (
        f"No installed plugin knows {server} (installed: {installed or 'none'}). flask-ws has "
        f'plugins for {extras}: pip install "flask-ws[NAME]"'
    )

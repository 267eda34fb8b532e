"""``flask ws servers`` and ``flask ws routes``."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import re
from collections.abc import Callable
from typing import Any

import click
import flask
from flask.cli import with_appcontext
from werkzeug.routing import Rule

from flask_ws.options import PROCESS_NAMES, Options
from flask_ws.plugin.manager import BROKER_EXTRAS, HINTS, FoundPlugin, plugins
from flask_ws.routes.advice import describe_unregistered
from flask_ws.routes.state import AppState
from flask_ws.system import WINDOWS
from flask_ws.views.advice import has_lost_decorator, is_async

from .tables import show

__all__ = ["list_routes", "list_servers"]

DISTRIBUTION = "flask-ws"
#: Servers that do not run on Windows.
NOT_ON_WINDOWS = frozenset({"gunicorn", "uwsgi"})


# Servers


@click.command("servers")
def list_servers() -> None:
    """List the plugins that were found: of servers, and of brokers."""
    found = plugins.load()
    brokers = set(BROKER_EXTRAS.values())
    # A plugin that could not be loaded is recognised by its name.
    is_broker = [plugin.is_broker or plugin.name in brokers for plugin in found]
    _show_plugins(
        ["Plugin", "Distribution", "Server", "State"],
        [plugin for plugin, other in zip(found, is_broker, strict=True) if not other],
        {extra for *_, extra in HINTS},
    )
    click.echo()
    _show_plugins(
        ["Broker", "Distribution", "Library", "State"],
        [plugin for plugin, one in zip(found, is_broker, strict=True) if one],
        brokers,
    )


def _show_plugins(header: list[str], found: list[FoundPlugin], extras: set[str]) -> None:
    table = [
        [
            plugin.name,
            f"{plugin.distribution} {plugin.version}",
            _describe_requirements(plugin),
            _describe_state(plugin),
        ]
        for plugin in sorted(found, key=lambda plugin: plugin.name)
    ]
    table += [
        [extra, "-", _describe_library(extra), _describe_absence(extra)]
        for extra in sorted(extras - {plugin.name for plugin in found})
    ]
    show(header, table)


def _describe_state(plugin: FoundPlugin) -> str:
    if plugin.error is None:
        return "loaded"
    if WINDOWS and plugin.name in NOT_ON_WINDOWS:
        return f"{plugin.name} does not run on Windows"
    return f"failed: {plugin.error!r}"


def _describe_absence(extra: str) -> str:
    if WINDOWS and extra in NOT_ON_WINDOWS:
        return f"{extra} does not run on Windows"
    return f'missing: pip install "{DISTRIBUTION}[{extra}]"'


def _describe_library(name: str) -> str:
    """Name a server, or a broker's library, that may be installed without its plugin."""
    try:
        return f"{name} {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return "-"


def _describe_requirements(plugin: FoundPlugin) -> str:
    """Name the plugin's server or library, with the installed version.

    It is what the distribution requires of the plugin's own name, or else whatever it requires
    besides flask-ws.
    """
    try:
        requirements = importlib.metadata.requires(plugin.distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return "-"
    described: dict[str, str] = {}
    for requirement in requirements:
        match = re.match(r"[\w.-]+", requirement)
        name = match[0] if match else requirement
        if "extra ==" in requirement or name.lower().startswith(DISTRIBUTION):
            continue
        try:
            described[name.lower()] = f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            # A requirement with a marker may be for another Python or system.
            if ";" not in requirement:
                described[name.lower()] = f"{name} is not installed"
    return described.get(plugin.name.lower()) or ", ".join(described.values()) or "-"


# Routes


@click.command("routes")
@with_appcontext
def list_routes() -> None:
    """List the app's WebSocket routes.

    With the options of each that differ from the defaults, whether they are set in app.config or
    on the route itself.
    """
    app: flask.Flask = flask.current_app._get_current_object()  # type: ignore[attr-defined]
    state = AppState.of(app)
    options = state.read()
    rules = [rule for rule in app.url_map.iter_rules() if rule.websocket or _target(app, rule)]
    if not rules:
        why = "." if state.blueprints else ": Sock.init_app() was not called."
        click.echo(f"There are no WebSocket routes{why}")
    else:
        rules.sort(key=lambda rule: (_domain(rule), rule.rule, rule.endpoint))
        table = [_describe_rule(app, rule, options) for rule in rules]
        header = ["Domain", "Rule", "Endpoint", "Kind", "Options"]
        if not any(map(_domain, rules)):
            header, table = header[1:], [row[1:] for row in table]
        show(header, table)
    if changed := _differences(options, PROCESS_NAMES):
        click.echo(f"\nOf the whole process: {changed}")
    for name in state.unregistered(app):
        click.echo(f"\n{describe_unregistered(name)}")


def _describe_rule(app: flask.Flask, rule: Rule, options: Options) -> list[str]:
    view: Any = app.view_functions.get(rule.endpoint)
    target = _target(app, rule)
    changed = ""
    if target is None:
        kind = "unknown"
    else:
        kind = "async " if is_async(target) else ""
        kind += "event view" if isinstance(target, type) else "handler"
        names = {field.name for field in dataclasses.fields(Options)} - PROCESS_NAMES
        changed = _differences(options.replace(view.flask_ws_options), names)
    if target is not None and has_lost_decorator(target):
        kind += " (the decorator above its route has no effect)"
    if not rule.websocket:
        kind += " (never called: the rule needs websocket=True)"
    return [_domain(rule), rule.rule, rule.endpoint, kind, changed]


def _target(app: flask.Flask, rule: Rule) -> Callable[..., Any] | None:
    """Return a rule's handler, which :meth:`Sock.view` has noted on the view function."""
    view = app.view_functions.get(rule.endpoint)
    target: Callable[..., Any] | None = getattr(view, "flask_ws_handler", None)
    return target


def _domain(rule: Rule) -> str:
    return rule.host or rule.subdomain or ""


def _differences(options: Options, names: frozenset[str] | set[str]) -> str:
    defaults = Options()
    return ", ".join(
        f"{field.name}={getattr(options, field.name)!r}"
        for field in dataclasses.fields(options)
        if field.name in names and getattr(options, field.name) != getattr(defaults, field.name)
    )

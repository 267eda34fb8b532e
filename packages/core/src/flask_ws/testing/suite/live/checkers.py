"""Middleware that checks whether both of its sides speak WSGI as PEP 3333 has it."""

from __future__ import annotations

import warnings
import wsgiref.validate
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from werkzeug.middleware.lint import HTTPWarning, LintMiddleware, WSGIWarning

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


#: Python's own, and Werkzeug's. One does not take the other's streams for such.
CHECKERS: dict[str, Callable[[Any], Any]] = {
    "wsgiref": wsgiref.validate.validator,
    "werkzeug": LintMiddleware,
}


def checked(app: WSGIApplication, checker: str) -> Any:
    """Let a checker have an eye on an app, and raise what it finds."""
    for category in (WSGIWarning, HTTPWarning, wsgiref.validate.WSGIWarning):
        warnings.simplefilter("error", category)
    return CHECKERS[checker](app)


def tidied(app: WSGIApplication) -> Any:
    """Spare a checker what servers put into their environs that is not as the PEP has it."""

    def middleware(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ.setdefault("QUERY_STRING", "")
        for key, value in environ.items():
            if "." not in key and not isinstance(value, str):
                environ[key] = str(value)
        return app(environ, start_response)

    return middleware

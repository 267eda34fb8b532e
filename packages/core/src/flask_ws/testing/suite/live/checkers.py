"""Middleware that checks whether server and app conform to PEP 3333."""

from __future__ import annotations

import warnings
import wsgiref.validate
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from werkzeug.middleware.lint import HTTPWarning, LintMiddleware, WSGIWarning

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


#: Python's own, and Werkzeug's. Neither accepts the streams of the other.
CHECKERS: dict[str, Callable[[Any], Any]] = {
    "wsgiref": wsgiref.validate.validator,
    "werkzeug": LintMiddleware,
}


def checked(app: WSGIApplication, checker: str) -> Any:
    """Wrap an app in a checker, and raise what it finds."""
    for category in (WSGIWarning, HTTPWarning, wsgiref.validate.WSGIWarning):
        warnings.simplefilter("error", category)
    return CHECKERS[checker](app)


def tidied(app: WSGIApplication) -> Any:
    """Hide from a checker what servers put into environs against the PEP."""

    def middleware(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ.setdefault("QUERY_STRING", "")
        for key, value in environ.items():
            if "." not in key and not isinstance(value, str):
                environ[key] = str(value)
        return app(environ, start_response)

    return middleware

"""What Flask makes of the errors of an app."""

from __future__ import annotations

__all__ = ["innermost"]


def innermost(error: BaseException) -> BaseException:
    """Return what a teardown function has raised: Flask 3.2 puts that into groups."""
    while errors := getattr(error, "exceptions", ()):
        (error,) = errors
    return error

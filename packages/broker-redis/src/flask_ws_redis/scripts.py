"""Scripts that Redis runs, and knows by their digests."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from redis.exceptions import NoScriptError

__all__ = ["Execute", "Script", "make_script", "run"]

#: Sends Redis a command.
Execute = Callable[..., Any]


class Script(NamedTuple):
    """A script, and the digest by which Redis knows it."""

    text: str
    digest: bytes


@functools.lru_cache(1024)
def make_script(template: str, **values: object) -> Script:
    """Make a script of its template.

    :param values: what stands in braces there; without any, the template is the script.
    """
    text = template.format(**values) if values else template
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest().encode())


def run(execute: Execute, script: Script, keys: Sequence[bytes], *args: Any) -> Any:
    """Run a script.

    :param execute: sends a command.
    """
    rest = (len(keys), *keys, *args)
    try:
        return execute("EVALSHA", script.digest, *rest)
    except NoScriptError:
        return execute("EVAL", script.text, *rest)

"""Tickets: signed credentials that can be used once, within seconds.

Browsers send no headers of a page's choosing with a handshake, but they do send the URL. What is in
a URL may be seen by others later, in a log: so a ticket is for one connection, and expires soon.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

from itsdangerous import BadSignature, URLSafeSerializer

from .identities import check_identity
from .secrets import Secret

__all__ = ["MARK", "SKEW", "BadTicket", "Tickets"]

#: What each begins with: other values of the parameter are the app's.
MARK = "flask-ws."
SALT = "flask_ws.ticket"
#: Seconds by which the clocks of an app's machines may differ.
SKEW = 60.0

#: Takes note that something is used for so many seconds; ``True`` for the first time.
UseOnce = Callable[[str, float], bool]


class BadTicket(Exception):
    """A ticket is not valid; the text says why, without showing it."""


class Tickets:
    """Makes tickets, and takes them.

    :param keys: the secret keys, the one that signs last.
    """

    def __init__(self, keys: Sequence[str | bytes]) -> None:
        self._serializer = URLSafeSerializer(list(keys), salt=SALT)  # type: ignore[arg-type]

    def make(self, identity: str, ttl: float) -> Secret:
        """Make a ticket.

        :param identity: who its client is.
        :param ttl: the seconds for which it does.
        """
        number = os.urandom(12).hex()
        signed = self._serializer.dumps([str(identity), time.time() + ttl, number])
        return Secret(MARK + (signed if isinstance(signed, str) else signed.decode()))

    def take(self, ticket: str, use_once: UseOnce) -> str:
        """Take a ticket.

        :param ticket: the ticket.
        :param use_once: tells whether it is the first time that it is used.
        :return: who its client is.
        :raises BadTicket: it is not valid.
        """
        try:
            identity, end, number = self._serializer.loads(ticket[len(MARK) :])
            check_identity(identity)
            left = float(end) - time.time()
            key = f"ticket:{int(number, 16):024x}"
        except BadSignature:
            raise BadTicket("It is not signed with the app's SECRET_KEY.") from None
        except (TypeError, ValueError):
            raise BadTicket("It is signed, and is no ticket.") from None
        if left <= 0:
            raise BadTicket(f"It came {-left:.1f} s too late.")
        if not use_once(key, left + SKEW):
            raise BadTicket("It was used before.")
        return str(identity)

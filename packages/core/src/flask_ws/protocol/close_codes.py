"""The close codes that are used here (RFC 6455 section 7.4; 1012 to 1014 by IANA's registry)."""

from __future__ import annotations

__all__ = [
    "ABNORMAL_CLOSURE",
    "CLOSE_CODES",
    "GOING_AWAY",
    "INTERNAL_ERROR",
    "INVALID_DATA",
    "MESSAGE_TOO_BIG",
    "NORMAL_CLOSURE",
    "NO_STATUS",
    "POLICY_VIOLATION",
    "TRY_AGAIN_LATER",
]

NORMAL_CLOSURE = 1000
GOING_AWAY = 1001
#: Never sent: the close frame had no code.
NO_STATUS = 1005
#: Never sent: the connection was lost.
ABNORMAL_CLOSURE = 1006
INVALID_DATA = 1007
POLICY_VIOLATION = 1008
MESSAGE_TOO_BIG = 1009
INTERNAL_ERROR = 1011
TRY_AGAIN_LATER = 1013

#: Those that an endpoint may send and receive.
CLOSE_CODES = frozenset({*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)})

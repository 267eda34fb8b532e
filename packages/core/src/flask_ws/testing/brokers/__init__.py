"""The tests that every broker passes, ours and those of third parties.

- ``suite``: :class:`flask_ws.testing.BrokerSuite`, which has all of them; what any broker does.
- ``history``, ``presence``: what those do that claim to keep histories, or to track presence.
- ``outages``: what a broker does whose server cannot be reached.
- ``base``: the broker in processes, directly and behind a proxy.
- ``process``: one of these, and the names and payloads that brokers might change.
"""

from .process import PATIENCE, Process
from .suite import BrokerSuite

__all__ = ["PATIENCE", "BrokerSuite", "Process"]

"""The interface to servers and brokers: what a plugin implements, and helpers for its author.

- ``hookspecs``: the hooks, and the :class:`ServerSocket` that one of them returns.
- ``manager``: finds the installed plugins, calls them, and explains why none answered.
- ``asgi``: what calls the app for an ASGI server, and has no socket for it.
- ``brokers``: the contract of a broker.
- ``health``, ``listener``, ``notices``: what a broker on a server of its own needs: whether that
  can be reached, and a connection to listen on that comes back by itself. ``listening``: a broker
  with one of each.
- ``history``: the types of a history: positions, messages, how many are kept.
- ``presence``: the types of presence: leases, members, and their changes.
- ``memory``: the broker for a single process; ``members`` and ``used`` are what it keeps.
- ``sockets``: a socket from a file descriptor; taking what a server read ahead.
"""

"""The interface to servers and brokers: what a plugin implements, and helpers for its author.

- ``hookspecs``: the hooks, and the :class:`ServerSocket` that one of them returns.
- ``manager``: finds the installed plugins, calls them, and explains why none answered.
- ``brokers``: the contract of a broker, and the broker for a single process.
- ``sockets``: a socket from a file descriptor; taking what a server read ahead.
"""

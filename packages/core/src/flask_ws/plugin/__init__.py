"""The seam to servers and brokers: what a plugin implements, and what helps its author.

- ``hookspecs``: the hooks, and the :class:`ServerSocket` that one of them returns.
- ``manager``: finding the installed plugins, asking them, the hint when none answers.
- ``brokers``: the contract of a broker, and the one for a single process.
- ``sockets``: a socket for a server that has but a descriptor; taking what a server read ahead.
"""

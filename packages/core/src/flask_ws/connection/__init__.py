"""One open connection: its socket, what waits to be sent, who may receive, the closing handshake.

- ``transport``: a plain or a TLS socket: calls that wait, and calls that never do.
- ``outbox``: frames that the kernel has not taken yet.
- ``sender``: sending, by any thread.
- ``connection``: receiving, answering pings and closes, closing.
"""

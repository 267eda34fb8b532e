"""What runs in the background for all connections of a process.

- ``monitor``: keepalive, connections whose handler is busy, close frames when the server stops.
- ``keepalive``: when to ping a connection, and when its peer is dead.
- ``drain``: when a process that stops closes its connections: all at once, or one by one.
- ``goodbyes``: the close frames of that, with 1001; and who does not answer.
- ``timers``: functions that the monitor calls at a time.
- ``blocked``: looks for code of the app that blocks others, or does not end.
- ``flusher``: sends what the kernel did not take, when a socket becomes writable.
- ``pool``: threads for handlers that leave their server's worker.
- ``reactor``: event views: a few threads for the sockets of all idle connections.
- ``conversation``: what the reactor needs to know of a connection.
- ``claims``: which of its threads serves which socket.
- ``pollers``: epoll, and its counterparts on other systems, for the reactor.
- ``arrivals``: the same for connections of messages, which have no descriptor.
- ``winsock``: waiting for more sockets than Windows' ``select`` takes.
- ``asyncio_loop``: the loop of all async handlers, on a thread of its own.
- ``server_loop``: that of a server which has one, in its place.
- ``callbacks``: which callback such a loop is in, and for which connection.
- ``watchdog``: logs what blocks that loop, while it does.
- ``unlocked_log``: the same where the locks of ``logging`` are greenlets'.
- ``broker_threads``: calls what may wait for a broker, on a thread, for coroutines.
"""

"""One open connection: its socket, queued frames, receiving, the closing handshake.

From the wire to the app:

- ``transport``: a plain socket, with blocking and non-blocking calls; ``tls``: the same of TLS.
- ``state``: whether the connection is open, and what has ended it; its parts share this.
- ``locks``: how locks are taken where a signal handler may raise.
- ``outbox``: frames that the kernel has not taken yet.
- ``cork``: holds back small messages while a batch is processed, to send them in one call.
- ``writer``: who writes to the socket, the queue of what goes out next, and the close frame.
- ``sender``: sends messages, pings and pongs; any thread may use it.
- ``reader``: who reads the socket, how frames are acted on, and what waits to be received.
- ``receiver``: gives messages to a handler or an event view, and does what cannot wait for either.
- ``connection``: holds these, for the code that drives it: the http room, the monitor, the reactor,
  channels.
- ``endpoint``: what an app calls, at either end; ``views.websocket`` has the server's.

On asyncio, one object does all of this, because one thread does:

- ``async_state``: whether the connection is open, and what has ended it.
- ``async_sending``: sends messages, publications and the close frame.
- ``async_receiving``: acts on frames, and queues messages until a task receives them.
- ``async_connection``: these, as the protocol of an asyncio transport; for the code that drives it.
- ``tls_stream``: a TLS connection as an asyncio transport: asyncio takes none that has begun.

Where there are no frames, as under ASGI, another connection takes the place of these:

- ``message_connection``: receives messages from a server and sends it some, on the server's loop.
- ``threaded_connection``: the same, for a handler or an event view on a thread.
- ``outlet``: what a connection has to send; ``dispatcher``: the task in which all of a loop do so.
- ``bell``: wakes threads for which a message has come.

How a connection ends, by who calls what:

=================  =================================  =============================================
call               who, and when                      what the peer sees
=================  =================================  =============================================
``close``          the app; the handler's end         a close frame; TCP ends with its answer, or
                                                      after ``close_timeout``
``close_nowait``   an event view                      the same; nobody waits
``dismiss``        any thread: who is connected may   the same, for any kind of handler
                   not stay
``go_away``        the monitor: the server stops;     a close frame; what it sent before its answer
                   an interrupted event view; an      is still received
                   async one that has raised
``answer_close``   the reader, for the peer's close   the answer, then FIN
                   frame
``fail``           the reader: the peer is at fault;  a close frame with the reason, then FIN; it
                   the monitor: a message takes too   has ``close_timeout`` to read them
                   long; limits of channels and
                   rates
``overflow``       who sends without waiting: the     the same, with 1013
                   outbox is full
``let_go``         the budget: the process holds      the same, with 1009 or 1013
                   too much, and this one most
``lose``           code that finds the peer dead, or  TCP ends, without a close frame: 1006
                   stops waiting for it
``release``        the owner, once, at the end        queued frames are sent; then the socket is
                                                      closed
=================  =================================  =============================================

Of the transport: ``half_close`` sends a FIN, ``abort`` ends TCP in both directions and wakes
waiting threads, ``close`` closes the file descriptor.
"""

"""One open connection: its socket, what waits to be sent, who may receive, the closing handshake.

From the wire to the app:

- ``transport``: a plain or a TLS socket: calls that wait, and calls that never do.
- ``state``: whether the connection is open, and what has ended it; its parts share this.
- ``outbox``: frames that the kernel has not taken yet.
- ``cork``: holds back small messages while a batch is worked off, to send them in one call.
- ``sender``: the way out: messages, pings, pongs and the close frame, by any thread.
- ``receiver``: the way in: who reads, and what frames ask for.
- ``connection``: holds these, for whoever drives it: the http room, the monitor, the reactor,
  channels.
- ``endpoint``: what an app calls, at either end; ``views.websocket`` has the server's.

Where there are no frames, as under ASGI, another connection takes the place of this one: the
endpoint needs ``send`` of its sender, ``receive`` of its receiver, its state, and ``close``.

How a connection ends, by who calls what:

=================  =================================  =============================================
call               who, and when                      what the peer sees
=================  =================================  =============================================
``close``          the app; the handler's end         a close frame; TCP ends with its answer, or
                                                      after ``close_timeout``
``close_nowait``   an event view                      the same; nobody waits
``go_away``        monitor: the server stops; an      a close frame; what it sent before its answer
                   interrupted event view             is still received
``answer_close``   the receiver, for the peer's       the answer, then FIN
                   close frame
``fail``           the receiver: the peer is at       a close frame with the reason, then FIN; it
                   fault; the sender: the outbox is   has ``close_timeout`` to read them
                   full; the monitor: a message
                   takes too long
``let_go``         the budget: the process holds      the same
                   too much, and this one most
``lose``           whoever finds the peer dead, or    TCP ends, without a close frame: 1006
                   waits for it no more
``release``        the owner, once, at last           what waits goes out first; then the socket is
                                                      closed
=================  =================================  =============================================

Of the transport: ``half_close`` sends a FIN, ``abort`` ends TCP both ways and wakes who waits,
``close`` gives the descriptor back.
"""

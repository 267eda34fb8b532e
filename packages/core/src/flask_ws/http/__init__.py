"""From a request to a 101, and to what runs on the connection after it.

- ``detach``: the middleware that all requests pass; threads of our own, for servers with few.
- ``gateway``: a handshake between server and app, in WSGI.
- ``handshake``: whether a request is a handshake that can be accepted; refusals.
- ``refusal``: refusals whose reason only the log says.
- ``admission``: whether there is room for one more connection.
- ``clients``: how many connections each client has, and how fast it may send.
- ``secrets``: credentials in a handshake: found, and removed from what logs show.
- ``identity``: who the client is, and whether it may stay: what the app says.
- ``head``: the head of the 101, and the response in place of a 101 that is not flask-ws's.
- ``takeover``: taking the socket from the server.
- ``exchange``: how a server's socket is replaced with another.
- ``upgrade``: a handshake that was accepted, and what is to run on its connection.
- ``records``: numbers, signals and lines of the log, for each handshake and each connection.
- ``link``: a connection and what runs on it, from the 101 to its end.
- ``message_link``: the same where the server frames messages, and keeps its socket.
- ``run``: a blocking handler, from its first line to its end.
- ``async_link``, ``async_run``: the same for async handlers, on the asyncio loop.
"""

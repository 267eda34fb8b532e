"""From a request to a 101, and to whatever runs on the connection then.

- ``detach``: the middleware that all requests pass; threads of our own, for servers with few.
- ``gateway``: a handshake between server and app, in WSGI.
- ``handshake``: whether a request is a handshake that can be accepted; refusals.
- ``admission``: whether there is room for one more connection.
- ``head``: the head of the 101, and of what may not be one.
- ``takeover``: taking the socket from the server.
- ``link``: a connection and what runs on it, from the 101 to its end.
"""

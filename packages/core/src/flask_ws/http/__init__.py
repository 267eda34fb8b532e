"""From a request to a 101, and to whatever runs on the connection then.

- ``handshake``: whether a request is a handshake that can be accepted; refusals.
- ``detach``: requests on threads of our own, where the server has few.
- ``takeover``: taking the socket from the server.
- ``response``: the response that answers 101.
- ``link``: a connection and what runs on it, from the 101 to its end.
"""

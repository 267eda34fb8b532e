"""Many channels on one connection, for the browser client and others that speak ``flask-ws.v1``.

- ``view``: :class:`ChannelView`, which an app derives its endpoint from, and its async kind.
- ``requests``: what clients ask for, and what is done.
- ``wire``: the format: what clients ask for, and what they are told.
"""

"""Routes of an app that are WebSockets.

- ``extension``: :class:`Sock`, the Flask extension.
- ``publishing``: what it has to do with channels, and ``users``: with users.
- ``state``: what is kept of each app: its options, and its channels.
- ``answer``: the answer to a handshake that has reached its route.
- ``assets``: the browser client, which apps serve.
- ``called_as_asgi``: what an app answers to an ASGI server.
- ``checks``: mistakes in what is declared as a route.
- ``advice``: warnings about requests that reach no route.
"""

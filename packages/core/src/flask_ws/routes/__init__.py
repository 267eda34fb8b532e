"""Routes of an app that are WebSockets.

- ``extension``: :class:`Sock`, the Flask extension.
- ``checks``: mistakes in what is declared as a route.
- ``advice``: warnings about requests that reach no route.
"""

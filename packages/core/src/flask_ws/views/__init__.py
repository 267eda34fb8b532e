"""What an app's author sees of a connection. Flask is known from here on.

- ``websocket``: the ``ws`` of handlers and of event views.
- ``view``: the class that event views derive from.
- ``conversation``: an event view on its connection: its methods, each in the request context.
- ``context``: the handshake's request context, entered again, torn down with an error.
- ``advice``: what is told of mistakes in handlers.
"""

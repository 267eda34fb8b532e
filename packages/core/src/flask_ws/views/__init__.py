"""What an app's author sees of a connection. From this level on, modules import Flask.

- ``websocket``: the ``ws`` of handlers and of event views.
- ``async_websocket``: the ``ws`` of async handlers, and of event views with async methods.
- ``view``: the classes that event views derive from.
- ``conversation``: calls the methods of an event view, each in the request context.
- ``async_conversation``: the same for one with async methods.
- ``first_use``: tells tests when a handler first uses its connection.
- ``context``: the handshake's request context, entered again, torn down with an error.
- ``advice``: warnings about mistakes in handlers.
"""

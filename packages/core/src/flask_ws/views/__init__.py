"""What an app's author sees of a connection. From this level on, modules import Flask.

- ``websocket``: the ``ws`` of handlers and of event views.
- ``async_websocket``: the ``ws`` of async handlers, and of event views with async methods.
- ``common``: what is the same in both; ``presence``, ``identity``: the parts about these.
- ``view``: the classes that event views derive from.
- ``conversation``: calls the methods of an event view, each in the request context.
- ``async_conversation``: the same for one with async methods.
- ``outcome``: what both do when a method has raised.
- ``limiter``: what happens to a client that sends faster than it may.
- ``first_use``: tells tests when a handler first uses its connection.
- ``context``: the handshake's request context, entered again, torn down with an error.
- ``advice``: warnings about mistakes in handlers.
- ``signals``: Flask's signals about connections and the broker.
- ``logs``: the connection's fields in lines of the log.
"""

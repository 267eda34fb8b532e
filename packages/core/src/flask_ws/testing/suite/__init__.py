"""The live tests that every server plugin passes, ours and those of third parties.

``server_suite`` has :class:`flask_ws.testing.ServerSuite`, which joins the subjects:

- ``handshake``, ``origin``, ``limits``, ``claims``, ``contract``, ``foreign``: before the 101.
- ``messages``, ``busy``, ``threads``, ``event_views``, ``channels``: while connections are open.
- ``keepalive``, ``closing``, ``errors``, ``stopping``, ``leaks``: how they end.
- ``logging``: what is logged. ``faults``: known faults of WebSockets on WSGI servers.

What the subjects stand on:

- ``setups``: what is tested, and what it can do. ``base``: the fixtures.
- ``process`` starts a server; ``server``: one that was started; ``log``: its output.
- ``live``: the app that is served.
- ``wire``: frames and requests. ``raw``, ``split_tls``, ``shared_tls``: clients on a bare socket.
- ``waiting``: for what sends no event. ``reports``, ``dump``: what a failed test shows.

Importing this package needs neither pytest nor anything else that only tests need: servers import
the app from it.
"""

import pkgutil
import sys

if "pytest" in sys.modules:
    # Before those modules are imported: failing assertions then show their values.
    sys.modules["pytest"].register_assert_rewrite(
        *(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__))
    )

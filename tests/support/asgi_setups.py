"""The ASGI servers under test, each with the command by which a user starts it."""

from __future__ import annotations

from dataclasses import replace

from flask_ws.testing import Capabilities

from .setups import OurSetup

#: What holds on each: handlers leave the threads of handshakes, and frames are the server's.
ASGI = Capabilities(frames=False, early_frames=False, few_workers=True)
#: The server tells of the client's close frame no more than the code, if that.
NO_REASONS = replace(ASGI, close_reasons=False, empty_closes=False)

UVICORN = OurSetup(
    name="uvicorn",
    command="uvicorn --port {port} --ws websockets-sansio --timeout-graceful-shutdown 5 asgi:asgi",
    plugin="flask_ws_asgi",
    capabilities=ASGI,
    access_line=r'"(?:GET|WebSocket) {target}(?: HTTP/1\.[01])?" (\d+|\[accepted\])',
    main=True,
)
HYPERCORN = replace(
    UVICORN,
    name="hypercorn",
    command="hypercorn --bind {bind} --graceful-timeout 5 --access-logfile -"
    " --access-logformat '%(m)s %(Uq)s %(s)s' asgi:asgi",
    capabilities=replace(NO_REASONS, close_codes=False),
    access_line=r"GET {target} (\d+)",
)
GRANIAN = replace(
    UVICORN,
    name="granian",
    command="granian --interface asgi --port {port} --access-log"
    " --access-log-fmt '\"%(method)s %(path)s?%(query_string)s %(protocol)s\" %(status)d'"
    " asgi:asgi",
    capabilities=replace(
        NO_REASONS,
        early_frames=True,
        compression=False,
        accept_headers=False,
        awaits_answers=False,
    ),
    # It has no method for WebSockets.
    access_line=r'"(?:GET|-) {target} HTTP/1\.1" (\d+)',
)
GUNICORN = replace(
    UVICORN,
    name="gunicorn-asgi",
    command="gunicorn --worker-class asgi -b {bind} --no-control-socket --graceful-timeout 5"
    " asgi:asgi",
    # It has an access log, of HTTP requests alone.
    capabilities=replace(NO_REASONS, access_log=False, compression=False, denials=False),
)

WSPROTO = replace(
    UVICORN,
    name="uvicorn-wsproto",
    command=UVICORN.command.replace("websockets-sansio", "wsproto --loop asyncio"),
)
#: The lowest versions that are supported, as docs/asgi.md has them.
LOWEST = tuple(
    replace(setup, name=f"{setup.name}-lowest", environment=requirement, main=False)
    for setup, requirement in (
        # The other implementation came later.
        (WSPROTO, "uvicorn==0.25.0"),
        (HYPERCORN, "hypercorn==0.17.0"),
        (GRANIAN, "granian==2.8.9"),
        (GUNICORN, "gunicorn==27.0.0"),
    )
)

ASGI_SETUPS = (
    UVICORN,
    replace(
        UVICORN,
        name="uvicorn-tls",
        command=UVICORN.command.replace(
            " asgi:", " --loop asyncio --ssl-certfile {cert} --ssl-keyfile {key} asgi:"
        ),
        tls=True,
        main=False,
    ),
    replace(
        UVICORN,
        name="uvicorn-unix",
        command=UVICORN.command.replace("--port {port}", "--uds {socket}"),
        unix=True,
        main=False,
    ),
    WSPROTO,
    HYPERCORN,
    GRANIAN,
    GUNICORN,
    *LOWEST,
)

"""The ASGI servers under test, each with the command by which a user starts it."""

from __future__ import annotations

from collections.abc import Iterable
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
    # Floods hold up a bare application on it just the same.
    turns=False,
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


def with_options(setup: OurSetup, name: str, options: str) -> OurSetup:
    """Start the same server with more options, as another setup."""
    return replace(
        setup,
        name=f"{setup.name}-{name}",
        command=setup.command.replace(" asgi:", f" {options} asgi:"),
    )


CERTIFICATE = "--certfile {cert} --keyfile {key}"
LEGACY = replace(
    UVICORN,
    name="uvicorn-websockets",
    command=UVICORN.command.replace("websockets-sansio", "websockets"),
)
#: Uvicorn's first ones tell no reasons, and wsproto's TCP was ended with the close frame.
FIRST = replace(NO_REASONS, awaits_answers=False)
#: The lowest versions that are supported, as docs/asgi.md has them.
LOWEST = tuple(
    replace(setup, name=f"{setup.name}-lowest", environment=requirement)
    for setup, requirement in (
        # The implementation that is run above came later.
        (replace(WSPROTO, capabilities=FIRST), "uvicorn==0.25.0"),
        (HYPERCORN, "hypercorn==0.17.0"),
        (GRANIAN, "granian==2.8.9"),
        (GUNICORN, "gunicorn==27.0.0"),
    )
)

#: Where it is not said otherwise, the loop is uvloop, but for Hypercorn.
ASGI_SETUPS = (
    UVICORN,
    with_options(UVICORN, "asyncio", "--loop asyncio"),
    replace(
        with_options(UVICORN, "tls", "--loop asyncio --ssl-certfile {cert} --ssl-keyfile {key}"),
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
    replace(
        WSPROTO, name="uvicorn-wsproto-uvloop", command=WSPROTO.command.replace("asyncio", "uvloop")
    ),
    LEGACY,
    with_options(LEGACY, "asyncio", "--loop asyncio"),
    HYPERCORN,
    with_options(HYPERCORN, "uvloop", "--worker-class uvloop"),
    GRANIAN,
    GUNICORN,
    with_options(GUNICORN, "asyncio", "--asgi-loop asyncio"),
    *LOWEST,
    replace(
        LEGACY,
        name="uvicorn-websockets-lowest",
        environment="uvicorn[standard]==0.25.0",
        capabilities=NO_REASONS,
    ),
)

WITHOUT_END = "test_handler_without_end_holds_up_the_stop_no_longer_than_declared"
CANCELLED = "asyncio logs a traceback of each connection that it cancels"
LOG = "test_peer_cannot_write_lines_of_the_log"
DECODED = "its access log has paths as they are when they are decoded"
#: What servers do wrong, and no capability says, by what their commands have in them.
FAULTS = {
    "hypercorn ": {WITHOUT_END: CANCELLED, LOG: DECODED},
    "granian ": {LOG: DECODED},
    "--ssl-certfile ": {
        "test_stopping_server_says_goodbye_and_is_gone": (
            "it waits for clients to end TLS, as long as for handlers"
        )
    },
    "--ws websockets ": {
        "test_close_is_seen_while_a_method_blocks": (
            "it tells of a client's close when the client has ended TCP, too"
        )
    },
}


def leave_out(setups: Iterable[OurSetup]) -> dict[str, str]:
    """The tests that these setups fail by the fault of their server, and why."""
    return {
        f"{test}[{setup}]": reason
        for setup in setups
        for words, faults in FAULTS.items()
        if words in setup.command
        for test, reason in faults.items()
    }

"""What the hook must not change, and what it returns; checked inside the server."""

from __future__ import annotations

import json
import math
import os
import time
from contextlib import suppress
from typing import Any

import pytest

from .base import SharedServer, Subject, tracebacks
from .process import Server
from .raw import LostConnection, Peer, build_request, handshake_headers, make_key
from .setups import Setup, on_frames, on_keep_alive, on_pipelining

#: Handshakes that are checked: a slow machine does not delay all of them.
HANDSHAKES = 3
#: Seconds that the hook, and `is_stopping`, may take at most.
QUICK = 0.25
#: Longer than a server takes to run a request that it has in its buffer.
A_WHILE = 0.3

Facts = dict[str, Any]


def ask(server: Server) -> Facts:
    """Record what the server's plugin does at one handshake."""
    tag = server.tag()
    with server.dial() as peer:
        client = os.getpid() if server.setup.unix else peer.sock.getsockname()[1]
        headers = handshake_headers(make_key(), extra=[("X-Contract", f"{tag} {client}")])
        peer.send_request(server.target("/echo", tag), headers=headers)
        # If the hook returns the socket of another connection, there is no answer.
        with suppress(TimeoutError, LostConnection):
            peer.read_head()
        return server.log.event("hook", tag)


class Contract(Subject):
    """What the hook must not change, and what it returns."""

    @pytest.fixture(scope="session")
    @classmethod
    def hook(cls, shared_server: SharedServer) -> list[Facts]:
        """What the hook did at a few handshakes."""
        server, _ = shared_server
        return [ask(server) for _ in range(HANDSHAKES)]

    def test_hook_claims_the_requests_of_its_server(self, hook: list[Facts], setup: Setup) -> None:
        assert find_faults(hook, "claim") == []

    def test_hook_leaves_the_environ_as_it_is(self, hook: list[Facts], setup: Setup) -> None:
        assert find_faults(hook, "environ") == []

    @on_frames
    def test_hook_leaves_the_timeout_of_the_socket_as_it_is(
        self, hook: list[Facts], setup: Setup
    ) -> None:
        """It would apply to the next request on a kept-alive connection."""
        assert find_faults(hook, "timeout") == []

    @on_frames
    def test_hook_gives_the_servers_own_socket(self, hook: list[Facts], setup: Setup) -> None:
        assert find_faults(hook, "own") == []

    @on_frames
    def test_hook_gives_the_connection_of_the_client(self, hook: list[Facts], setup: Setup) -> None:
        assert find_faults(hook, "connection") == []

    def test_hook_does_not_take_long(self, hook: list[Facts], setup: Setup) -> None:
        """Every handshake waits for it."""
        assert min(facts["seconds"] for facts in hook) < QUICK

    def test_is_stopping_is_false_while_the_server_runs(
        self, hook: list[Facts], setup: Setup
    ) -> None:
        assert find_faults(hook, "stopping") == []

    def test_is_stopping_does_not_take_long(self, hook: list[Facts], setup: Setup) -> None:
        """It is called several times a second, by a thread that serves all connections."""
        assert min(facts.get("is_stopping_seconds", 0.0) for facts in hook) < QUICK

    def test_is_stopping_is_equal_for_all_connections(
        self, hook: list[Facts], setup: Setup
    ) -> None:
        """Then it is called once for all of them, not once for each."""
        assert find_faults(hook, "equal") == []

    def test_concurrency_runs_functions_beside_each_other(
        self, hook: list[Facts], setup: Setup
    ) -> None:
        assert find_faults(hook, "concurrency") == []

    def test_fields_agree_with_the_capabilities(self, hook: list[Facts], setup: Setup) -> None:
        """A wrong capability leaves out tests the server could pass, or runs those it cannot."""
        declared, found = setup.capabilities, hook[0]
        told = {
            "frames": found["frames"],
            "few_workers": found["detach"],
            "detaching": found["detachable"],
            # In a monkey-patched process, greenlets look like threads.
            "threads": declared.threads and not found["green"],
            "stop_seconds": found["stop_timeout"],
        }
        if declared.stop_seconds == math.inf:
            del told["stop_seconds"]
        assert told == {name: getattr(declared, name) for name in told}

    @tracebacks(0, most=1)
    @on_frames
    def test_request_in_the_segment_of_the_handshake_never_reaches_the_app(
        self, server: Server
    ) -> None:
        """A proxy takes it for a part of the WebSocket, and does not check it.

        It would reach the app if `read_ahead` did not remove from the server's buffer what it
        returns. A server may also end the connection with an error.
        """
        tag = server.tag()
        smuggled = build_request(server.target("/smuggled", tag), host=server.host)
        with server.dial() as peer:
            peer.send_request("/echo", headers=handshake_headers(make_key()), body=smuggled)
            if peer.read_head().status == 101:
                # The request is not a valid frame.
                assert peer.read_close().close_code == 1002
                peer.send_close(1002)
            peer.read_until_eof()
        assert server.get("/http").text == "http"
        time.sleep(A_WHILE)
        assert f'"event": "smuggled", "tag": "{tag}"' not in server.log.read()

    @on_pipelining
    @on_frames
    def test_nothing_is_taken_for_a_handshake_that_is_refused(self, server: Server) -> None:
        """The bytes after it in the same segment are the next request."""
        with server.dial() as peer:
            peer.send_request("/echo", headers=refused(), body=build_request("/http"))
            assert peer.read_response().status == 426
            assert peer.read_response().text == "http"

    @on_keep_alive
    @on_frames
    def test_slow_request_after_a_handshake_that_is_refused_is_answered(
        self, server: Server
    ) -> None:
        """The server waits for the rest of the request as it would without the plugin."""
        with server.dial() as peer:
            peer.send_request("/echo", headers=refused())
            assert peer.read_response().status == 426
            send_slowly(peer, build_request("/http", host=server.host))
            assert peer.read_response().text == "http"

    def test_nobody_keeps_the_environs_of_handshakes(self, server: Server) -> None:
        def count() -> int:
            return int(json.loads(server.get("/process").body)["environs"])

        before = count()
        for _ in range(10 * server.setup.capabilities.processes):
            with server.connect() as peer:
                peer.close()
        for tag in server.opened:
            server.await_done(tag)
        deadline = time.monotonic() + 5
        # A few may stay for a while: each thread may keep its last one.
        while count() > before + 5 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert count() <= before + 5


def find_faults(hook: list[Facts], kind: str) -> list[str]:
    return sorted({facts["faults"][kind] for facts in hook if kind in facts["faults"]})


def refused() -> list[tuple[str, str]]:
    """The headers of a handshake that is refused, after the plugin has been asked."""
    return handshake_headers(make_key(), version="8")


def send_slowly(peer: Peer, request: bytes) -> None:
    """Send in pieces, with pauses in which the server waits for the next."""
    for begin in range(0, len(request), 20):
        time.sleep(0.1)
        peer.send_bytes(request[begin : begin + 20])

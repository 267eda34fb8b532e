"""Signals: an ASGI server hears of them when its clients have been told."""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from types import FrameType
from typing import Any

import pytest
from tests.support.asgi_site import Site, every_kind
from tests.support.waiting import PATIENCE, until

from flask_ws_asgi import ASGI, signals
from flask_ws_asgi.signals import SIGNALS

#: How servers listen: by a handler of their own, as Uvicorn; by their loop's, as Granian.
WAYS = ["handler"]
if sys.platform != "win32":
    WAYS += ["asyncio", "uvloop"] if importlib.util.find_spec("uvloop") else ["asyncio"]

#: A signal that servers do not stop at.
if sys.platform == "win32":
    OTHER = signal.SIGBREAK
else:
    OTHER = signal.SIGUSR1


class Server:
    """Keeps the signals that it has heard of."""

    def __init__(self, way: str) -> None:
        self.way = way
        self.heard: list[int] = []
        self.told = asyncio.Event()
        if way == "uvloop":
            import uvloop

            self.loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        else:
            self.loop = asyncio.new_event_loop()

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a test on the server's loop."""
        self.loop.run_until_complete(coroutine)

    def close(self) -> None:
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    def listen(self, *numbers: int) -> None:
        for number in numbers or (signal.SIGTERM,):
            if self.way == "handler":
                signal.signal(number, self._hear)
            else:
                self.loop.add_signal_handler(number, self._hear, number)

    def _hear(self, number: int, frame: FrameType | None = None) -> None:
        self.heard.append(number)
        self.told.set()

    async def hears(self, *numbers: int) -> None:
        """Wait until it has heard of signals, and expect no others."""
        while len(self.heard) < len(numbers):
            self.told.clear()
            await asyncio.wait_for(self.told.wait(), PATIENCE)
        assert self.heard == list(numbers)


@pytest.fixture(params=WAYS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The signals of the process are what they were, afterwards."""
    before = {number: signal.getsignal(number) for number in (*SIGNALS, OTHER)}
    signals.signals.start_anew()
    server = Server(request.param)
    yield server
    server.close()
    for number, handler in before.items():
        signal.signal(number, handler)
    assert signal.set_wakeup_fd(-1) == -1


class Clock:
    """The time that servers wait by."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, site: Site) -> Clock:
    """Of an application that the server has told of its start."""
    site.asgi._stopping.start_anew()
    clock = Clock()
    monkeypatch.setattr(signals, "time", clock)
    return clock


def on_its_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test on the loop of the server that it takes."""

    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        fixtures["server"].run(test(**fixtures))

    return run


def send(number: int = signal.SIGTERM) -> None:
    signal.raise_signal(number)


@every_kind
@on_its_loop
async def test_clients_are_told_before_the_server_hears(
    site: Site, server: Server, kind: str
) -> None:
    server.listen()
    driver = await site.connect(f"/{kind}")
    driver.writable.clear()
    send()
    await asyncio.sleep(0.05)
    assert server.heard == []
    driver.writable.set()
    assert (await driver.closed())[0] == 1001
    await driver.ended()
    await server.hears(signal.SIGTERM)


@on_its_loop
async def test_goodbye_is_with_the_server_in_the_next_turn_of_its_loop(
    site: Site, server: Server
) -> None:
    server.listen()
    drivers = [await site.connect("/async") for _ in range(3)]
    for driver in drivers:
        driver.say("hello")
        assert await driver.message() == "hello"
    site.asgi._stopping.begin()
    await asyncio.sleep(0)
    assert all(driver.has_sent for driver in drivers)
    for driver in drivers:
        await driver.ended()


@on_its_loop
async def test_client_that_does_not_answer_keeps_no_signal_from_the_server(
    site: Site, server: Server, clock: Clock
) -> None:
    server.listen()
    driver = await site.connect("/view")
    driver.answers = False
    send()
    await driver.closed()
    assert server.heard == []
    await asyncio.sleep(2 * signals.LOOK)
    clock.now += signals.MOST
    await server.hears(signal.SIGTERM)
    assert not driver.task.done()
    driver.leave()
    await driver.ended()


@on_its_loop
async def test_server_waits_as_long_as_clients_answer(
    site: Site, server: Server, clock: Clock
) -> None:
    server.listen()
    drivers = [await site.connect("/view") for _ in range(4)]
    for driver in drivers:
        driver.answers = False
    send()
    for driver in drivers:
        await driver.closed()
    for driver in drivers:
        clock.now += 0.9 * signals.ANSWERING
        await asyncio.sleep(2 * signals.LOOK)
        assert server.heard == []
        driver.leave()
        await driver.ended()
    await server.hears(signal.SIGTERM)


@on_its_loop
async def test_server_waits_as_long_as_clients_are_told(
    site: Site, server: Server, clock: Clock
) -> None:
    server.listen()
    drivers = [await site.connect("/view") for _ in range(3)]
    for driver in drivers:
        driver.answers = False
        driver.writable.clear()
    send()
    for driver in drivers:
        clock.now += 0.9 * signals.ANSWERING
        await asyncio.sleep(2 * signals.LOOK)
        assert server.heard == []
        driver.writable.set()
        await driver.closed()
    for driver in drivers:
        driver.leave()
        await driver.ended()
    await server.hears(signal.SIGTERM)
    assert site.asgi._stopping.untold == 0


@on_its_loop
async def test_clients_that_answer_late_keep_no_signal_for_ever(
    site: Site, server: Server, clock: Clock
) -> None:
    server.listen()
    drivers = [await site.connect("/view") for _ in range(2)]
    for driver in drivers:
        driver.answers = False
    send()
    for driver in drivers:
        await driver.closed()
    clock.now += 0.9 * signals.ANSWERING
    drivers[0].leave()
    await drivers[0].ended()
    clock.now += signals.MOST
    await server.hears(signal.SIGTERM)
    drivers[1].leave()
    await drivers[1].ended()


@on_its_loop
async def test_handlers_of_a_mounted_application_have_their_time_before_the_server_hears(
    site: Site, server: Server, clock: Clock
) -> None:
    """It is not told of lifespan: nobody waits for it at the end."""
    site.add_busy()
    site.asgi = ASGI(site.app, stop_timeout=3600)
    server.listen()
    driver = await site.connect("/busy-blocking")
    send()
    assert (await driver.closed())[0] == 1001
    await asyncio.sleep(2 * signals.LOOK)
    clock.now += 3599
    await asyncio.sleep(2 * signals.LOOK)
    assert server.heard == []
    site.seen.free.set()
    await driver.ended()
    await server.hears(signal.SIGTERM)


@on_its_loop
async def test_handshake_that_comes_while_the_server_stops_is_refused_by_503(
    site: Site, server: Server, clock: Clock
) -> None:
    server.listen()
    driver = await site.connect("/view")
    driver.answers = False
    send()
    await driver.closed()
    late = site.open("/view")
    status, headers, _ = await late.denied()
    assert (status, *headers) == (503, "retry-after")
    await late.ended()
    assert server.heard == []
    driver.leave()
    await driver.ended()
    await server.hears(signal.SIGTERM)


@on_its_loop
async def test_handshake_that_the_app_is_late_with_is_refused_first(
    site: Site, server: Server, clock: Clock
) -> None:
    """Uvicorn would answer 500."""
    begun = threading.Event()

    @site.app.before_request
    def be_late() -> None:
        begun.set()
        site.seen.free.wait(PATIENCE)

    server.listen()
    driver = site.open("/blocking")
    await asyncio.to_thread(begun.wait, PATIENCE)
    send()
    await asyncio.sleep(2 * signals.LOOK)
    assert not driver.has_sent
    clock.now += signals.ANSWERING
    status, headers, _ = await driver.denied()
    assert (status, *headers) == (503, "retry-after")
    await driver.ended()
    await server.hears(signal.SIGTERM)
    # What the app answers then, reaches nobody.
    driver.raises = OSError("The response has been sent.")
    site.seen.free.set()
    await asyncio.to_thread(until, lambda: site.seen.ends)
    assert site.seen.ends[0][0] == 1006


@on_its_loop
async def test_second_signal_is_for_the_server_at_once(site: Site, server: Server) -> None:
    server.listen()
    driver = await site.connect("/view")
    driver.answers = False
    send()
    await asyncio.sleep(0)
    assert server.heard == []
    send()
    await server.hears(signal.SIGTERM, signal.SIGTERM)
    assert not driver.task.done()
    driver.leave()
    await driver.ended()


@on_its_loop
async def test_ctrl_c_which_a_parent_process_follows_by_a_signal_waits_too(
    site: Site, server: Server
) -> None:
    server.listen(signal.SIGINT, signal.SIGTERM)
    driver = await site.connect("/view")
    driver.writable.clear()
    send(signal.SIGINT)
    await asyncio.sleep(0.02)
    send(signal.SIGTERM)
    await asyncio.sleep(0.05)
    assert server.heard == []
    driver.writable.set()
    assert (await driver.closed())[0] == 1001
    await driver.ended()
    await server.hears(signal.SIGINT, signal.SIGTERM)


@on_its_loop
async def test_other_signals_do_not_wait(site: Site, server: Server) -> None:
    server.listen(signal.SIGTERM, OTHER)
    driver = await site.connect("/view")
    driver.answers = False
    send()
    send(OTHER)
    await server.hears(OTHER)
    driver.leave()
    await driver.ended()
    await server.hears(OTHER, signal.SIGTERM)


@on_its_loop
async def test_server_that_listens_later_than_the_first_handshake_is_heard(
    site: Site, server: Server
) -> None:
    first = await site.connect("/view")
    server.listen()
    second = await site.connect("/view")
    send()
    for driver in (first, second):
        assert (await driver.closed())[0] == 1001
        await driver.ended()
    await server.hears(signal.SIGTERM)


def test_loop_that_runs_again_hears_of_signals(site: Site, server: Server) -> None:
    """Granian's runs for the start alone, and then to serve."""

    async def start() -> None:
        server.listen()
        site.asgi._stopping.watch(server.loop)

    async def serve() -> None:
        driver = await site.connect("/view")
        driver.writable.clear()
        send()
        await asyncio.sleep(0.05)
        assert server.heard == []
        driver.writable.set()
        assert (await driver.closed())[0] == 1001
        await driver.ended()
        await server.hears(signal.SIGTERM)

    server.run(start())
    server.run(serve())


@on_its_loop
async def test_several_applications_of_a_process_listen_once(site: Site, server: Server) -> None:
    server.listen()
    other = ASGI(site.app)
    handlers = set()
    drivers = []
    for _ in range(2):
        for asgi in (site.asgi, other):
            site.asgi = asgi
            drivers.append(await site.connect("/view"))
            handlers.add(signal.getsignal(signal.SIGTERM))
    assert len(handlers) == 1
    send()
    for driver in drivers:
        assert (await driver.closed())[0] == 1001
        await driver.ended()
    await server.hears(signal.SIGTERM)

"""Threads of the operating system's that use connections whose server runs greenlets.

Each test runs in a process of its own: with greenlets of gevent's and of eventlet's, where the
process is monkey-patched and where it is not.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.unix

PREPARE = """
import _socket, _thread, itertools, os, sys, time
start_native_thread, native_sleep = _thread.start_new_thread, time.sleep
kind, patched = sys.argv[1:]
if kind == "gevent":
    import gevent, gevent.monkey, gevent.socket as green_socket
    if patched:
        gevent.monkey.patch_all()
    spawn, sleep = gevent.spawn, gevent.sleep
else:
    import warnings
    warnings.simplefilter("ignore")
    import eventlet, eventlet.green.socket as green_socket
    if patched:
        eventlet.monkey_patch()
    spawn, sleep = eventlet.spawn, eventlet.sleep
import logging
# Not the advice to patch.
logging.getLogger("flask_ws").setLevel("ERROR")
if patched:
    from flask_ws.concurrency import threads as concurrency
elif kind == "gevent":
    from flask_ws_gevent.greenlets import greenlets as concurrency
else:
    from flask_ws_eventlet.greenlets import greenlets as concurrency

from flask_ws.channels.channels import Channels
from flask_ws.connection.connection import Connection
from flask_ws.connection.endpoint import Endpoint
from flask_ws.connection.transport import PlainTransport
from flask_ws.loop.flusher import flusher_for
from flask_ws.protocol.protocol import Protocol
from flask_ws.testing.suite.raw import encode_frame, encode_message

MUCH = bytes(2_000_000)
one, other = green_socket.socketpair()
client = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fileno=os.dup(other.fileno()))
client.settimeout(10)
connection = Connection(
    PlainTransport(one, concurrency, one.close), Protocol(), concurrency=concurrency,
    close_timeout=5, max_queue=16, max_outbox=2**30,
)
connection.sender.when_blocked = flusher_for(concurrency).watch
ws = Endpoint(connection)

def in_native_thread(function, *args):
    def run():
        try:
            outcome.append(function(*args))
        except BaseException as error:
            outcome.append(repr(error))
    outcome = []
    start_native_thread(run, ())
    return outcome

def wait_for(outcome):
    # Other greenlets run meanwhile.
    deadline = time.monotonic() + 15
    while not outcome and time.monotonic() < deadline:
        sleep(0.005)
    return outcome[0] if outcome else "nothing"

def read(size):
    data = bytearray()
    while len(data) < size:
        more = client.recv(size - len(data))
        if not more:
            break
        data += more
    return bytes(data)
"""

END = """
sys.stdout.flush()
os._exit(0)
"""

KINDS = [
    pytest.param(kind, patched, id=f"{kind}{'-patched' if patched else ''}")
    for kind in ("gevent", "eventlet")
    for patched in ("", "patched")
]


def run(script: str, kind: str, patched: str) -> str:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            PREPARE + script + "\nsys.stdout.flush()\nos._exit(0)",
            kind,
            patched,
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


@pytest.mark.parametrize(("kind", "patched"), KINDS)
def test_what_a_thread_sends_arrives_whole(kind: str, patched: str) -> None:
    """While other greenlets send as well, and the peer reads slowly."""
    script = """
frame = b"\\x82\\x7f" + len(MUCH).to_bytes(8, "big") + MUCH
reading = in_native_thread(read, 3 * len(frame) + 4)
sending = [in_native_thread(ws.send, MUCH), in_native_thread(ws.send, MUCH)]
sleep(0.01)
ws.send(MUCH)
ws.send("hi")
print(*map(wait_for, sending), wait_for(reading) == 3 * frame + b"\\x81\\x02hi")
"""
    assert run(script, kind, patched) == "None None True\n"


@pytest.mark.parametrize(("kind", "patched"), KINDS)
def test_what_a_thread_sends_without_waiting_goes_out_at_once(kind: str, patched: str) -> None:
    """It was sent no sooner than the monitor looked at it: a little, twice a second."""
    script = """
frame = b"\\x82\\x7f" + len(MUCH).to_bytes(8, "big") + MUCH
reading = in_native_thread(read, 5 * len(frame))
sending = in_native_thread(lambda: [connection.sender.send_nowait(MUCH) for _ in range(5)])
print(wait_for(sending), wait_for(reading) == 5 * frame)
"""
    assert run(script, kind, patched) == "[None, None, None, None, None] True\n"


@pytest.mark.parametrize(("kind", "patched"), KINDS)
def test_what_a_thread_published_first_is_read_first(kind: str, patched: str) -> None:
    script = """
channels = Channels({})
channels.subscribe(connection, "news", limit=100)
publishing = in_native_thread(channels.publish, "news", "first")
# No greenlet runs meanwhile.
while not publishing:
    native_sleep(0.001)
ws.send("second")
print(read(15))
"""
    assert run(script, kind, patched) == repr(b"\x81\x05first\x81\x06second") + "\n"


@pytest.mark.parametrize(("kind", "patched"), KINDS)
def test_a_thread_may_receive_ping_and_close(kind: str, patched: str) -> None:
    script = """
receiving = in_native_thread(ws.receive)
sleep(0.01)
client.send(encode_message("hello"))
print(wait_for(receiving), wait_for(in_native_thread(ws.ping)), read(2))
closing = in_native_thread(ws.close, 4000)
sleep(0.01)
client.send(encode_frame(8, b"\\x0f\\xa0"))
print(wait_for(closing), read(4), ws.close_code)
print(wait_for(in_native_thread(ws.send, "late")))
"""
    assert run(script, kind, patched).splitlines() == [
        r"hello None b'\x89\x00'",
        r"None b'\x88\x02\x0f\xa0' 4000",
        "ConnectionClosed(4000, '')",
    ]


@pytest.mark.parametrize(("kind", "patched"), KINDS)
def test_a_thread_does_not_wait_for_greenlets_that_never_run(kind: str, patched: str) -> None:
    """As at the end of the process, which waits for its threads."""
    script = """
import flask_ws.concurrency
flask_ws.concurrency.STALLED = 0.1
sending = in_native_thread(ws.send, "hello")
while not sending:
    native_sleep(0.001)
print(sending[0][:40])
"""
    assert run(script, kind, patched) == "RuntimeError(\"The server's thread has no\n"

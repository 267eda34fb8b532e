"""What holds a loop that is a greenlet: gevent's and Eventlet's, in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.unix

SCRIPT = """
import os, sys, time
native_sleep = time.sleep
kind, path = sys.argv[1:]
if kind == "gevent":
    from gevent import monkey
    monkey.patch_all()
else:
    import warnings
    warnings.simplefilter("ignore")
    import eventlet
    eventlet.monkey_patch()
import asyncio, logging, threading
from contextvars import Context
from flask_ws.label import Label
from flask_ws.loop.asyncio_loop import AsyncioLoop
from flask_ws.loop.callbacks import current_label
from flask_ws.loop.watchdog import Watchdog

class Memory(logging.Handler):
    "One that greenlets wait for: no other thread may call it."

    def emit(self, record):
        lines.append(record.getMessage())
        threads.append(threading.get_native_id())

lines, threads = [], []
logger = logging.getLogger("flask_ws")
logger.addHandler(logging.FileHandler(path))
logger.addHandler(Memory())
loop = AsyncioLoop(uvloop=False)
watchdog = Watchdog(loop, 0.1)
done, goes_on = threading.Event(), threading.Event()

def read():
    with open(path) as file:
        return [line for line in file if "has held" in line]

def until(condition, sleep):
    for _ in range(1000):
        if condition():
            return True
        sleep(0.01)

def show(what):
    # While it stands there, in the file; and at last in memory as well.
    print(what, len(read()), read()[-1:], flush=True)

def hold(times, sleep):
    until(lambda: len(read()) == times, sleep)
    # Many looks later.
    sleep(0.3)

def tick():
    hold(1, native_sleep)
    goes_on.set()

async def handler():
    watchdog.start()
    loop.loop.call_soon(tick)
    while not goes_on.is_set():
        await asyncio.sleep(0.01)
    show("callback")
    # Others run meanwhile, but no other coroutine.
    hold(2, time.sleep)
    show("green")
    await asyncio.sleep(0)
    threading.Thread(target=other).start()
    # Though it waits itself, as greenlets do, while that one has the thread.
    time.sleep(0.05)
    show("other")
    # The hub waits.
    await asyncio.sleep(0.3)
    show("idle")
    done.set()

def other():
    time.sleep(0.01)
    hold(3, native_sleep)

context = Context()
context.run(current_label.set, Label("WebSocket 1 /feed", endpoint="handler"))
loop.start(handler, context, "handler")
print(done.wait(60), until(lambda: len(lines) == 3, time.sleep), flush=True)
home = threading.get_native_id()
print([line + chr(10) for line in lines] == read(), set(threads) == {home}, flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("kind", ["gevent", "eventlet"])
def test_who_holds_a_greenlets_loop_is_named_while_it_does(kind: str, tmp_path: Path) -> None:
    script = tmp_path / "app.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), kind, str(tmp_path / "log")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr == ""
    callback, green, other, idle, all_done, in_memory = done.stdout.splitlines()
    prefix = "WebSocket 1 /feed: "
    assert f"callback 1 ['{prefix}tick (of handler) has held the loop of the async" in callback
    assert "app.py" in callback
    assert f'green 2 ["{prefix}handler has held the loop of the async' in green.replace("'", '"')
    assert "other has held the server's thread for 0.1 s" in other
    assert other.removeprefix("other") == idle.removeprefix("idle")
    assert all_done == "True True"
    # By each handler once; and by foreign code on the greenlets' own thread.
    assert in_memory == "True True"

"""Locks that are taken without waiting: a signal's handler that raises leaves none behind."""

from __future__ import annotations

import dis
import os
import sys
import time
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

import pytest
from tests.support.memory import in_thread
from tests.support.waiting import PATIENCE
from tests.unit.conftest import Connect

from flask_ws.connection.connection import Connection
from flask_ws.protocol.deflate import Deflate, DeflateParameters
from flask_ws.protocol.frames import TEXT
from flask_ws.protocol.protocol import Protocol
from flask_ws.protocol.shared import SharedMessage

#: After these instructions the interpreter runs the handlers of signals.
CALLS = ("CALL", "RESUME", "JUMP_BACKWARD", "JUMP_ABSOLUTE")


class Interrupt(BaseException):
    """What a signal's handler raises here."""


class Stepper:
    """Raises an exception where a signal's handler could, after so many such places.

    :param steps: how many to pass.
    """

    def __init__(self, steps: int) -> None:
        self.left = steps
        self.opcodes: dict[CodeType, dict[int, str]] = {}
        self.looked: dict[FrameType, bool] = {}

    def __call__(self, frame: FrameType, event: str, arg: object) -> Any:
        code = frame.f_code
        if event == "call":
            # What the garbage collector calls swallows it.
            if f"flask_ws{os.sep}connection" not in code.co_filename or code.co_name == "__del__":
                return None
            frame.f_trace_opcodes = True
            self.opcodes.setdefault(code, {i.offset: i.opname for i in dis.get_instructions(code)})
        elif event == "opcode":
            # It has looked for signals after the instruction before this one.
            if self.looked.pop(frame, False):
                self.left -= 1
                if self.left < 0:
                    sys.settrace(None)
                    raise Interrupt
            self.looked[frame] = self.opcodes[code][frame.f_lasti].startswith(CALLS)
        return self


USES_OF_LOCKS: dict[str, Callable[[Connection], object]] = {
    "flush": lambda connection: connection.sender.flush(),
    "send": lambda connection: connection.sender.send("x"),
    "send_nowait": lambda connection: connection.sender.send_nowait("x"),
    "send_shared": lambda connection: connection.sender.send_shared(
        SharedMessage(TEXT, b"x" * 2000)
    ),
    "queue_shared": lambda connection: connection.sender.queue_shared(
        SharedMessage(TEXT, b"x" * 2000)
    ),
    "is_sending": lambda connection: connection.sender.is_sending,
    "is_reading": lambda connection: connection.receiver.is_reading,
    "drain": lambda connection: connection.sender.drain(time.monotonic() + PATIENCE),
    "let_go": lambda connection: connection.sender.let_go(),
    "service": lambda connection: connection.service(),
    "look": lambda connection: connection.receiver.look(),
    "fail": lambda connection: connection.receiver.fail(1008, "for a test"),
    "receive": lambda connection: connection.receiver.receive(0),
    "next_message": lambda connection: connection.receiver.next_message(read=True),
    "close": lambda connection: connection.close(1000, ""),
    "close_nowait": lambda connection: connection.close_nowait(1000, ""),
}


def is_interrupted(steps: int, use: Callable[[Connection], object], connection: Connection) -> bool:
    """Use a connection, and raise after so many places; tell whether there were as many."""
    try:
        sys.settrace(Stepper(steps))
        use(connection)
    except Interrupt:
        return True
    finally:
        sys.settrace(None)
    return False


@pytest.mark.parametrize("use", USES_OF_LOCKS.values(), ids=list(USES_OF_LOCKS))
@pytest.mark.parametrize("waits", [True, False], ids=["with something to send", "with nothing"])
def test_no_lock_is_held_after_a_signal_wherever_it_comes(
    connect: Connect, use: Callable[[Connection], object], waits: bool
) -> None:
    raised, steps = True, 0
    while raised:
        deflate = Deflate(DeflateParameters(), client=False, max_size=None)
        ends = connect(protocol=Protocol(deflate=deflate), close_timeout=0.01)
        if waits:
            ends.connection.sender.queue([b"\x81\x01x"])
        ends.peer.send("hello")
        # On a thread of its own: an exception where no signal can come, amid the end of an
        # except clause, leaves its thread with the exception of that clause for ever.
        raised = in_thread(is_interrupted, steps, use, ends.connection).result(PATIENCE)
        for lock in (ends.connection.sender.writing, ends.connection.receiver.reading):
            assert lock.acquire(False), f"after {steps} steps"
            lock.release()
        in_thread(ends.connection.release).result(PATIENCE)
        steps += 1

from __future__ import annotations

import pytest

from flask_ws.concurrency import threads
from flask_ws.connection.outbox import JOINED_SIZE, Outbox
from flask_ws.protocol.frames import BytesLike


@pytest.fixture
def outbox() -> Outbox:
    return Outbox(threads)


def drain(outbox: Outbox) -> list[bytes]:
    """What would be given to the kernel."""
    given = []
    while outbox.frames:
        frame = outbox.peek()
        given.append(bytes(frame))
        outbox.sent(len(frame))
    return given


def test_an_outbox_is_empty_at_first(outbox: Outbox) -> None:
    assert not outbox.frames
    assert outbox.size == 0


def test_small_frames_go_out_together_and_in_order(outbox: Outbox) -> None:
    for frame in (b"one", b"two", b"three"):
        assert outbox.append(frame)
    assert outbox.size == 11
    assert drain(outbox) == [b"onetwothree"]
    assert outbox.size == 0


def test_a_large_frame_goes_out_as_it_is(outbox: Outbox) -> None:
    large = bytes(JOINED_SIZE)
    for frame in (large, b"small"):
        outbox.append(frame)
    assert outbox.peek() is large
    assert drain(outbox) == [large, b"small"]


def test_nothing_follows_the_last_frame(outbox: Outbox) -> None:
    outbox.append(b"message")
    outbox.close(b"close", lambda: None)
    assert not outbox.append(b"late")
    assert drain(outbox) == [b"messageclose"]


def test_who_finds_the_close_frame_has_heard_of_it(outbox: Outbox) -> None:
    found: list[list[BytesLike]] = []
    outbox.close(b"close", lambda: found.append(list(outbox.frames or ())))
    assert found == [[]]


def test_the_rest_of_a_frame_goes_before_the_last_one(outbox: Outbox) -> None:
    outbox.close(b"close", lambda: None)
    outbox.put_back(memoryview(b"message")[4:])
    assert drain(outbox) == [b"ageclose"]


def test_the_parts_of_a_frame_stay_together(outbox: Outbox) -> None:
    outbox.append(b"a header and ", b"its payload")
    outbox.append(b", and another")
    assert outbox.size == len(b"a header and its payload, and another")
    outbox.put_back(b"what the kernel did not take, ", b"in parts, ")
    assert b"".join(drain(outbox)) == (
        b"what the kernel did not take, in parts, a header and its payload, and another"
    )


def test_a_large_frame_is_not_copied_to_be_joined(outbox: Outbox) -> None:
    large = bytes(JOINED_SIZE)
    for frame in (b"one", b"two", large):
        outbox.append(frame)
    assert outbox.peek() == b"onetwo"
    outbox.sent(6)
    assert outbox.peek() is large


def test_what_the_kernel_did_not_take_is_next(outbox: Outbox) -> None:
    outbox.append(b"message")
    outbox.peek()
    outbox.sent(3)
    assert (outbox.size, drain(outbox)) == (4, [b"sage"])


def test_a_kernel_that_takes_nothing_changes_nothing(outbox: Outbox) -> None:
    outbox.append(b"message")
    outbox.peek()
    outbox.sent(0)
    assert (outbox.size, drain(outbox)) == (7, [b"message"])


def test_a_frame_is_found_by_identity_not_by_value(outbox: Outbox) -> None:
    mine, same = bytearray(b"pong"), bytearray(b"pong")
    outbox.append(mine)
    assert outbox.holds(mine)
    assert not outbox.holds(same)


def test_an_outbox_is_finished_when_the_close_frame_has_gone_out(outbox: Outbox) -> None:
    outbox.append(b"message")
    outbox.close(b"close", lambda: None)
    assert not outbox.is_finished
    drain(outbox)
    assert outbox.is_finished


def test_an_empty_outbox_is_not_finished_before(outbox: Outbox) -> None:
    assert not outbox.is_finished

"""What every broker that claims to keep a history does, as tests for pytest."""

from __future__ import annotations

from flask_ws.exceptions import BrokerError
from flask_ws.plugin.history import History, Position, Retention

from .base import BrokerTests
from .process import NAMES, PAYLOADS, Process, at_once, wait_until

__all__ = ["HistoryTests"]

#: More messages, and seconds, than any test takes.
PLENTY = Retention(1000, 600)
#: All that is kept comes after it: it is of no history.
NOWHERE = Position("", 0)


class HistoryTests(BrokerTests):
    """The part of :class:`.BrokerSuite` about histories; passes where there are none."""

    def test_kept_messages_are_numbered_one_by_one(self) -> None:
        """Each is at the position after the one before it, on its channel."""
        with self.process() as process:
            if not process.broker.keeps_history:
                return
            start = _read(process, "numbered").position
            for number in range(1, 4):
                position = process.broker.publish_kept("numbered", b"payload", PLENTY)
                process.broker.publish_kept("another", b"payload", PLENTY)
                assert position == (start.epoch, start.offset + number)
            assert _read(process, "numbered").position == position

    def test_a_channel_without_messages_has_a_position(self) -> None:
        """The first message comes after it."""
        with self.process() as process:
            if not process.broker.keeps_history:
                return
            start = _read(process, "empty").position
            assert _read(process, "empty", NOWHERE) == (start, [])
            position = process.broker.publish_kept("empty", b"first", PLENTY)
            assert position == (start.epoch, start.offset + 1)
            assert _read(process, "empty", start) == (position, [(position.offset, b"first")])

    def test_what_is_kept_is_read_byte_for_byte(self) -> None:
        """In order, after a position, or from the beginning."""
        with self.process() as process:
            if not process.broker.keeps_history:
                return
            positions = [process.broker.publish_kept("read", each, PLENTY) for each in PAYLOADS]
            whole = list(zip([offset for _, offset in positions], PAYLOADS, strict=True))
            assert _read(process, "read", NOWHERE) == (positions[-1], whole)
            for number, position in enumerate(positions):
                assert _read(process, "read", position) == (positions[-1], whole[number + 1 :])

    def test_histories_are_apart_whatever_their_names(self) -> None:
        """A name is compared byte for byte."""
        with self.process() as process:
            if not process.broker.keeps_history:
                return
            # Names that a broker might make of others.
            names = [*NAMES, "{plain}", "a}b", "a{}b", "a{b", "{}", "}{"]
            for name in names:
                process.broker.publish_kept(name, name.encode(), PLENTY)
            for name in names:
                read = _read(process, name, NOWHERE)
                assert [payload for _, payload in read.messages] == [name.encode()]

    def test_kept_messages_arrive_with_their_positions(self) -> None:
        """In the publisher's own process, too, in one order, also when several publish."""
        with self.listening("a") as one, self.listening("a") as other:
            if not one.broker.keeps_history:
                return

            def publish(process: Process, name: str) -> None:
                for number in range(50):
                    process.broker.publish_kept("a", f"{name} {number}".encode(), PLENTY)

            at_once(lambda: publish(one, "one"), lambda: publish(other, "other"))
            read = _read(one, "a", NOWHERE)
            for process in (one, other) if self.reaches_others else (one,):
                number = len(read.messages)
                wait_until(lambda: len(process.delivered) == number, "them to arrive")  # noqa: B023
                found = zip(process.positions, process.delivered, strict=True)
                # In memory each publisher delivers by itself.
                found_list = sorted(found) if not self.reaches_others else list(found)
                assert found_list == [
                    (Position(read.position.epoch, offset), ("a", payload))
                    for offset, payload in read.messages
                ]

    def test_messages_that_are_not_kept_arrive_without_a_position(self) -> None:
        """On the same channel, whatever their bytes."""
        with self.listening("a") as process:
            if not process.broker.keeps_history or not self.reaches_others:
                return
            with self.process() as publisher:
                for payload in PAYLOADS:
                    publisher.broker.publish("a", payload)
                publisher.broker.publish_kept("a", b"kept", PLENTY)
            process.await_payload(b"kept")
            assert process.delivered == [("a", payload) for payload in (*PAYLOADS, b"kept")]
            assert len(process.positions) == 1

    def test_no_more_messages_are_kept_than_told(self) -> None:
        """The last ones are."""
        with self.process() as process:
            if not process.broker.keeps_history:
                return
            few = Retention(3, 600)
            for number in range(5):
                position = process.broker.publish_kept("few", b"%d" % number, few)
            read = process.broker.read_history("few", few, NOWHERE)
            last = position.offset
            assert read == (position, [(last - 2, b"2"), (last - 1, b"3"), (last, b"4")])

    def test_no_message_is_kept_for_longer_than_told(self) -> None:
        """The position stays."""
        with self.process() as process:
            if not process.broker.keeps_history:
                return
            short = Retention(100, 0.05)
            position = process.broker.publish_kept("short", b"payload", short)
            wait_until(
                lambda: not process.broker.read_history("short", short, NOWHERE).messages,
                "the message to be dropped",
            )
            assert process.broker.read_history("short", short, position) == (position, [])
            again = process.broker.publish_kept("short", b"again", short)
            assert again == (position.epoch, position.offset + 1)

    def test_every_process_has_the_same_history(self) -> None:
        """Whoever has published."""
        with self.process() as one, self.process() as other:
            if not one.broker.keeps_history or not self.reaches_others:
                return
            start = _read(one, "shared").position
            first = one.broker.publish_kept("shared", b"first", PLENTY)
            second = other.broker.publish_kept("shared", b"second", PLENTY)
            whole = [(first.offset, b"first"), (second.offset, b"second")]
            for process in (one, other):
                assert _read(process, "shared", start) == (second, whole)

    def test_what_was_published_during_a_cut_is_read_after_it(self) -> None:
        """Meanwhile nothing is read or kept."""
        with self.behind_proxy() as behind:
            if behind is None:
                return
            proxy, url = behind
            with self.process(url) as process, self.process() as publisher:
                if not process.broker.keeps_history:
                    return
                start = _read(process, "cut").position
                proxy.cut()
                wait_until(lambda: _fails(process), "the broker to notice the cut")
                position = publisher.broker.publish_kept("cut", b"missed", PLENTY)
                proxy.restore()
                wait_until(lambda: not _fails(process), "the broker to be back", every=0.1)
                read = _read(process, "cut", start)
                assert read == (position, [(position.offset, b"missed")])


def _read(process: Process, channel: str, since: Position | None = None) -> History:
    return process.broker.read_history(channel, PLENTY, since)


def _fails(process: Process) -> bool:
    """Tell whether both calls fail."""
    failures = 0
    for call in (
        lambda: process.broker.publish_kept("lost", b"", PLENTY),
        lambda: _read(process, "lost"),
    ):
        try:
            call()
        except BrokerError:
            failures += 1
    return failures == 2

"""Link: a connection to PostgreSQL, on which nothing is waited for without a limit."""

from __future__ import annotations

import contextlib
import os
import select
import time
import weakref
from collections.abc import Callable, Sequence
from typing import NamedTuple

import psycopg
from psycopg import pq

from .settings import Settings

__all__ = ["Link", "LinkError", "Parameter", "RefusedError", "Statement"]

#: Seconds after which libpq is asked again: with TLS it may have what the socket does not show.
GLANCE_SECONDS = 0.25

GOOD = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK, pq.ExecStatus.EMPTY_QUERY)

#: The starts of error codes by which a server says that it can be used no longer, or not yet: the
#: connection has failed, it shuts down or starts, it is (now) a standby.
UNUSABLE = ("08", "57P", "25006")

#: The part of the time for an answer after which the server gives up by itself: what waits for a
#: lock for too long is refused, and not made later. What it begins with later is not begun.
STATEMENT_PART = 3 / 4

#: Whatever the database's defaults. No statement's plan depends on its parameters, and to plan one
#: takes as long as to run it.
SETUP = (
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE;"
    "SET plan_cache_mode TO force_generic_plan;"
    "SET statement_timeout TO {timeout:.0f};"
)
TIME = b"SELECT extract(epoch FROM clock_timestamp())"

Parameter = str | bytes | int | float | None


class LinkError(OSError):
    """The connection cannot be made, or is lost."""


class RefusedError(Exception):
    """The server has answered with an error, and the connection is fine.

    :param code: the error's code, SQLSTATE.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Statement(NamedTuple):
    """A statement that each connection prepares once."""

    name: bytes
    text: bytes


class Link:
    """A connection; one thread at a time may use it.

    After any error but :class:`RefusedError` it is closed.

    :param settings: how to reach the server.
    :raises LinkError: it cannot be reached.
    :raises OSError: its name is not known.
    """

    def __init__(self, settings: Settings) -> None:
        self._answer = settings.answer_timeout
        self._prepared: set[bytes] = set()
        #: Where the tables are, as far as it is known; for those who use the connection.
        self.place: str | None = None
        errors: list[str] = []
        for make_conninfo in settings.conninfos():
            try:
                self._connect(make_conninfo, settings.connect_timeout)
                break
            except LinkError as error:
                errors.append(str(error))
        else:
            raise LinkError("; ".join(errors) or "no address")
        try:
            self._connection.nonblocking = 1
            setup = SETUP.format(timeout=1000 * STATEMENT_PART * self._answer).encode()
            self.ask_for_time(setup)
        except RefusedError as error:
            self.close()
            raise LinkError(str(error)) from error

    def _connect(self, make_conninfo: Callable[[], bytes], timeout: float) -> None:
        deadline = time.monotonic() + timeout
        # The string is no variable here: it has the password.
        connection = pq.PGconn.connect_start(make_conninfo())
        try:
            state = pq.PollingStatus.WRITING
            while state != pq.PollingStatus.OK:
                if connection.status == pq.ConnStatus.BAD or state == pq.PollingStatus.FAILED:
                    raise LinkError(_one_line(connection.error_message))
                is_writing = state == pq.PollingStatus.WRITING
                left = deadline - time.monotonic()
                if left <= 0:
                    raise LinkError(f"no connection within {timeout:g} s")
                _wait(connection.socket, left, writing=is_writing, reading=not is_writing)
                state = pq.PollingStatus(connection.connect_poll())
        except psycopg.Error as error:
            connection.finish()
            raise LinkError(_one_line(str(error).encode())) from None
        except BaseException:
            connection.finish()
            raise
        self._connection = connection
        _links.add(self)

    @property
    def fd(self) -> int:
        """The file descriptor of its socket."""
        return self._connection.socket

    @property
    def is_open(self) -> bool:
        """Whether it may be used."""
        return self._connection.status == pq.ConnStatus.OK

    def close(self) -> None:
        """Close it; it may be closed."""
        self._connection.finish()

    def leave_to_parent(self) -> None:
        """Close the descriptor, in a child process: the server is told nothing."""
        _links.discard(self)
        with contextlib.suppress(psycopg.Error, OSError):
            os.close(self._connection.socket)

    def is_usable(self) -> bool:
        """Tell whether the server has not closed it, as far as has arrived."""
        try:
            # First comes the reason, and then the end.
            while self.is_readable():
                self.receive()
        except OSError:
            self.close()
        return self.is_open

    # Asking, and waiting for the answer

    def run(self, text: bytes) -> pq.abc.PGresult:
        """Run statements without parameters, in one transaction.

        :return: the last one's rows, of values as text.
        :raises RefusedError: the server has refused it.
        :raises LinkError: the connection is lost.
        """
        return self._do(lambda: self._connection.send_query(text))

    def ask_for_time(self, before: bytes = b"") -> None:
        """Ask for the time by the server's clock, and run statements before that.

        :raises RefusedError: the server has refused it.
        :raises LinkError: the connection is lost.
        """
        now = self.run(before + TIME).get_value(0, 0) or b"0"
        self._ahead = float(now) - time.monotonic()

    def make_deadline(self) -> float:
        """Return until when something may be begun, by the server's clock, at the latest.

        Later nobody waits for the answer any more.
        """
        return time.monotonic() + self._ahead + STATEMENT_PART * self._answer

    def ask(self, statement: Statement, *parameters: Parameter) -> pq.abc.PGresult:
        """Run a statement, in a transaction of its own.

        :param statement: the statement.
        :param parameters: bytes for those of the type ``bytea``.
        :return: rows of values in their binary form.
        :raises RefusedError: the server has refused it.
        :raises LinkError: the connection is lost.
        """
        self._prepare(statement)
        connection = self._connection
        values = [
            value if isinstance(value, bytes) or value is None else str(value).encode()
            for value in parameters
        ]
        formats = [int(isinstance(value, bytes)) for value in parameters]
        return self._do(lambda: connection.send_query_prepared(statement.name, values, formats, 1))

    def ask_together(
        self, *questions: tuple[Statement, Sequence[Parameter | list[bytes]]]
    ) -> pq.abc.PGresult:
        """Run statements in one transaction, without a pause: nobody can be stopped in between.

        Each sees what others have committed before it begins, and not before the first does.

        :param questions: the statements, which have names, and their parameters.
        :return: the last one's rows, of values as text.
        :raises RefusedError: the server has refused it.
        :raises LinkError: the connection is lost.
        """
        texts = []
        for statement, parameters in questions:
            self._prepare(statement)
            values = ", ".join(map(_write, parameters))
            texts.append(f"EXECUTE {statement.name.decode()} ({values})")
        return self.run(";".join(texts).encode())

    def _prepare(self, statement: Statement) -> None:
        if statement.name not in self._prepared:
            self._do(lambda: self._connection.send_prepare(statement.name, statement.text))
            if statement.name:
                self._prepared.add(statement.name)

    def _do(self, send: Callable[[], object]) -> pq.abc.PGresult:
        deadline = time.monotonic() + self._answer
        try:
            send()
            self._flush(deadline)
            results = []
            while True:
                while self._connection.is_busy():
                    self._wait(deadline)
                    self._connection.consume_input()
                result = self._connection.get_result()
                if result is None:
                    break
                results.append(result)
            return self.check(results)
        except RefusedError:
            raise
        except psycopg.Error as error:
            self.close()
            raise LinkError(_one_line(str(error).encode())) from None
        except BaseException:
            # Such as a greenlet's timeout: the answer would come as that to the next question.
            self.close()
            raise

    def _flush(self, deadline: float) -> None:
        while self._connection.flush():
            self._wait(deadline, writing=True)
            # It may not read before it has sent.
            self._connection.consume_input()

    def _wait(self, deadline: float, *, writing: bool = False) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise LinkError(f"no answer for {self._answer:g} s")
        _wait(self._connection.socket, min(left, GLANCE_SECONDS), writing=writing)

    def check(self, results: list[pq.abc.PGresult]) -> pq.abc.PGresult:
        """Return the last result.

        :raises RefusedError: one of them is an error.
        :raises LinkError: it means that the server cannot be used.
        """
        for result in results:
            if result.status in GOOD:
                continue
            code = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
            primary = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY)
            message = _one_line(primary or result.error_message)
            if not self.is_open or code.startswith(UNUSABLE):
                raise LinkError(message)
            raise RefusedError(code, message)
        return results[-1]

    # Listening, which does not wait

    def is_readable(self) -> bool:
        """Tell whether something has arrived, or the connection is lost."""
        return _wait(self._connection.socket, 0)

    def receive(self) -> None:
        """Take what has arrived.

        :raises LinkError: the connection is lost.
        """
        try:
            self._connection.consume_input()
        except psycopg.Error as error:
            raise LinkError(_one_line(str(error).encode())) from None

    def send(self, text: bytes) -> None:
        """Send statements, whose results are to be taken by :meth:`take_result`.

        :raises LinkError: the connection is lost.
        """
        try:
            self._connection.send_query(text)
            self._flush(time.monotonic() + self._answer)
        except psycopg.Error as error:
            raise LinkError(_one_line(str(error).encode())) from None

    def has_result(self) -> bool:
        """Tell whether :meth:`take_result` would not wait."""
        return not self._connection.is_busy()

    def take_result(self) -> pq.abc.PGresult | None:
        """Take a result of what was sent; ``None`` when there are no more."""
        return self._connection.get_result()

    def await_notification(self, deadline: float) -> tuple[bytes, bytes] | None:
        """Wait for a notification; ``None`` if it has not come in time.

        :raises LinkError: the connection is lost.
        """
        while (found := self.take_notification()) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            _wait(self._connection.socket, min(left, GLANCE_SECONDS))
            self.receive()
        return found

    def take_notification(self) -> tuple[bytes, bytes] | None:
        """Take a notification that has arrived: its channel and payload."""
        found = self._connection.notifies()
        return None if found is None else (found.relname, found.extra)


def _wait(fd: int, timeout: float, *, writing: bool = False, reading: bool = True) -> bool:
    """Wait until a socket can be read from, or written to; ``False`` if it cannot."""
    # Looked up at each call: gevent replaces select.poll, eventlet and Windows have none.
    poll = getattr(select, "poll", None)
    if poll is None:
        found = select.select([fd] if reading else [], [fd] if writing else [], [fd], timeout)
        return any(found)
    poller = poll()
    poller.register(fd, select.POLLIN * reading | select.POLLOUT * writing)
    return bool(poller.poll(timeout * 1000))


def _write(value: Parameter | list[bytes]) -> str:
    """Write a value so that nothing in it can be read as anything else."""
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"decode('{value.hex()}', 'hex')"
    if isinstance(value, str):
        return f"convert_from({_write(value.encode())}, 'UTF8')"
    if isinstance(value, list):
        return f"ARRAY[{', '.join(map(_write, value))}]::bytea[]"
    return str(value)


def _one_line(message: bytes) -> str:
    return " ".join(message.decode(errors="replace").split()) or "the connection was lost"


_links: weakref.WeakSet[Link] = weakref.WeakSet()


def _start_anew() -> None:
    for link in list(_links):
        link.leave_to_parent()
    _links.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)

"""Line editors: what is typed stays whole while messages arrive."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator

__all__ = ["Editor", "find_editor"]

PROMPT = "> "


class Editor:
    """Reads lines from the terminal in the main thread, while another thread shows messages."""

    def lines(self) -> Iterator[str]:
        """Read lines until the end of the input.

        :raises KeyboardInterrupt: Ctrl-C was pressed.
        """
        raise NotImplementedError

    def show(self, write: Callable[[], object]) -> None:
        """Write something above the line that is being typed; any thread may.

        :param write: writes it to the standard output.
        """
        raise NotImplementedError

    def end(self) -> None:
        """End the input, also in the middle of a line; any thread may."""
        raise NotImplementedError


class PromptEditor(Editor):
    """The editor of prompt_toolkit, which the extra ``cli`` brings.

    :raises ImportError: it is not installed.
    """

    def __init__(self) -> None:
        from prompt_toolkit import PromptSession

        self._session: PromptSession[str] = PromptSession()
        self._ended = False

    def lines(self) -> Iterator[str]:
        """Read lines."""
        from prompt_toolkit.patch_stdout import patch_stdout

        with patch_stdout(raw=True), contextlib.suppress(EOFError):
            while True:
                yield self._session.prompt(PROMPT, pre_run=self._stop)

    def show(self, write: Callable[[], object]) -> None:
        """Write something; the standard output is the editor's."""
        write()

    def end(self) -> None:
        """End the input."""
        self._ended = True
        app = self._session.app
        if app.is_running and app.loop is not None:
            with contextlib.suppress(RuntimeError):
                # Its loop may have been closed since.
                app.loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        app = self._session.app
        if self._ended and app.future is not None and not app.future.done():
            app.exit(exception=EOFError())


class ReadlineEditor(Editor):
    """The editor of the standard library, where its Python has one.

    :raises ImportError: it has none.
    """

    def __init__(self) -> None:
        import readline

        self._readline = readline
        self._ended = False
        # Whether a line is being typed; and set while none is read.
        self._typing = False
        self._idle = threading.Event()
        self._idle.set()
        # Held while the prompt is written: nothing may be shown in the middle of it.
        self._writing = threading.Lock()
        self._prompting = False
        # Another library of the same interface, macOS's, does not call the hook.
        self._has_hook = "libedit" not in (readline.__doc__ or "")
        if self._has_hook:
            readline.set_pre_input_hook(self._begin)

    def lines(self) -> Iterator[str]:
        """Read lines."""
        while True:
            try:
                self._idle.clear()
                if self._ended:
                    return
                self._writing.acquire()
                self._prompting = True
                if not self._has_hook:
                    self._begin()
                line = input(PROMPT)
            except (EOFError, KeyboardInterrupt) as error:
                # Ends the line that was begun.
                sys.stdout.write("\n")
                if isinstance(error, EOFError) or self._ended:
                    return
                raise
            finally:
                self._idle.set()
                self._begin()
                self._typing = False
            yield line

    def _begin(self) -> None:
        """Let messages be shown: the prompt has been written."""
        if self._prompting:
            self._prompting = False
            self._typing = True
            self._writing.release()

    def show(self, write: Callable[[], object]) -> None:
        """Write something over the line that is being typed, and that line again below it."""
        with self._writing:
            if not self._typing:
                write()
                return
            typed = PROMPT + self._readline.get_line_buffer()
            rows = max(0, len(typed) - 1) // max(1, shutil.get_terminal_size().columns)
            sys.stdout.write((f"\x1b[{rows}A" if rows else "") + "\r\x1b[J")
            write()
            sys.stdout.write(typed)
            sys.stdout.flush()

    def end(self) -> None:
        """End the input: only a signal wakes a thread that waits for a key."""
        self._ended = True
        # One that comes just before the wait begins is not noticed.
        while not self._idle.is_set():
            os.kill(os.getpid(), signal.SIGINT)
            self._idle.wait(0.1)


def find_editor() -> Editor | None:
    """Return the best line editor that there is; ``None`` where nobody types, or there is none."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return None
    for make in (PromptEditor, ReadlineEditor):
        with contextlib.suppress(ImportError):
            return make()
    return None

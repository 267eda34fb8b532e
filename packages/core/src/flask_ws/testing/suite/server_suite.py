"""All subjects in one class."""

from __future__ import annotations

from .busy import Busy
from .channels import Channels
from .claims import Claims
from .closing import Closing
from .contract import Contract
from .errors import Errors
from .event_views import EventViews
from .faults import Faults
from .handshake import Handshake
from .keepalive import Keepalive
from .leaks import Leaks
from .limits import Limits
from .logging import Logging
from .messages import Messages
from .origin import Origin
from .stopping import Stopping
from .threads import Threads

__all__ = ["ServerSuite"]


class ServerSuite(
    Contract,
    Claims,
    Messages,
    Handshake,
    Closing,
    Errors,
    Logging,
    Origin,
    Limits,
    Keepalive,
    Busy,
    Threads,
    Faults,
    EventViews,
    Channels,
    Leaks,
    Stopping,
):
    """Every live test that flask-ws's own plugins pass, for the author of another.

    After ``pip install "flask-ws[testing]"``, write a test module with a subclass whose name begins
    with ``Test``::

        from flask_ws.testing import Capabilities, ServerSuite, Setup

        PLAIN = Setup(
            name="plain",
            command="example-server --listen {bind} {app}",
            plugin="flask_ws_example",
            capabilities=Capabilities(tls=False),
        )

        class TestExample(ServerSuite):
            setups = (
                PLAIN,
                replace(PLAIN, name="unix", unix=True),
            )

    Each of the :class:`setups <Setup>` is a command line by which users start the server. The
    suite starts it once for all tests, and for some tests a second one. ``{app}`` is the import
    string of the app under test, ``flask_ws.testing.suite.live:app``. Where a server has no
    command, the command runs a script that imports the app from there: ``python serve.py {port}``.

    What the server cannot do is stated in the setup's :class:`Capabilities`. Tests that need it
    are not collected; :meth:`left_out` lists them. The test
    ``test_there_is_a_setup_for_each_capability`` fails if TLS or unix sockets are neither covered
    nor declared as unsupported.

    The plugin under test must be installed (editable or not): the servers find it by its entry
    point.

    To be set in the subclass:

    ``setups``
        The ways to start the server.
    ``folder``
        The working directory of the commands; by default that of the module of the subclass.
    ``leaves_out``
        Tests that are not run, each with the reason: what the server does wrong, and the plugin
        cannot change. A key is the test's name, or that and a setup's in brackets, such as
        ``"test_quiet_peer_is_pinged[tls]"``. An unknown test is a :exc:`TypeError`.

    Fixtures that the subclass may override, with ``@pytest.fixture(scope="session")`` above
    ``@classmethod``:

    ``bin_folder``
        The folder in which the program of a command is looked for first; by default that of the
        running Python.
    ``start_server``
        A function that takes an ``Order`` (``flask_ws.testing.suite.process``), with the app, the
        address, the certificate and the environment, and returns the server's
        :class:`subprocess.Popen`, in a session of its own and with its output in the order's log.
        For servers that need more than a command: a configuration file, for example.

    Further tests of the subclass may take the fixtures of the suite: ``setup``, ``server``,
    ``launch`` and ``peers``.

    The suite runs on Linux and other systems with POSIX signals. A server's output must be its
    standard output and standard error: that is where the tests find access lines, tracebacks and
    what the app records.

    Clients wait for bytes for ``FLASK_WS_SUITE_PATIENCE`` seconds, a variable of the environment,
    by default 10: with less a test fails sooner, and a busy machine needs more.

    To run one subject: ``pytest -k Closing``. The subjects are ``Contract``, ``Claims``,
    ``Messages``, ``Handshake``, ``Closing``, ``Errors``, ``Logging``, ``Origin``, ``Limits``,
    ``Keepalive``, ``Busy``, ``Threads``, ``Faults``, ``EventViews``, ``Channels``, ``Leaks`` and
    ``Stopping``.
    """

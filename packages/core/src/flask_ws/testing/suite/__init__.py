"""The live tests that every server plugin passes, ours and those of third parties.

:class:`flask_ws.testing.ServerSuite` joins them. The rooms: ``setups`` (what is tested, and what it
can do), ``wire`` (frames and requests), ``raw`` and ``split_tls`` (clients on a bare socket),
``process`` (starts a server), ``server`` (one that was started), ``live`` (the app that is served),
``base`` (the fixtures), and one for each subject.

Importing this package needs neither pytest nor anything else that only tests need: servers import
the app from it.
"""

import pkgutil
import sys

if "pytest" in sys.modules:
    # Before those modules are imported: failing assertions then show their values.
    sys.modules["pytest"].register_assert_rewrite(
        *(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__))
    )

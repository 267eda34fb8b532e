"""python -m benchmarks.apps.serve_eventlet MODULE:APP PORT"""

import eventlet

eventlet.monkey_patch()

import importlib  # noqa: E402
import sys  # noqa: E402

from eventlet import wsgi  # noqa: E402

module, _, name = sys.argv[1].partition(":")
app = getattr(importlib.import_module(module), name)
listener = eventlet.listen(("127.0.0.1", int(sys.argv[2])), backlog=2048)
wsgi.server(listener, app, log_output=False, max_size=20000)

"""python -m benchmarks.apps.serve_gevent MODULE:APP PORT"""

from gevent import monkey

monkey.patch_all()

import importlib  # noqa: E402
import sys  # noqa: E402

from gevent.pywsgi import WSGIServer  # noqa: E402

module, _, name = sys.argv[1].partition(":")
app = getattr(importlib.import_module(module), name)
WSGIServer(("127.0.0.1", int(sys.argv[2])), app, backlog=2048, log=None).serve_forever()

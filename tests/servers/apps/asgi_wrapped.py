"""The app under test as one of ASGI."""

from __future__ import annotations

import os
from importlib import import_module

from flask_ws_asgi import ASGI

module, _, name = os.environ["LIVE_APP"].partition(":")
asgi = ASGI(getattr(import_module(module), name))

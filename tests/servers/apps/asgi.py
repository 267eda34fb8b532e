"""Runs a server of ASGI: its name, the app under test, and the arguments for the server."""

from __future__ import annotations

import os
import sys
from importlib import import_module

server, os.environ["LIVE_APP"], *arguments = sys.argv[1:]
sys.argv = [server, *arguments]
if server == "uvicorn":
    import_module("uvicorn").main()

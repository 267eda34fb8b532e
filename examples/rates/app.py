"""Exchange rates from a slow upstream: a thousand clients wait at once, and hardly a thread does.

The upstream takes a second for an answer, as a payment service, a language model or somebody else's
API may. An async handler waits for it on asyncio, beside all others, whatever server runs the app.
Start the upstream first: python examples/rates/upstream.py
"""

from __future__ import annotations

import asyncio
import os
import threading

from flask import Flask, render_template
from flask_ws import AsyncWebSocket, Sock

#: Where the upstream listens, and the seconds that it may take.
HOST, PORT = "127.0.0.1", int(os.environ.get("UPSTREAM_PORT", "5001"))
PATIENCE = 10.0

app = Flask(__name__)
sock = Sock(app)

#: Clients that wait for an answer now. All handlers run on one thread, so there is no lock.
waiting: set[AsyncWebSocket] = set()


@app.get("/")
def index() -> str:
    """Show the page."""
    return render_template("rates.html")


@sock.route("/rates")
async def rates(ws: AsyncWebSocket) -> None:
    """Answer with the rate of each currency that the client names."""
    async for currency in ws:
        if not isinstance(currency, str) or not currency.isalpha() or len(currency) != 3:
            await ws.close(1008, "Name a currency by three letters.")
            return
        waiting.add(ws)
        try:
            rate = await asyncio.wait_for(ask_upstream(currency.upper()), PATIENCE)
        except (OSError, asyncio.TimeoutError):
            rate = None
        finally:
            number = len(waiting)
            waiting.discard(ws)
        await ws.send_json(
            {
                "currency": currency.upper(),
                "rate": rate,
                "waiting": number,
                "threads": threading.active_count(),
            }
        )


async def ask_upstream(currency: str) -> str | None:
    """Ask for a rate; ``None`` if the upstream does not know the currency.

    :raises OSError: it cannot be reached.
    """
    reader, writer = await asyncio.open_connection(HOST, PORT)
    try:
        writer.write(f"{currency}\n".encode())
        return (await reader.readline()).decode().strip() or None
    finally:
        writer.close()

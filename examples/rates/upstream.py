"""A slow upstream: it is told a currency in a line, and takes a second to answer with its rate."""

from __future__ import annotations

import asyncio
import os

PORT = int(os.environ.get("UPSTREAM_PORT", "5001"))
SECONDS = 1.0
RATES = {"USD": "1.0842", "GBP": "0.8571", "JPY": "169.21", "CHF": "0.9734", "SEK": "11.463"}


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request."""
    currency = (await reader.readline()).decode(errors="replace").strip()
    await asyncio.sleep(SECONDS)
    writer.write(f"{RATES.get(currency, '')}\n".encode())
    writer.close()


async def main() -> None:
    """Serve until Ctrl-C."""
    # A thousand may ask within the same moment.
    server = await asyncio.start_server(answer, "127.0.0.1", PORT, backlog=1000)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())

"""One connection, one message at a time: how long until it is back."""

from __future__ import annotations

import time

from benchmarks.loads import Result, Target, percentile
from benchmarks.machine import Meter
from benchmarks.wire import BINARY, client_frame, connect, server_frame


def run(target: Target, *, size: int = 32, seconds: float = 2.0, warm_up: float = 0.3) -> Result:
    connection = connect(target.port, target.path)
    payloads = [bytes([number]) * size for number in (1, 2)]
    pairs = [(client_frame(BINARY, p), server_frame(BINARY, p)) for p in payloads]
    clock = time.perf_counter

    def drive(until: float) -> list[float]:
        times = []
        now = clock()
        while now < until:
            for request, reply in pairs:
                start = clock()
                connection.sock.sendall(request)
                connection.expect(reply)
                now = clock()
                times.append(now - start)
        return times

    drive(clock() + warm_up)
    meter = Meter(target.pid)
    times = sorted(drive(clock() + seconds))
    usage = meter.stop()
    connection.close()
    return {
        "value": percentile(times, 50) * 1e6,
        "p50": percentile(times, 50),
        "p99": percentile(times, 99),
        **usage.as_result(),
    }

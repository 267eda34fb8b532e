from __future__ import annotations

import threading

from flask_ws.connection.cork import Cork, corks


class Holder:
    def __init__(self, cork: Cork | None = None) -> None:
        self.sent = 0
        self.cork = cork

    def send_held(self) -> None:
        self.sent += 1
        if self.cork is not None:
            self.cork.release()


def test_a_connection_is_told_once_however_often_it_held_back() -> None:
    cork, holder = Cork(), Holder()
    for _ in range(3):
        cork.hold(holder)
    cork.release()
    assert holder.sent == 1


def test_what_was_released_is_not_held_any_more() -> None:
    cork, holder = Cork(), Holder()
    cork.hold(holder)
    cork.release()
    cork.release()
    assert holder.sent == 1


def test_two_may_release_at_once() -> None:
    cork = Cork()
    holders = [Holder(cork) for _ in range(5)]
    for holder in holders:
        cork.hold(holder)
    cork.release()
    assert [holder.sent for holder in holders] == [1] * 5


def test_each_thread_has_a_cork_of_its_own() -> None:
    seen: list[Cork | None] = []
    corks.current = Cork()
    try:
        thread = threading.Thread(target=lambda: seen.append(corks.current))
        thread.start()
        thread.join()
    finally:
        corks.current = None
    assert seen == [None]

"""Which thread of a reactor serves which socket."""

from __future__ import annotations

from flask_ws.loop.claims import Claims


class Masks:
    """A poller that keeps count of what it leaves out."""

    def __init__(self) -> None:
        self.masked: set[int] = set()

    def mask(self, fd: int) -> None:
        self.masked.add(fd)

    def unmask(self, fd: int) -> None:
        self.masked.remove(fd)


def test_a_masked_socket_is_unmasked_when_it_is_let_go() -> None:
    """A second thread found it claimed; a third one does, too, and then claims it after all."""
    masks = Masks()
    claims = Claims(masks)  # type: ignore[arg-type]
    claims.claimed = {5: "first"}
    assert not claims.claim(5, "second")
    assert masks.masked == {5}
    # The first gives it up, and now waits for the lock.
    claims.claimed = {}
    assert claims.claim(5, "third")
    claims.let_go(5)
    assert masks.masked == set()


def test_a_claim_on_a_number_that_is_used_again_is_not_withdrawn() -> None:
    claims = Claims(Masks())  # type: ignore[arg-type]
    claims.take(5, "new")
    claims.withdraw(5, "old")
    assert claims.claimed == {5: "new"}
    claims.withdraw(5, "new")
    assert claims.claimed == {}

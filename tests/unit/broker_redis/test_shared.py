from __future__ import annotations

import pytest

from flask_ws_redis.shared import SharedClient


class Client:
    """One of redis-py's, as far as it matters here."""

    def __init__(self) -> None:
        self.disconnected = 0

    def disconnect(self) -> None:
        self.disconnected += 1


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def shared(client: Client) -> SharedClient:
    return SharedClient(client, client.disconnect)


def test_one_in_use_is_left_to_its_last_user(client: Client, shared: SharedClient) -> None:
    with shared as one, shared as other:
        assert one is other is client
        shared.give_up()
        assert client.disconnected == 0
    assert client.disconnected == 1


def test_one_that_nobody_uses_is_disconnected_at_once(client: Client, shared: SharedClient) -> None:
    with shared:
        pass
    assert client.disconnected == 0
    shared.give_up()
    assert client.disconnected == 1


def test_who_comes_late_leaves_nothing_open(client: Client, shared: SharedClient) -> None:
    """It makes a new connection, which is closed as well."""
    shared.give_up()
    with shared:
        assert client.disconnected == 1
    assert client.disconnected == 2


def test_a_user_that_fails_does_not_keep_it(client: Client, shared: SharedClient) -> None:
    shared.give_up()
    with pytest.raises(ZeroDivisionError), shared:
        raise ZeroDivisionError
    assert client.disconnected == 2

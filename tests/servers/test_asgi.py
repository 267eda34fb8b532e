"""The plugin for ASGI servers passes the suite, as far as these servers can."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from tests.support.setups import ASGI_SETUPS, EVERYWHERE

from flask_ws.testing import ServerSuite

from .ours import OurServers

#: What is left out, by why.
REASONS: Mapping[str, tuple[str, ...]] = {
    "the server sends its own pings, at its own time": (
        "test_08_lost_connection_is_1006",
        "test_another_thread_pings_while_the_handler_receives",
        "test_blocked_send_raises_1006_when_pings_are_not_answered",
        "test_busy_handlers_connection_is_kept_alive",
        "test_connections_given_up_are_closed",
        "test_peer_that_answers_pings_is_kept",
        "test_peer_that_stops_reading_is_no_business_of_others",
        "test_ping_of_the_handler_has_its_payload",
        "test_ping_without_an_answer_is_1006",
        "test_quiet_peer_is_pinged",
        "test_receive_raises_1006_when_pings_are_not_answered",
        "test_views_peer_that_answers_pings_is_kept",
    ),
    "the server answers a close frame, and what breaks the protocol, by itself": (
        "test_messages_before_the_close_are_answered_first",
        "test_protocol_violation_is_a_warning",
        "test_violation_has_its_code",
    ),
    "the server refuses such a handshake by itself": (
        "test_12_wrong_handshake_is_refused",
        "test_connection_lives_on_after_a_refusal",
        "test_nothing_is_taken_for_a_handshake_that_is_refused",
        "test_refusal_is_one_warning",
        "test_slow_request_after_a_handshake_that_is_refused_is_answered",
    ),
    "the server drops what comes with a handshake before it is answered": (
        "test_20_frames_in_the_segment_of_the_handshake_are_answered",
        "test_frames_in_the_segment_of_the_handshake_are_served",
        "test_half_a_frame_in_the_segment_of_the_handshake_is_kept",
        "test_much_data_in_the_segment_of_the_handshake_is_kept",
        "test_request_in_the_segment_of_the_handshake_never_reaches_the_app",
    ),
    **(
        {}
        if EVERYWHERE
        else {"the others run where all is run": ("test_there_is_a_setup_for_each_capability",)}
    ),
}


class TestASGI(OurServers, ServerSuite):
    """The same app, unchanged."""

    setups = ASGI_SETUPS
    leaves_out: ClassVar[Mapping[str, str]] = {
        name: reason for reason, names in REASONS.items() for name in names
    }

"""RFC 6455 and RFC 7692 as bytes in, events out. Uses no socket, no Flask and no clock.

- ``frames``: how a frame's header is written.
- ``shared``: messages that are framed once for many connections.
- ``masking``: the masking of payloads, in C where websockets' speedups are installed.
- ``deflate``: permessage-deflate: its negotiation, compressing, and inflating with a limit.
- ``close_codes``: the codes of close frames.
- ``events``: what is reported besides messages: pings, pongs, closes, violations.
- ``control``: reads pings, pongs and close frames.
- ``partial``: messages of which a part has arrived.
- ``slow_lane``: wsproto, the authority on all frames that the fast lane does not read.
- ``incoming``: reads what arrives on one connection; a fast lane for valid frames.
- ``protocol``: both directions of one connection.
- ``messages``: the same where a server frames messages itself, and what it has to offer for that.
"""

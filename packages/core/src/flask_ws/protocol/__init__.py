"""RFC 6455 and RFC 7692 as bytes in, events out. Knows no socket, no Flask and no clock.

- ``frames``: how a frame's header is written.
- ``shared``: messages that are framed once for many connections.
- ``masking``: the masking of payloads, in C where websockets' speedups are installed.
- ``deflate``: permessage-deflate: its negotiation, compressing, and inflating with a limit.
- ``events``: what a connection is told: pings, closes, violations.
- ``control``: what pings, pongs and close frames say.
- ``partial``: messages of which a part has arrived.
- ``slow_lane``: wsproto, the authority on what arrives.
- ``incoming``: what arrives on one connection: a fast lane for all that is right.
- ``protocol``: both directions of one connection.
"""

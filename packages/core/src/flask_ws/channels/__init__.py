"""Messages for many connections, in this process and, by a broker, in others.

- ``channels``: publishing, and what the broker brings.
- ``subscriptions``: who is subscribed to what, and what the broker is told of it.
- ``subscribers``: sending those of one channel a message.
- ``settings``: the broker's URL, and what a channel may be called.
- ``spreader``: sending many connections what waits for them.
"""

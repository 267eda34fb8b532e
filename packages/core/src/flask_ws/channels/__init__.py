"""Messages for many connections, in this process and, through a broker, in others.

- ``channels``: publishing, and passing on what the broker brings.
- ``subscriptions``: who is subscribed to what, and what the broker is told of it.
- ``subscribers``: sending a message to those of one channel.
- ``settings``: the broker's URL, and what a channel may be called.
- ``spreader``: flushing the outboxes of many connections.
"""

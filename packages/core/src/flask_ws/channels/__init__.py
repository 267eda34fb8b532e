"""Messages for many connections, in this process and, by a broker, in others.

- ``channels``: who is subscribed to what, publishing, and what the broker brings.
- ``spreader``: sending many connections what waits for them.
"""

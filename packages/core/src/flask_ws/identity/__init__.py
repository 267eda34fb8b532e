"""Who a connection belongs to, and how long it may stay.

- ``identities``: what an app may call a user.
- ``rules``: what an app has declared about its users.
- ``secrets``: text that is not shown.
- ``tickets``: signed text that lets somebody in, once.
- ``deadline``: the end of a connection at a time of the clock.
- ``recheck``: asking now and then whether connections may stay.

What a user's connections are sent goes through a channel of their own, ``channels`` says which.
"""

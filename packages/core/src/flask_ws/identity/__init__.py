"""Who a connection belongs to, and how long it may stay.

- ``identities``: what an app may call a user.
- ``rules``: what an app has declared about its users.
- ``secrets``: credentials, which are not shown.
- ``tickets``: signed credentials that can be used once.
- ``deadline``: the end of a connection at a time of the clock.
- ``recheck``: asking now and then whether connections may stay.

Messages to a user go through a channel to which all connections of the user are subscribed.
"""

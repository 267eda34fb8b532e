"""Messages for many connections, in this process and, through a broker, in others.

- ``channels``: what an app can do with them.
- ``publishing``: by the broker, or without one, with history or without.
- ``receiving``: passing on what the broker brings.
- ``opening``: the broker, from the first publication or subscription to the end of the process.
- ``subscriptions``: who is subscribed to what, and what the broker is told of it.
- ``subscribers``: those of one channel, and sending them its messages in one order.
- ``groups``: sending a message to those that can be used from one thread.
- ``overflow``: sending to those who read too slowly for all of them.
- ``history``, ``items``, ``source``: the same for a channel with history.
- ``sequence``: its messages in the order of positions, once, or with a gap.
- ``starts``: where those begin who subscribe to it.
- ``joins``: those who have subscribed to it and are not as far as the others.
- ``attendance``, ``watchers``: who is there, and telling those who want to know.
- ``in_memory``: publishing on a channel with history where there are no other processes.
- ``census``: counting those who are subscribed to a channel, in all processes.
- ``healing``: reading histories whose messages may not all have arrived.
- ``publication``: the format of what goes to other processes.
- ``results``: what publishing and subscribing tell the app.
- ``wrapping``: what is sent to those who must be told the channel.
- ``listening``: a program's subscription.
- ``hooks``: functions of the app's that are called for what is published.
- ``settings``: the broker's URL, and what a channel may be called.
- ``spreader``: flushing the outboxes of many connections.
"""

"""Who is there: the members of channels.

A connection that has joined a channel is a member of it; the members with one key are one person.

- ``entries``: what is said of a member, checked.
- ``roster``: the members of one channel by keys, and what others are told of a change.
- ``membership``: one member, as its own process has it.
- ``keeper``: the members of this process, and what tells the broker of them.
- ``lease``: on what they depend there, and whether those of other processes still hold theirs.

Who watches a channel's members is in ``channels``, ``watchers`` says how.
"""

"""The live tests that every server plugin passes, ours like anybody's.

:class:`flask_ws.testing.ServerSuite` joins them. The rooms: ``setups`` (what is tested, and what it
can do), ``raw`` and ``split_tls`` (clients on a bare socket), ``process`` (the server and its log),
``live`` (the app that is served), ``base`` (the fixtures), and one for each subject.

Importing this package needs neither pytest nor anything else that only tests need: the app is
imported by the servers.
"""

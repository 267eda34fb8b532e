"""The plugin passes flask-ws's suite for servers."""

from __future__ import annotations

from dataclasses import replace

from flask_ws.testing import Capabilities, ServerSuite, Setup

OPTIONS = (
    "--master --die-on-term --module {app} --need-app"
    """ --log-format '%(addr) "%(method) %(uri) %(proto)" %(status)'"""
)
PLAIN = Setup(
    name="uwsgi",
    command=f"uwsgi --http-socket {{bind}} --threads 4 {OPTIONS}",
    plugin="flask_ws_uwsgi",
    server="uwsgi",
    capabilities=Capabilities(tls=False, keep_alive=False, few_workers=True),
)


class TestUWSGI(ServerSuite):
    setups = (
        PLAIN,
        replace(
            PLAIN,
            name="http11",
            command=f"uwsgi --http11-socket {{bind}} --processes 2 {OPTIONS}",
            capabilities=replace(PLAIN.capabilities, keep_alive=True, processes=2),
            main=False,
        ),
        replace(
            PLAIN,
            name="unix",
            command=f"uwsgi --http-socket {{socket}} --threads 4 {OPTIONS}",
            unix=True,
            main=False,
        ),
    )

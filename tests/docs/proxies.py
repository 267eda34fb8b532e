"""Proxies that run the configuration of a page, on a port of ours."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import trustme
from tests.support.server import find_port, wait_until
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from flask_ws.testing.suite.shared_tls import SharedTLSSocket

NAME = "example.com"
#: Where clients come from, so that it differs from where the proxy does.
CLIENT = "127.0.0.2"
START_SECONDS = 30
#: There is nothing to wait for, though Apache may when it has just begun.
STOP_SECONDS = 2

NGINX = """
daemon off;
pid {folder}/pid;
{user}
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {config}
}}
"""

APACHE = """
ServerRoot /usr/lib/apache2
ServerName {name}
PidFile {folder}/pid
DefaultRuntimeDir {folder}
ErrorLog /dev/stderr
User nobody
Group nogroup
StartServers 1
LoadModule mpm_event_module modules/mod_mpm_event.so
LoadModule authz_core_module modules/mod_authz_core.so
LoadModule headers_module modules/mod_headers.so
LoadModule proxy_module modules/mod_proxy.so
LoadModule proxy_http_module modules/mod_proxy_http.so
LoadModule ssl_module modules/mod_ssl.so
Listen 127.0.0.1:{port}
{config}
"""

CADDY = """
{{
    admin off
    auto_https disable_redirects
    skip_install_trust
}}
{config}
"""


def _for_nginx(config: str, folder: Path, port: int) -> str:
    user = "user root;" if os.geteuid() == 0 else ""
    return NGINX.format(folder=folder, user=user, config=config.replace("443", f"127.0.0.1:{port}"))


def _for_apache(config: str, folder: Path, port: int) -> str:
    config = config.replace("443", str(port))
    return APACHE.format(folder=folder, name=NAME, port=port, config=config)


def _for_haproxy(config: str, folder: Path, port: int) -> str:
    return config.replace(":443", f"127.0.0.1:{port}")


def _for_caddy(config: str, folder: Path, port: int) -> str:
    ours = f"{NAME}:{port} {{\n    bind 127.0.0.1\n    tls {folder}/cert.pem {folder}/key.pem"
    return CADDY.format(config=config.replace(f"{NAME} {{", ours))


@dataclass(frozen=True)
class Kind:
    """A proxy, and how its configuration is made to run here."""

    name: str
    #: The end of the caption of its configuration.
    caption: str
    program: str
    arguments: tuple[str, ...]
    adapt: Callable[[str, Path, int], str]
    cuts_idle: bool = True

    def __str__(self) -> str:
        return self.name

    def find(self) -> str | None:
        """Find its program, which may not be on the path of those who are not root."""
        return shutil.which(self.program, path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")


KINDS = (
    Kind("nginx", "nginx/conf.d/chat.conf", "nginx", ("-c", "{file}"), _for_nginx),
    Kind(
        "apache",
        "apache2/sites-available/chat.conf",
        "apache2",
        ("-D", "FOREGROUND", "-f", "{file}"),
        _for_apache,
    ),
    Kind("haproxy", "haproxy.cfg", "haproxy", ("-db", "-f", "{file}"), _for_haproxy),
    Kind(
        "caddy",
        "Caddyfile",
        "caddy",
        ("run", "--adapter", "caddyfile", "--config", "{file}"),
        _for_caddy,
        cuts_idle=False,
    ),
)


@dataclass
class Proxy:
    """A proxy that runs."""

    port: int
    context: ssl.SSLContext
    process: subprocess.Popen[bytes]
    log: Path

    def accepts(self) -> bool:
        """Tell whether it takes connections."""
        assert self.process.poll() is None, f"it ended:\n{self.log.read_text(errors='replace')}"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    @contextmanager
    def connect(
        self, path: str, *, origin: str | None = None, headers: dict[str, str] | None = None
    ) -> Iterator[ClientConnection]:
        """Connect as a browser does that has loaded a page through the proxy."""
        place = f"{NAME}:{self.port}"
        sock = socket.create_connection(("127.0.0.1", self.port), 10, source_address=(CLIENT, 0))
        with (
            sock,
            connect(
                f"wss://{place}{path}",
                sock=sock,
                ssl=self.context,
                origin=Origin(origin or f"https://{place}"),
                additional_headers=headers,
                proxy=None,
                open_timeout=10,
                close_timeout=5,
                # The pings of this test are the server's.
                ping_interval=None,
            ) as client,
        ):
            yield client


@contextmanager
def run_proxy(
    kind: Kind, config: str, *, app_port: int, folder: Path, idle_seconds: int = 60
) -> Iterator[Proxy]:
    """Run a proxy before the app on a port of the loopback interface.

    :param config: the configuration, as the page has it.
    :param idle_seconds: its timeout, in place of the page's 60 seconds.
    """
    program = kind.find()
    assert program is not None
    authority = trustme.CA()
    issued = authority.issue_cert(NAME, "localhost")
    chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    (folder / "cert.pem").write_bytes(chain)
    (folder / "key.pem").write_bytes(issued.private_key_pem.bytes())
    authority.cert_pem.write_to_path(folder / "authority.pem")
    (folder / "both.pem").write_bytes(chain + issued.private_key_pem.bytes())
    context = ssl.create_default_context()
    context.sslsocket_class = SharedTLSSocket
    authority.configure_trust(context)

    port = find_port()
    config = re.sub(r"\b60(s?)\b", rf"{idle_seconds}\1", config)
    config = config.replace(f"/etc/ssl/{NAME}", str(folder))
    config = kind.adapt(config, folder, port).replace("127.0.0.1:8000", f"127.0.0.1:{app_port}")
    file = folder / f"{kind.name}.conf"
    file.write_text(config)
    log = folder / f"{kind.name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program, *(argument.format(file=file) for argument in kind.arguments)],
            cwd=folder,
            env={**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    proxy = Proxy(port, context, process, log)
    try:
        wait_until(proxy.accepts, timeout=START_SECONDS, every=0.02)
        yield proxy
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

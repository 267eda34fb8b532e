"""Serve the app under test: python serve.py ADDRESS [CERT KEY]; the address may be unix:PATH."""

import signal
import socket
import ssl
import sys
from socketserver import ThreadingMixIn
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler, WSGIServer

from flask_ws.testing.suite.live import app


class Response(ServerHandler):
    http_version = "1.1"

    def cleanup_headers(self):
        super().cleanup_headers()
        if "Content-Length" not in self.headers and not self.status.startswith("1"):
            self.request_handler.close_connection = True


class Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle(self):
        """Answer one request after the other, as wsgiref itself does not."""
        self.close_connection = False
        while not self.close_connection:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                return
            response = Response(self.rfile, self.wfile, self.get_stderr(), self.get_environ())
            response.request_handler = self
            response.run(self.server.get_app())

    def address_string(self):
        # A client of a unix socket has no address.
        return self.client_address[0] if self.client_address else "-"


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 100
    stopping = False

    def is_stopping(self):
        return self.stopping

    def handle_error(self, request, client_address):
        """Log what went wrong, but not that a client has gone away."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, ssl.SSLEOFError)):
            super().handle_error(request, client_address)


class UnixServer(Server):
    address_family = socket.AF_UNIX

    def server_bind(self):
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "localhost", 80
        self.setup_environ()

    def get_request(self):
        sock, _ = self.socket.accept()
        return sock, ("", 0)


address, *certificate = sys.argv[1:]
if address.startswith("unix:"):
    server = UnixServer(address.removeprefix("unix:"), Handler)
else:
    host, port = address.split(":")
    server = Server((host, int(port)), Handler)
if certificate:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    # The handshake is for the connection's own thread.
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
server.set_app(app)
server.base_environ["wsgiref.is_stopping"] = server.is_stopping
# So that the process ends in an orderly way, and flask-ws says goodbye.
signal.signal(signal.SIGTERM, signal.default_int_handler)
try:
    server.serve_forever()
except KeyboardInterrupt:
    server.stopping = True
    # Waits for threads that are not daemons.
    server.server_close()

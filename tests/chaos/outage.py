"""A registry that fails as registries do. In: the address of a real one, and a way to fail. Out: an address that fails so.

Between outages every request goes on to the real registry.
"""

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

STATUS = {"500": 500, "502": 502, "503": 503, "504": 504, "429": 429, "401": 401, "403": 403}
BODIES = {"a login page": b"<html>Please log in</html>", "other JSON": b'{"status": "UP"}', "a list": b"[]"}
AWAY = ("refused", "hanging", "half an answer", "cut off", "500", "502", "503", "504", "429", *BODIES)
"""Ways to fail after which nothing may be lost. (401 and 403 are a person's to mend.)"""
HANG_S = 30.0


class Registry:
    """An address in front of the real registry. `mode` is "well", one of AWAY, "401" or "403"."""

    def __init__(self, url: str) -> None:
        self.to = urlsplit(url)
        with socket.create_server(("127.0.0.1", 0)) as found:
            self.port = found.getsockname()[1]
        self.mode = "well"
        self.failed = 0  # requests
        self.ended = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self._open()

    @property
    def url(self) -> str:
        """What SCHEMA_REGISTRY_URL is set to."""
        return f"http://127.0.0.1:{self.port}{self.to.path}"

    @contextmanager
    def failing(self, mode: str) -> Iterator[None]:
        """For as long as the block lasts."""
        self.begin(mode)
        try:
            yield
        finally:
            self.end()

    def begin(self, mode: str) -> None:
        """From now on."""
        self.mode, self.failed = mode, 0
        if mode == "refused":
            self._close()

    def end(self) -> None:
        """All is well again; who hangs goes on hanging."""
        self.mode = "well"
        if self._server is None:
            self._open()

    def close(self) -> None:
        """The address is given up."""
        self.ended.set()
        self._close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """One request."""
        mode = self.mode
        self.failed += mode != "well"
        request.close_connection = True
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        if mode == "well":
            _reply(request, *self._beyond(request, body))
        elif mode in STATUS:
            _reply(request, STATUS[mode], b'{"error_code": %d, "message": "a test\'s"}' % STATUS[mode])
        elif mode in BODIES:
            _reply(request, 200, BODIES[mode])
        elif mode == "half an answer":
            request.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"sche')
            request.wfile.flush()
            self.ended.wait(HANG_S)
        elif mode == "cut off":
            request.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"sche')
        else:
            self.ended.wait(HANG_S)

    def _beyond(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.to.hostname or "", self.to.port, timeout=30)
        try:
            headers = {
                name: value for name, value in request.headers.items() if name.lower() not in {"host", "connection", "accept-encoding"}
            }
            connection.request(request.command, request.path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def _open(self) -> None:
        registry = self

        class Request(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with suppress(OSError):
                    registry.answer(self)

            do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - http.server's names

            def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - the base class's name
                """Nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads, block_on_close = True, False

        self._server = Server(("127.0.0.1", self.port), Request)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def _close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


def _reply(request: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
    request.send_response(status)
    request.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
    request.send_header("Content-Length", str(len(body)))
    request.send_header("Connection", "close")
    request.end_headers()
    request.wfile.write(body)

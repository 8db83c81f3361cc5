"""HTTP on 127.0.0.1: a port for each vendor, so that no two vendors' paths can collide."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from ingestion.sandbox.vendor import Request, Response, Vendor

# Called with the number of the request (from 1, over all vendors) and its path; may answer in the vendor's place.
Hook = Callable[[int, str], Response | None]


class Server:
    """Serves vendors in threads of this process until it is stopped. `port`: the first vendor's; 0: any for each."""

    def __init__(self, vendors: Mapping[str, Vendor], port: int, latency_ms: int, hook: Hook | None) -> None:
        self._latency_s = latency_ms / 1000
        self._hook = hook
        self._lock = threading.Lock()
        self.requests = 0
        self._listeners: dict[str, _Listener] = {}
        try:
            for number, (connector, vendor) in enumerate(vendors.items()):
                self._listeners[connector] = _Listener(port and port + number, self._handler(vendor))
        except OSError:
            self.stop()
            raise
        for listener in self._listeners.values():
            threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
            listener.is_serving = True

    def url(self, connector: str) -> str:
        return f"http://127.0.0.1:{self._listeners[connector].server_port}"

    def stop(self) -> None:
        """Stops listening and cuts every open connection."""
        for listener in self._listeners.values():
            if listener.is_serving:
                listener.shutdown()
            listener.server_close()
            listener.cut()
        self._listeners.clear()

    def _respond(self, vendor: Vendor, request: Request) -> Response:
        with self._lock:
            self.requests += 1
            number = self.requests
        if self._latency_s:
            time.sleep(self._latency_s)
        answer = self._hook(number, request.path) if self._hook else None
        return answer or vendor.handle(request)

    def _handler(self, vendor: Vendor) -> type[BaseHTTPRequestHandler]:
        respond = self._respond

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def _serve(self) -> None:
                parts = urlsplit(self.path)
                length = self.headers.get("Content-Length", "0")
                request = Request(
                    method=self.command,
                    path=parts.path,
                    query=dict(parse_qsl(parts.query, keep_blank_values=True)),
                    headers={name.lower(): value for name, value in self.headers.items()},
                    body=self.rfile.read(int(length)) if length.isdigit() else b"",
                    url=f"http://{self.headers.get('Host', '127.0.0.1')}{parts.path}",
                )
                response = respond(vendor, request)
                self.send_response(response.status)
                for name, value in response.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(response.body)))
                self.end_headers()
                self.wfile.write(response.body)

            do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _serve

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """A request may name a person; nothing of it is written anywhere."""

        # One write for headers and body: the second would wait for the client's delayed acknowledgement.
        Handler.wbufsize = -1
        return Handler


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    allow_reuse_address = True

    def __init__(self, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        self.is_serving = False
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed between two pages is what the sandbox is for; other errors are shown."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def cut(self) -> None:
        for request in list(self._open):
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

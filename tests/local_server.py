"""An HTTP server on this machine, for the tests of downloads."""

from __future__ import annotations

import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server:
    """An HTTP server on this machine that may break a connection after some bytes.

    `files` are its content by path; `asked` the paths of all requests.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.break_after: int | None = None
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, self))
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def stop(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


class Handler(BaseHTTPRequestHandler):
    def __init__(self, server: Server, *arguments) -> None:
        self.site = server
        super().__init__(*arguments)

    def do_GET(self) -> None:
        content = self.site.files.get(self.path)
        self.site.asked.append(self.path)
        if content is None:
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: self.site.break_after])
        return None

    def log_message(self, *arguments) -> None:
        """Stay quiet."""

"""A package index over a folder of wheels, for machines that reach no index with the wanted build of PyTorch."""

from __future__ import annotations

import contextlib
import functools
import http.server
import re
import threading
from collections.abc import Iterator
from html import escape
from pathlib import Path
from urllib.parse import quote

_PORT = 38471


class _Index(http.server.SimpleHTTPRequestHandler):
    """``/simple/<project>/`` lists the project's wheels, ``/<wheel>`` is one (PEP 503)."""

    def do_GET(self) -> None:
        found = re.fullmatch(r"/simple/([a-z0-9.-]+)/", self.path)
        if not found:
            super().do_GET()
            return
        wheels = [path.name for path in sorted(Path(self.directory).glob("*.whl")) if _project(path) == found[1]]
        page = "".join(f'<a href="/{quote(name)}">{escape(name)}</a>\n' for name in wheels).encode()
        self.send_response(200 if wheels else 404)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_: object) -> None:
        pass


def _project(wheel: Path) -> str:
    return re.sub(r"[-_.]+", "-", wheel.name.partition("-")[0]).lower()


@contextlib.contextmanager
def index_of(folder: Path) -> Iterator[str]:
    """URL of an index of a folder's wheels, on this machine alone."""
    handler = functools.partial(_Index, directory=str(folder))
    try:
        # The same address each time, so that an engine that has the layer finds it again.
        server = http.server.ThreadingHTTPServer(("127.0.0.1", _PORT), handler)
    except OSError:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/simple"
    finally:
        server.shutdown()
        server.server_close()

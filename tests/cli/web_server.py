"""A web server that knows ranges, which Python's own does not; and lies as a test tells it to."""

import http.server
import re
import threading
import time
from urllib.parse import unquote


class WebServer:
    """Serves `files`, path below the root -> bytes, on a socket that listens. A test overrides `change`."""

    def __init__(self, files, listener, tls=None):
        self.files = files
        self.connections = 0
        self.asked = []  # targets
        self.sent = 0  # bytes of bodies
        self.rate = None  # bytes a second of each answer
        self.address = listener.getsockname()
        self.tls = tls
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                if outer.tls:
                    self.request = outer.tls.wrap_socket(self.request, server_side=True)
                super().setup()

            def finish(self):
                super().finish()
                self.request.close()

            def do_GET(self):
                outer.answer(self)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def process_request(self, request, client_address):
                outer.connections += 1
                super().process_request(request, client_address)

            def handle_error(self, *_):
                pass  # a client that goes away

        self.server = Server(self.address, Handler, bind_and_activate=False)
        self.server.socket.close()
        self.server.socket = listener
        threading.Thread(target=self.server.serve_forever, args=[0.05], daemon=True).start()

    @property
    def url(self):
        return f"{'https' if self.tls else 'http'}://{self.address[0]}:{self.address[1]}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def change(self, status, headers, body):
        """The answer in place of the honest one."""
        return status, headers, body

    def answer(self, handler):
        self.asked.append(handler.path)
        content = self.files.get(unquote(handler.path.split("?")[0]).lstrip("/"))
        status, headers, body = self.change(*self.honest_answer(content, handler.headers.get("Range", "")))
        handler.send_response(status)
        for name, value in {"Content-Length": len(body), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        self.send(handler, body)
        # An answer that is shorter than it said can only be ended so.
        handler.close_connection = int(headers.get("Content-Length", len(body))) != len(body)

    @staticmethod
    def honest_answer(content, range_asked):
        if content is None:
            return 404, {}, b"no such file"
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", range_asked)
        if not asked:
            return 200, {}, content
        first, last = int(asked[1]), min(int(asked[2]), len(content) - 1)
        if first >= len(content):
            return 416, {"Content-Range": f"bytes */{len(content)}"}, b""
        return 206, {"Content-Range": f"bytes {first}-{last}/{len(content)}"}, content[first:last + 1]

    def send(self, handler, body):
        step = len(body) if self.rate is None else max(self.rate // 20, 1)
        for start in range(0, len(body), max(step, 1)):
            part = body[start:start + step]
            handler.wfile.write(part)
            self.sent += len(part)
            if self.rate is not None:
                time.sleep(len(part) / self.rate)


def read_release(folder, prefix=""):
    """The files below a folder, as a WebServer has them."""
    return {prefix + str(path.relative_to(folder)): path.read_bytes()
            for path in folder.rglob("*") if path.is_file()}

"""A file server on loopback that misbehaves as a test asks, and remembers what it was asked and what it sent."""

import http.server
import random
import re
import socket
import struct
import threading
import time

BODY = random.Random(0).randbytes(3_000_000)


class Server(http.server.ThreadingHTTPServer):
    """Serves `body` at every path; a test sets how badly, and reads what was asked and sent."""

    daemon_threads = True
    body = BODY
    etag = '"one"'
    ranges = True  # whether Range is honoured
    shift = 0  # by how much an answer to a Range begins too early
    stop_after = None  # bytes of one answer before the connection is closed
    resets = False  # whether it is then reset, as by a router
    tells_length = True
    status = None  # of an error to answer with
    kind = "application/octet-stream"

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked = []  # the Range of each request, or None
        self.sent = []  # bytes of each answer
        self.held = threading.Event()  # cleared: an answer stops half way and waits
        self.held.set()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/weights.npz"


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        server.asked.append(asked)
        if server.status:
            return self.send_error(server.status)
        fresh = self.headers.get("If-Range") in (None, server.etag)
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) - server.shift if asked and server.ranges and fresh else 0
        if start and start >= len(server.body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.body)}")
            return self.end_headers()
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", server.kind)
        if server.etag:
            self.send_header("ETag", server.etag)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.body) - 1}/{len(server.body)}")
        rest = server.body[start:]
        if server.tells_length:
            self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        rest = rest[: server.stop_after]
        half = len(rest) if server.held.is_set() else len(rest) // 2
        self.wfile.write(rest[:half])
        server.held.wait(20)
        self.wfile.write(rest[half:])
        server.sent.append(len(rest))
        if server.resets:
            linger = struct.pack("ii", 1, 0)
            self.wfile.flush()
            time.sleep(0.2)  # a reset also throws away what the client has not read yet
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()  # the two files over it hold it open until the handler ends
        return None

    def log_message(self, *_):
        pass

    def handle(self):
        try:
            super().handle()
        except ConnectionError:  # a client that was killed
            pass

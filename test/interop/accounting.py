#!/usr/bin/python3
"""A web server that takes accounting records, as whoever writes bills would.

    accounting.py FILE PORT TOKEN [CERTIFICATE KEY]

Each POST with "Authorization: Bearer TOKEN" is appended to FILE, and answered
200 when it is on disk; with another token it is answered 403. Speaks TLS if
there is a certificate. With port 0 the system chooses one. Prints the port, a
line, and ends when its standard input does.
"""
import http.server
import os
import ssl
import sys
import threading

FILE, PORT, TOKEN = sys.argv[1:4]


class Consumer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Authorization"] != "Bearer " + TOKEN:
            return self.answer(403)
        if self.headers["Content-Type"] != "application/x-ndjson" or not body.endswith(b"\n"):
            return self.answer(400)
        with open(FILE, "ab") as out:
            out.write(body)
            out.flush()
            os.fsync(out.fileno())
        return self.answer(200)

    def answer(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_args):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(PORT)), Consumer)
if len(sys.argv) > 4:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[4], sys.argv[5])
    server.socket = context.wrap_socket(server.socket, server_side=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_address[1], flush=True)
sys.stdin.read()

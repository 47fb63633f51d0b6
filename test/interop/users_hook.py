#!/usr/bin/python3
"""A web server that knows users, as an operator's would be that Meerkat asks.

    users_hook.py FILE PORT TOKEN [CERTIFICATE KEY]

FILE has a JSON object, which is read for each question: {"users": {"REALM":
{"NAME": ANSWER}}}, or {"status": NUMBER} to fail. ANSWER is sent as it is;
where it has a member "only_from", other clients are not allowed. What was asked
is appended to FILE.asked, a line each. With another token than "Authorization:
Bearer TOKEN" it answers 403. Speaks TLS if there is a certificate.
"""
import http.server
import json
import ssl
import sys
import threading

FILE, PORT, TOKEN = sys.argv[1:4]
LOCK = threading.Lock()


class Hook(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Authorization"] != "Bearer " + TOKEN:
            return self.answer(403, {})
        if self.headers["Content-Type"] != "application/json":
            return self.answer(400, {})
        asked = json.loads(body)
        with LOCK, open(FILE + ".asked", "a") as log:
            log.write(json.dumps(asked) + "\n")
        with open(FILE) as known:
            known = json.load(known)
        if "status" in known:
            return self.answer(known["status"], {})
        user = known["users"].get(asked["realm"], {}).get(asked["user"])
        if user is None:
            return self.answer(404, {"error": "no such user"})
        if user.get("only_from", asked.get("client")) != asked.get("client"):
            return self.answer(200, {"allow": False})
        return self.answer(200, user)

    def answer(self, status, said):
        said = dict(said)
        control = said.pop("cache_control", None)
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if control:
            self.send_header("Cache-Control", control)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(PORT)), Hook)
server.daemon_threads = True
if len(sys.argv) > 4:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*sys.argv[4:6])
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()

#!/usr/bin/python3
"""Stands before an echo peer and counts what reaches it.

    counting_tap.py PEER_PORT

Listens on a free port pair P and P+1 of the loopback addresses, hands every
datagram to PEER_PORT or PEER_PORT+1 and every answer back to where the question
came from.  Prints "port P" at the start and, on SIGTERM, "datagrams N bytes B
sources S".  turnutils_uclient sees only its own side; these figures show that
its messages really came out of the server at a relayed address.
"""
import selectors
import signal
import socket
import sys

ATTEMPTS = 100
BUFFER = 1 << 21


def bound(family, address, port):
    """A non-blocking UDP socket bound exclusively to address and port."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        sock.setblocking(False)
        sock.bind((address, port))
    except OSError:
        sock.close()
        raise
    return sock


def bind_pair():
    """Sockets on P and P+1, as a list of (socket, offset), and P itself."""
    families = [(socket.AF_INET, "127.0.0.1")]
    try:
        bound(socket.AF_INET6, "::1", 0).close()
        families.append((socket.AF_INET6, "::1"))
    except OSError:
        pass  # no IPv6 here
    for _ in range(ATTEMPTS):
        fronts = []
        try:
            first = bound(*families[0], 0)
            fronts.append((first, 0))
            port = first.getsockname()[1]
            if port % 2:
                raise OSError("an even port is wanted")
            fronts.append((bound(*families[0], port + 1), 1))
            for family in families[1:]:
                fronts += [(bound(*family, port + i), i) for i in (0, 1)]
            return fronts, port
        except OSError:
            for sock, _offset in fronts:
                sock.close()
    sys.exit("counting_tap: found no free port pair")


def forward(fronts, peer_port, seen):
    """Moves datagrams for ever; `seen` counts those on their way to the peer."""
    selector = selectors.DefaultSelector()
    backs = {}

    def to_peer(front, offset):
        data, source = front.recvfrom(65535)
        seen["datagrams"] += 1
        seen["bytes"] += len(data)
        back = backs.get((front, source))
        if back is None:
            back = bound(socket.AF_INET, "127.0.0.1", 0)
            back.connect(("127.0.0.1", peer_port + offset))
            selector.register(back, selectors.EVENT_READ, lambda: from_peer(back, front, source))
            backs[front, source] = back
            seen["sources"] += 1
        back.send(data)

    def from_peer(back, front, source):
        front.sendto(back.recv(65535), source)

    for sock, offset in fronts:
        selector.register(sock, selectors.EVENT_READ, lambda s=sock, o=offset: to_peer(s, o))
    while True:
        for key, _events in selector.select():
            try:
                key.data()
            except OSError:
                pass  # that datagram is lost, which the client reports


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: counting_tap.py PEER_PORT")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    seen = {"datagrams": 0, "bytes": 0, "sources": 0}
    fronts, port = bind_pair()
    print("port", port, flush=True)
    try:
        forward(fronts, int(sys.argv[1]), seen)
    finally:
        print(*(word for item in seen.items() for word in item), flush=True)


if __name__ == "__main__":
    main()

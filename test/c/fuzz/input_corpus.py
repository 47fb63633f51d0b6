#!/usr/bin/python3
"""Writes the seeds of test/c/fuzz/input.c: what clients, peers and Erlang do on good days.

    input_corpus.py        into corpus/input, beside this file

Each seed is a byte of settings and steps, as input.c reads them. Nonces are those a client gets
in the first second of the fake clock, so that what is signed passes the challenge as it is.
"""
import base64
import hashlib
import hmac
import ipaddress
import pathlib
import struct

ALLOCATED, DISCOVERY, LIMITED, DEAF = 1, 2, 4, 8
CLIENT, PEER, COMMAND, TIME, OTHER_CLIENT, SIGN, POLICY, MOVE, ICMP = range(9)
BINDING, ALLOCATE, REFRESH, SEND, PERMISSION, CHANNEL_BIND = 1, 3, 4, 6, 8, 9
REQUEST, INDICATION = 0, 1

COOKIE = 0x2112A442
TXID = bytes(range(12))
PEER_V4 = ("198.51.100.7", 7000)
PEER_V6 = ("2001:db8::5", 9)


def attribute(code, value=b""):
    return struct.pack(">HH", code, len(value)) + value + bytes(-len(value) % 4)


def u32(code, value):
    return attribute(code, struct.pack(">I", value))


def ip_bytes(host):
    return ipaddress.ip_address(host).packed


def xor_peer(address):
    host, port = address
    ip = ip_bytes(host)
    mask = struct.pack(">I", COOKIE) + TXID
    masked = bytes(a ^ b for a, b in zip(ip, mask))
    return attribute(0x12, struct.pack(">BBH", 0, 1 if len(ip) == 4 else 2,
                                       port ^ (COOKIE >> 16)) + masked)


def message(cls, method, *attributes):
    body = b"".join(attributes)
    return struct.pack(">HHI", cls << 4 | method, len(body), COOKIE) + TXID + body


def nonce(port=5000):
    second, features = struct.pack(">I", 1700000000), bytes(3)
    client = bytes(10) + b"\xff\xff" + ip_bytes("192.0.2.9")
    mac = hmac.new(b"\x5a" * 32, second + features + client + struct.pack(">H", port),
                   hashlib.sha256).digest()
    return b"obMatJos2" + base64.b64encode(features) + base64.b64encode(second + mac[:14])


def signed(method, *attributes, port=5000):
    """As a client sends it after the challenge."""
    body = b"".join(attributes) + attribute(6, b"u") + attribute(0x14, b"example.org") \
        + attribute(0x15, nonce(port))
    covered = struct.pack(">HHI", method, len(body) + 24, COOKIE) + TXID + body
    return covered + attribute(8, hmac.new(b"key", covered, hashlib.sha1).digest())


def channel_data(number, payload):
    return struct.pack(">HH", number, len(payload)) + payload


def frame(code, fields):
    return struct.pack(">BBHI", code, 0, 0, 1) + fields


def addr(address):
    host, port = address
    ip = ip_bytes(host)
    return struct.pack(">BH", 4 if len(ip) == 4 else 6, port) + ip


def counted(data):
    return struct.pack(">I", len(data)) + data


def seed(settings, *steps):
    return bytes([settings]) + b"".join(struct.pack(">BH", what, len(data)) + data
                                        for what, data in steps)


UDP = u32(0x19, 17 << 24)
V6 = u32(0x17, 2 << 24)
ALLOCATION = (CLIENT, signed(ALLOCATE, UDP))
SEEDS = {
    "binding": seed(0, (CLIENT, message(REQUEST, BINDING))),
    "classic": seed(0, (CLIENT, struct.pack(">HH", 1, 0) + b"sixteen bytes id")),
    "discovery": seed(DISCOVERY, *[(CLIENT, message(REQUEST, BINDING, a)) for a in (
        b"", u32(3, 2), u32(3, 4), u32(3, 6), attribute(0x27, b"\x20\x00"),
        attribute(0x26, bytes(64)))]),
    "challenge": seed(LIMITED, *[(CLIENT, message(REQUEST, ALLOCATE, UDP))] * 12),
    "half_signed": seed(0, (CLIENT, message(REQUEST, ALLOCATE, UDP, attribute(8, bytes(20))))),
    "stale": seed(0, ALLOCATION, (TIME, b"\xff"), (TIME, b"\xff"), ALLOCATION),
    "elsewhere": seed(0, (OTHER_CLIENT, b"\1"), ALLOCATION),
    "allocation": seed(
        0, ALLOCATION, (CLIENT, signed(PERMISSION, xor_peer(PEER_V4))),
        (CLIENT, message(INDICATION, SEND, xor_peer(PEER_V4), attribute(0x13, b"hello"))),
        (PEER, b"\0answer"),
        (CLIENT, signed(CHANNEL_BIND, u32(0xC, 0x4000 << 16), xor_peer(PEER_V4))),
        (CLIENT, channel_data(0x4000, b"in a channel")), (PEER, b"\0back"),
        (CLIENT, signed(REFRESH, u32(0xD, 0)))),
    "both_families": seed(
        0, (CLIENT, signed(ALLOCATE, UDP, u32(0x8000, 2 << 24))),
        (CLIENT, signed(PERMISSION, xor_peer(PEER_V4), xor_peer(PEER_V6))),
        (CLIENT, message(INDICATION, SEND, xor_peer(PEER_V6), attribute(0x13, b"six"))),
        (PEER, b"\1six"), (CLIENT, signed(REFRESH, u32(0xD, 0), V6)), (PEER, b"\0four")),
    "relaying": seed(
        ALLOCATED, (CLIENT, channel_data(0x4001, b"one")), (CLIENT, channel_data(0x4002, b"two")),
        (PEER, b"\0three"), (PEER, b"\1four"), (PEER, b"\2a stranger"), (PEER, b"\4a port")),
    "dont_fragment": seed(
        ALLOCATED, (CLIENT, message(INDICATION, SEND, xor_peer(PEER_V4), attribute(0x1A),
                                    attribute(0x13, b"whole")))),
    "forbidden": seed(
        ALLOCATED, (POLICY, b"\1"), (CLIENT, channel_data(0x4001, b"no more")), (PEER, b"\0nor"),
        (SIGN, bytes([PERMISSION, 8, 8]) + xor_peer(PEER_V4)[4:]), (POLICY, b"\0")),
    "icmp": seed(ALLOCATED, (ICMP, b"\0\3\4"), (ICMP, b"\1\2\0"), (ICMP, b"\2\3\3")),
    "move": seed(ALLOCATED, (MOVE, b"\1"), (CLIENT, channel_data(0x4001, b"from here")),
                 (PEER, b"\0there"), (OTHER_CLIENT, b"\0"),
                 (CLIENT, channel_data(0x4001, b"from there"))),
    "move_again": seed(ALLOCATED, (MOVE, b"\1"), (MOVE, b"\2"), (OTHER_CLIENT, b"\1"),
                       (CLIENT, channel_data(0x4001, b"late")), (OTHER_CLIENT, b"\2"),
                       (CLIENT, channel_data(0x4001, b"in time"))),
    "lapse": seed(ALLOCATED, (TIME, b"\x1d"), (CLIENT, channel_data(0x4001, b"in time")),
                  (TIME, b"\2"), (CLIENT, channel_data(0x4001, b"late")), (TIME, b"\x3c"),
                  (PEER, b"\0late")),
    "credits": seed(DEAF, *[ALLOCATION] * 6, (TIME, b"\2"), ALLOCATION),
    "commands": seed(
        ALLOCATED, (COMMAND, frame(0x34, struct.pack(">QI", 42, 300000) + counted(addr(PEER_V4)))),
        (COMMAND, frame(0x35, struct.pack(">QH", 42, 0x4003) + addr(("198.51.100.8", 1)) +
                        struct.pack(">II", 600000, 300000))),
        (COMMAND, frame(0x42, struct.pack(">Q", 42))),
        (COMMAND, frame(0x32, struct.pack(">QBI", 42, 6, 0))),
        (COMMAND, frame(0x33, struct.pack(">Q", 42)))),
    "noise": seed(ALLOCATED, (CLIENT, b"\x16\xfe\xfd"), (CLIENT, b"\xff" * 20), (CLIENT, b""),
                  (CLIENT, message(2, BINDING)), (CLIENT, message(INDICATION, BINDING)),
                  (CLIENT, message(REQUEST, 10))),
}

if __name__ == "__main__":
    directory = pathlib.Path(__file__).parent / "corpus" / "input"
    directory.mkdir(parents=True, exist_ok=True)
    for name, data in SEEDS.items():
        (directory / name).write_bytes(data)

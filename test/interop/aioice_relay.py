#!/usr/bin/python3
"""Lets two aioice agents meet through a TURN server, and through it only.

    aioice_relay.py HOST PORT USER PASSWORD [udp|tcp|tls]

Both agents live in this process and own nothing but an allocation on the
server: no host sockets are opened and only relay candidates are exchanged, so
connectivity checks and payloads must travel client - server - server - client.
The last argument is the transport between the agents and the server; for TLS
SSL_CERT_FILE names who vouches for the server.

Ends with "aioice relay: ok" and status 0, or with a sentence and status 1.
Needs Debian's python3-aioice, hence the interpreter is named in full above.
"""
import asyncio
import collections
import secrets
import sys

from aioice import Connection

LIMIT = 30
GATHER_LIMIT = 10
CLOSE_LIMIT = 5
SIZES = [1, 2, 3, 4, 7, 100, 172, 500, 1000, 1200] * 3


class Failure(Exception):
    """What went wrong, as a sentence for the user."""


def agent(controlling, server, user, password, transport):
    """An agent which gathers nothing but a relay candidate."""
    return Connection(
        ice_controlling=controlling,
        turn_server=server,
        turn_username=user,
        turn_password=password,
        turn_transport="udp" if transport == "udp" else "tcp",
        turn_ssl=transport == "tls",
        use_ipv4=False,  # these two stand for local addresses, not for
        use_ipv6=False,  # the family of the allocation
    )


async def gather(name, connection):
    try:
        await asyncio.wait_for(connection.gather_candidates(), GATHER_LIMIT)
    except asyncio.TimeoutError:
        raise Failure(f"{name} got no allocation within {GATHER_LIMIT} seconds") from None
    except Exception as error:
        # Some of aioice's errors have no text, so their kind is told as well.
        raise Failure(f"{name} got no allocation: {type(error).__name__} {error}") from error
    if [candidate.type for candidate in connection.local_candidates] != ["relay"]:
        raise Failure(f"{name} gathered other than one relay candidate: {connection.local_candidates}")


async def introduce(source, target):
    """Tells `target` what a signalling channel would."""
    for candidate in source.local_candidates:
        await target.add_remote_candidate(candidate)
    await target.add_remote_candidate(None)
    target.remote_username = source.local_username
    target.remote_password = source.local_password


def address(candidate):
    return f"{candidate.host}:{candidate.port}"


def chosen_pair(name, connection, other):
    """The nominated pair, once it is certain that it joins the two allocations."""
    # aioice has no public accessor for it.
    pair = connection._nominated.get(1)
    if pair is None:
        raise Failure(f"{name} nominated no pair")
    local, remote = pair.local_candidate, pair.remote_candidate
    if (local.type, remote.type) != ("relay", "relay"):
        raise Failure(f"{name} chose {local.type} to {remote.type}, not relay to relay")
    if address(remote) != address(other.local_candidates[0]):
        raise Failure(f"{name} chose {address(remote)}, which the other did not offer")
    if (local.host, local.port) == (local.related_address, local.related_port):
        raise Failure(f"{name} was given its own address {address(local)} as a relayed one")
    return local, remote


async def exchange(sender, receiver, direction):
    """Sends payloads of many sizes; order is not promised by UDP, arrival is wanted."""
    payloads = [secrets.token_bytes(size) for size in SIZES]
    arrived = []
    try:
        for payload in payloads:
            await sender.send(payload)
        while len(arrived) < len(payloads):
            arrived.append(await asyncio.wait_for(receiver.recv(), 5))
    except asyncio.TimeoutError:
        raise Failure(f"{len(arrived)} of {len(payloads)} payloads arrived {direction}") from None
    except ConnectionError as error:
        raise Failure(f"the connection broke {direction}: {error}") from error
    if collections.Counter(arrived) != collections.Counter(payloads):
        raise Failure(f"payloads arrived changed {direction}")
    return len(arrived), sum(map(len, arrived))


async def call(caller, callee):
    await asyncio.gather(gather("the caller", caller), gather("the callee", callee))
    await introduce(caller, callee)
    await introduce(callee, caller)
    try:
        await asyncio.gather(caller.connect(), callee.connect())
    except ConnectionError as error:
        raise Failure(f"the agents did not connect through the relay: {error}") from error

    for name, here, there in (("caller", caller, callee), ("callee", callee, caller)):
        local, remote = chosen_pair(f"the {name}", here, there)
        print(f"{name}: {local.type} {address(local)} -> {remote.type} {address(remote)}")
    for direction, here, there in (
        ("from caller to callee", caller, callee),
        ("from callee to caller", callee, caller),
    ):
        count, size = await exchange(here, there, direction)
        print(f"{direction}: {count} payloads, {size} bytes")


def background_failure():
    """A future which fails as soon as aioice meets an error nobody awaits.

    It binds channels in tasks of its own: a refusal would only be logged, and
    the connectivity checks would wait for that channel without end.
    """
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    def on_error(_loop, context):
        if not future.done():
            error = context.get("exception") or context["message"]
            future.set_exception(Failure(f"aioice met an error: {error}"))

    loop.set_exception_handler(on_error)
    return future


async def main(host, port, user, password, transport="udp"):
    server = (host, int(port))
    caller = agent(True, server, user, password, transport)
    callee = agent(False, server, user, password, transport)
    ways_to_end = {background_failure(), asyncio.ensure_future(call(caller, callee))}
    done, _ = await asyncio.wait(ways_to_end, timeout=LIMIT, return_when=asyncio.FIRST_COMPLETED)
    closing = [asyncio.ensure_future(c.close()) for c in (caller, callee)]
    await asyncio.wait(closing, timeout=CLOSE_LIMIT)
    if not done:
        raise Failure(f"not done after {LIMIT} seconds")
    for end in done:
        end.result()


if __name__ == "__main__":
    if len(sys.argv) not in (5, 6) or sys.argv[5:] not in ([], ["udp"], ["tcp"], ["tls"]):
        sys.exit(f"usage: {sys.argv[0].rpartition('/')[2]} HOST PORT USER PASSWORD [udp|tcp|tls]")
    try:
        asyncio.run(main(*sys.argv[1:]))
    except Failure as failure:
        sys.exit(f"aioice relay: FAILED: {failure}")
    print("aioice relay: ok")

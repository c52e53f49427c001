#!/usr/bin/python3
"""Clients for the tests. Prints one JSON object at the end; says `open` once all long connections are up.

load.py short ADDRESS PORT --count N         N requests, each on a connection of its own
load.py short ADDRESS PORT                   the same until standard input ends
load.py long ADDRESS PORT --connections N    N connections that make requests until standard input ends
"""

import argparse
import asyncio
import json
import sys

REQUEST = b"GET / HTTP/1.1\r\nHost: lab\r\nConnection: %s\r\n\r\n"
# A request that has no answer by then has failed.
TIMEOUT_S = 5
BODY_OCTETS_MAX = 65536


class Tally:
    """What came of the requests."""

    def __init__(self):
        self.ok = 0
        self.failed = 0
        self.moved = 0
        self.by_server = {}
        self.errors = {}

    def served(self, server):
        self.ok += 1
        self.by_server[server] = self.by_server.get(server, 0) + 1

    def lost(self, error):
        self.failed += 1
        text = repr(error)
        self.errors[text] = self.errors.get(text, 0) + 1


async def request(reader, writer, kind):
    """One request; the server's name from the body."""
    writer.write(REQUEST % kind)
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise ValueError(f"answer {head[:20]!r}")
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            body = await reader.readexactly(min(int(value), BODY_OCTETS_MAX))
            return body.decode().strip()
    raise ValueError("no content-length")


async def one_short(options):
    reader, writer = await asyncio.open_connection(options.address, options.port)
    try:
        server = await request(reader, writer, b"close")
        # The end of the stream belongs to the answer.
        if await reader.read(1):
            raise ValueError("octets after the body")
        return server
    finally:
        writer.close()


async def short(options, tally, ended):
    left = options.count

    async def client():
        nonlocal left
        while not ended.is_set() and (left is None or left > 0):
            if left is not None:
                left -= 1
            try:
                tally.served(await asyncio.wait_for(one_short(options), TIMEOUT_S))
            except (OSError, ValueError, EOFError, asyncio.TimeoutError) as error:
                tally.lost(error)
            await asyncio.sleep(options.pause)

    await asyncio.gather(*(client() for _ in range(options.concurrency)))


async def long(options, tally, ended):
    waiting = options.connections

    async def client():
        nonlocal waiting
        first = True
        try:
            reader, writer = await asyncio.wait_for(
                asyncio.open_connection(options.address, options.port), TIMEOUT_S
            )
            home = None
            while not ended.is_set():
                server = await asyncio.wait_for(request(reader, writer, b"keep-alive"), TIMEOUT_S)
                tally.served(server)
                if home not in (None, server):
                    tally.moved += 1
                home = server
                if first:
                    first = False
                    waiting -= 1
                    if waiting == 0:
                        print("open", flush=True)
                await asyncio.sleep(options.pause)
            writer.close()
        except (OSError, ValueError, EOFError, asyncio.TimeoutError) as error:
            tally.lost(error)
            # Whoever waits for `open` would wait for ever.
            if first:
                ended.set()

    await asyncio.gather(*(client() for _ in range(options.connections)))


async def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=("short", "long"))
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("--count", type=int)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--connections", type=int, default=100)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between the requests of one client")
    options = parser.parse_args()

    tally, ended = Tally(), asyncio.Event()
    if options.count is None:
        loop = asyncio.get_running_loop()
        loop.run_in_executor(None, sys.stdin.read).add_done_callback(lambda _: ended.set())
    await (short if options.kind == "short" else long)(options, tally, ended)
    print(json.dumps(vars(tally)), flush=True)


if __name__ == "__main__":
    asyncio.run(main())

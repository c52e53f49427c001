#!/usr/bin/python3
"""Long datagrams to and fro.

echo.py serve ADDRESS PORT                   answers every datagram with its octets in reverse; says `ready`
echo.py ask ADDRESS PORT --octets N --count C
                                             sends C random datagrams, one after the other, and prints how many came back
                                             whole; each is sent again a few times, as clients of UDP do
  --shuffle                                  cut by the program itself and sent in random order, some fragments twice
"""

import argparse
import ipaddress
import os
import random
import socket
import struct
import sys

DATAGRAM_OCTETS_MAX = 65535
# Answers that do not come by then were lost; a path MTU may have to be learned first.
TIMEOUT_S = 1
TRIES = 5
# Of a fragment, a multiple of eight; fits every path of the lab.
PIECE_OCTETS = 1200


def open_socket(address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    return made


def serve(options):
    server = open_socket(options.address)
    server.bind((options.address, options.port))
    print("ready", flush=True)
    while True:
        datagram, client = server.recvfrom(DATAGRAM_OCTETS_MAX)
        server.sendto(datagram[::-1], client)


def checksum(octets):
    octets += bytes(len(octets) % 2)
    total = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def fragments(client, datagram):
    """The datagram as IP packets, without link headers, in order."""
    (source, sport), (destination, dport) = client.getsockname()[:2], client.getpeername()[:2]
    addresses = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
    segment = struct.pack("!HHHH", sport, dport, 8 + len(datagram), 0) + datagram
    total = checksum(addresses + struct.pack("!II", len(segment), socket.IPPROTO_UDP) + segment)
    segment = segment[:6] + struct.pack("!H", total or 0xFFFF) + segment[8:]
    identification = random.getrandbits(16)
    for start in range(0, len(segment), PIECE_OCTETS):
        piece = segment[start : start + PIECE_OCTETS]
        more = start + len(piece) < len(segment)
        if len(addresses) == 8:
            field = start // 8 | more << 13
            lengths = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(piece), identification, field, 64, socket.IPPROTO_UDP, 0)
            yield lengths + addresses + piece
        else:
            header = struct.pack("!IHBB", 6 << 28, 8 + len(piece), socket.IPPROTO_FRAGMENT, 64) + addresses
            yield header + struct.pack("!BBHI", socket.IPPROTO_UDP, 0, start | more, identification) + piece


def send_shuffled(client, datagram):
    pieces = list(fragments(client, datagram))
    pieces.append(random.choice(pieces[:-1]))
    random.shuffle(pieces)
    with socket.socket(client.family, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for piece in pieces:
            raw.sendto(piece, (client.getpeername()[0], 0))


def is_answered(client, datagram, shuffle):
    for _ in range(TRIES):
        try:
            if shuffle:
                send_shuffled(client, datagram)
            else:
                client.send(datagram)
            if client.recv(DATAGRAM_OCTETS_MAX) == datagram[::-1]:
                return True
        except (TimeoutError, OSError):
            continue
    return False


def ask(options):
    client = open_socket(options.address)
    client.settimeout(TIMEOUT_S)
    client.connect((options.address, options.port))
    answered = sum(is_answered(client, os.urandom(options.octets), options.shuffle) for _ in range(options.count))
    print(answered)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["serve", "ask"])
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("--octets", type=int, default=8000)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--shuffle", action="store_true")
    options = parser.parse_args()
    (serve if options.what == "serve" else ask)(options)


sys.exit(main())

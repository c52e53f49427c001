#!/usr/bin/python3
"""flood.py ADDRESS PORT COUNT: so many UDP datagrams, each from another address and port of 10.0.0.0/8.

To be run by root on a client whose router takes such sources.
"""

import socket
import struct
import sys

address, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
destination = socket.inet_aton(address)
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
for number in range(count):
    # 10.128.0.0/9 is nobody's in the lab. The kernel fills in length, identification and header checksum; a UDP
    # checksum of 0 is none.
    source = 0x0A800000 + number // 50000
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 0, 0, 0, 64, 17, 0, struct.pack("!I", source), destination)
    datagram = struct.pack("!HHHH", 1024 + number % 50000, port, 8, 0)
    raw.sendto(header + datagram, (address, 0))

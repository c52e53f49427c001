"""Packets of the generated cases, as octets, and the words that describe them.

The judge of the recorded cases (`tests/golden/check`) is loaded here as a module: its checksums and its view of a
packet are used, so that both tests speak of the same thing.
"""

import importlib.machinery
import importlib.util
import ipaddress
import os
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def load_judge():
    """The module of `tests/golden/check`, which has no suffix."""
    path = os.path.join(HERE, "..", "golden", "check")
    loader = importlib.machinery.SourceFileLoader("golden_check", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("golden_check", loader))
    kept, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    loader.exec_module(module)
    sys.dont_write_bytecode = kept
    return module


check = load_judge()

TCP_FLAGS = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16, "U": 32, "E": 64, "C": 128}
SCTP_CHUNKS = {
    "DATA": 0, "INIT": 1, "INIT_ACK": 2, "SACK": 3, "HEARTBEAT": 4, "HEARTBEAT_ACK": 5, "ABORT": 6, "SHUTDOWN": 7,
    "SHUTDOWN_ACK": 8, "ERROR": 9, "COOKIE_ECHO": 10, "COOKIE_ACK": 11, "SHUTDOWN_COMPLETE": 14,
}
TCP, UDP, SCTP, ICMP, ICMP6 = 6, 17, 132, 1, 58
PROTOCOLS = {"tcp": TCP, "udp": UDP, "sctp": SCTP}


def ip(source, destination, protocol, payload, *, ttl=64, tos=0, identification=0x1234, df=True):
    """An IP packet of the family of its addresses."""
    packed = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
    if len(packed) == 32:
        return struct.pack("!IHBB", 6 << 28 | tos << 20, len(payload), protocol, ttl) + packed + payload
    head = struct.pack("!BBHHHBBH", 0x45, tos, 20 + len(payload), identification, 0x4000 if df else 0, ttl, protocol, 0)
    head += packed
    return head[:10] + struct.pack("!H", ~check.fold(head) & 0xFFFF) + head[12:] + payload


def tcp_segment(source, sport, destination, dport, flags, sequence=1000, acknowledgement=0, data=b""):
    """RFC 9293, 3.1, without options."""
    bits = sum(TCP_FLAGS[letter] for letter in flags)
    segment = struct.pack("!HHIIBBHHH", sport, dport, sequence, acknowledgement, 0x50, bits, 29200, 0, 0) + data
    return check.with_sum(source, destination, TCP, segment, 16)


def udp_datagram(source, sport, destination, dport, data=b"data"):
    """RFC 768."""
    datagram = struct.pack("!HHHH", sport, dport, 8 + len(data), 0) + data
    return check.with_sum(source, destination, UDP, datagram, 6)


def sctp_packet(sport, dport, chunks):
    """RFC 9260, 3: chunks by name, each with as many octets as its type needs; who begins names more addresses."""
    addresses = (
        struct.pack("!HH4s", 5, 8, bytes([10, 1, 0, 99]))
        + struct.pack("!HH16s", 6, 20, ipaddress.ip_address("fd00:1::99").packed)
        + struct.pack("!HHHH", 12, 8, 5, 6)
    )
    init = struct.pack("!IIHHI", 0x11223344, 65535, 10, 10, 0x55667788) + addresses
    values = {
        "INIT": init,
        "INIT_ACK": init + struct.pack("!HH12s", 7, 16, b"cookiecookie"),
        "DATA": struct.pack("!IHHI", 1, 0, 0, 0) + b"data",
        "SACK": struct.pack("!IIHH", 1, 65535, 0, 0),
        "SHUTDOWN": struct.pack("!I", 1),
        "COOKIE_ECHO": b"cookiecookie", "HEARTBEAT": b"cookiecookie", "HEARTBEAT_ACK": b"cookiecookie",
    }
    body = b""
    for name in chunks:
        value = values.get(name, b"")
        body += struct.pack("!BBH", SCTP_CHUNKS[name], 3 if name == "DATA" else 0, 4 + len(value)) + value
    head = struct.pack("!HHII", sport, dport, 0x01020304, 0)
    return head[:8] + struct.pack("<I", check.crc32c(head + body)) + body


def icmp_error(source, destination, kind, code, rest, quoted, *, bad_checksum=False, **words):
    """An ICMP or ICMPv6 message that quotes a packet; `rest` are the octets 4 to 7."""
    message = struct.pack("!BBH", kind, code, 0) + rest + quoted
    if ":" in source:
        packed = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
        sums = packed + struct.pack("!IHBB", len(message), 0, 0, ICMP6)
        protocol = ICMP6
    else:
        sums, protocol = b"", ICMP
    value = ~check.fold(sums + message) & 0xFFFF ^ (0x5555 if bad_checksum else 0)
    return ip(source, destination, protocol, message[:2] + struct.pack("!H", value) + message[4:], **words)


def endpoint(address, port):
    """As ipvsadm writes it."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def transport(protocol, source, sport, destination, dport, event, **words):
    """A packet of `tcp` (event: its flags), `udp` (event ignored) or `sctp` (event: chunks joined by commas)."""
    data = words.pop("data", b"")
    if protocol == "tcp":
        sequence, acknowledgement = words.pop("sequence", 1000), 1 if "A" in event else 0
        payload = tcp_segment(source, sport, destination, dport, event, sequence, acknowledgement, data)
    elif protocol == "udp":
        payload = udp_datagram(source, sport, destination, dport, data or b"data")
    else:
        payload = sctp_packet(sport, dport, event.split(","))
    return ip(source, destination, PROTOCOLS[protocol], payload, **words)


def from_client(packet, note):
    """The step that puts a packet on the clients' cable."""
    return {"send": "client", "note": note, "hex": packet.hex()}


def from_server(packet, server, note):
    """The step that puts a packet on the servers' cable, with the link address of server number `server`."""
    return {"send": "server", "server": server, "note": note, "hex": packet.hex()}


def varying(packet_in, packet_out):
    """The fields of a packet that left which the reference kernel draws at random: `[offset, length, name]` each.

    The kernel draws the identification of packets it makes itself without DF, the flow label of IPv6 packets it makes,
    the source port of GUE and with it the outer checksum.
    """
    raw = packet_out
    if raw[0] >> 4 == 4:
        head = (raw[0] & 15) * 4
        fields, made = [], raw[9] in (4, 41, 47) or raw[9] == UDP and is_gue(raw[head:])
        if made or raw[9] == ICMP and (packet_in[0] >> 4 != 4 or raw[4:6] != packet_in[4:6]):
            if not raw[6] & 0x40:
                fields += [[4, 2, "ip-id"], [10, 2, "ip-checksum"]]
        protocol = raw[9]
    else:
        head, fields, protocol = 40, [], raw[6]
        if protocol == ICMP6 and raw[8:24] != packet_in[8:24]:
            fields.append([1, 3, "flow-label"])
    if protocol == UDP and is_gue(raw[head:]):
        fields.append([head, 2, "udp-source-port"])
        if raw[head + 6 : head + 8] != b"\0\0":
            fields.append([head + 6, 2, "udp-checksum"])
    return fields


GUE_PORTS = (6080, 5555)


def is_gue(datagram):
    """True for a datagram to a port that the generator gives to GUE tunnels alone."""
    return len(datagram) > 8 and struct.unpack("!H", datagram[2:4])[0] in GUE_PORTS

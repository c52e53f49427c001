#!/usr/bin/env python3
"""Stream descriptions for all generators: read, checked, and made into frames. README.md says what the fields mean.

This is the reference: what TRex, pktgen and the benchmark on veth send is held to the frames that are made here.
As a program: `profiles.py list`, or `profiles.py frames NAME COUNT [inbound|outbound|opening]` for frames in hexadecimal.
"""

import dataclasses
import ipaddress
import itertools
import json
import os
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))

# Octets of a frame with its check sequence.
OCTETS_MIN, OCTETS_MAX = 64, 1518
CHECK_SEQUENCE_OCTETS = 4
# What a frame takes on the link beside its octets: preamble and gap.
LINK_OVERHEAD_OCTETS = 20
FLOWS_MAX = 1 << 20
WEIGHT_MAX = 1000
PROTOCOLS = {"tcp": 6, "udp": 17}
FLAGS = {"F": 0x01, "S": 0x02, "R": 0x04, "P": 0x08, "A": 0x10}
OPENINGS = ("none", "same", "syn")
DIRECTIONS = ("inbound", "outbound")
PAYLOAD = b"a lvx veth sample."
# Strides of the flow numbers, of which one shares no factor with the number of flows.
STRIDES = (7919, 7907)
RFC2544_OCTETS = (64, 128, 256, 512, 1024, 1280, 1518)


class Refused(Exception):
    """A description that cannot be used, and why."""


def need(condition, where, what):
    """Refuses unless the condition holds."""
    if not condition:
        raise Refused(f"{where}: {what}")


def whole(value, least, most):
    """Whether a value of JSON is a number within the bounds."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def read(path):
    """An object of a JSON file; a name that stands twice is refused."""

    def unique(pairs):
        names = [name for name, _ in pairs]
        need(len(names) == len(set(names)), path, "a name stands twice")
        return dict(pairs)

    try:
        with open(path, encoding="utf-8") as file:
            value = json.load(file, object_pairs_hook=unique)
    except (OSError, ValueError) as error:
        raise Refused(f"{path}: {error}") from error
    need(isinstance(value, dict), path, "not an object")
    return value


def only(value, names, where):
    """Refuses names that are unknown or missing."""
    for name in value:
        need(name in names, where, f"unknown name '{name}'")
    for name in names:
        need(name in value, where, f"'{name}' is missing")


def station(text, where):
    """Six octets of a link address."""
    parts = text.split(":") if isinstance(text, str) else []
    good = len(parts) == 6 and all(len(part) == 2 and set(part) <= set("0123456789abcdef") for part in parts)
    need(good, where, f"no link address: {text!r}")
    return bytes(int(part, 16) for part in parts)


def address(text, where):
    """An IPv4 address as a number."""
    try:
        return int(ipaddress.IPv4Address(text))
    except ValueError as error:
        raise Refused(f"{where}: {error}") from error


def endpoint(text, where):
    """Address and port as numbers."""
    host, _, port = str(text).partition(":")
    need(port.isdecimal() and 1 <= int(port) <= 65535, where, f"no address with a port: {text!r}")
    return address(host, where), int(port)


@dataclasses.dataclass(frozen=True)
class Network:
    """Who sends to whom: link addresses as six octets, IPv4 addresses and ports as numbers."""

    client_station: bytes
    director_station_in: bytes
    server_station: bytes
    director_station_out: bytes
    clients: int
    client_port: int
    service: tuple
    server: tuple


def load_network(path):
    """Reads a file like network.json."""
    value = read(path)
    only(value, [field.name for field in dataclasses.fields(Network)], path)
    stations = ("client_station", "director_station_in", "server_station", "director_station_out")
    made = {name: station(value[name], f"{path}: {name}") for name in stations}
    made.update({name: endpoint(value[name], f"{path}: {name}") for name in ("service", "server")})
    need(whole(value["client_port"], 1, 65535), path, "'client_port' is no port")
    made.update(clients=address(value["clients"], f"{path}: clients"), client_port=value["client_port"])
    return Network(**made)


@dataclasses.dataclass(frozen=True)
class Profile:
    """One description: `frames` are pairs of octets and weight, `flags` a number."""

    name: str
    about: str
    protocol: str
    flags: int
    frames: tuple
    clients: int
    ports: int
    opening: str
    directions: tuple
    network: Network

    @property
    def flows(self):
        """Flows in all."""
        return self.clients * self.ports

    def endpoint_of(self, flow):
        """Address and port of a flow's client."""
        return self.network.clients + flow // self.ports, self.network.client_port + flow % self.ports

    def pattern(self):
        """Octets of the frames in the order in which they repeat: weighted, and mixed as evenly as can be."""
        total = sum(weight for _, weight in self.frames)
        credit = [0] * len(self.frames)
        order = []
        for _ in range(total):
            credit = [have + weight for have, (_, weight) in zip(credit, self.frames)]
            best = credit.index(max(credit))
            credit[best] -= total
            order.append(self.frames[best][0])
        return order

    def order(self):
        """Flow numbers without end, each once in `flows`."""
        stride = STRIDES[1] if self.flows % STRIDES[0] == 0 else STRIDES[0]
        flow = 0
        while True:
            yield flow
            flow = (flow + stride) % self.flows

    def stream(self, direction="inbound"):
        """Frames without end, without check sequence."""
        pattern = self.pattern()
        for number, flow in enumerate(self.order()):
            yield self.frame(flow, pattern[number % len(pattern)], direction)

    def opening_stream(self):
        """Frames that open the flows, one of each; none where trials open them themselves."""
        if self.opening == "none":
            return
        octets, flags = (OCTETS_MIN, FLAGS["S"]) if self.opening == "syn" else (self.pattern()[0], None)
        for flow in itertools.islice(self.order(), self.flows):
            yield self.frame(flow, octets, flags=flags)

    def frame(self, flow, octets, direction="inbound", flags=None):
        """The frame of a flow, without check sequence: `octets` less 4."""
        network, client = self.network, self.endpoint_of(flow)
        if direction == "inbound":
            stations = network.director_station_in + network.client_station
            source, destination = client, network.service
        else:
            stations = network.director_station_out + network.server_station
            source, destination = network.server, client
        room = octets - CHECK_SEQUENCE_OCTETS - 14
        if self.protocol == "udp":
            header = struct.pack("!HHHH", source[1], destination[1], room - 20, 0)
        else:
            flags = self.flags if flags is None else flags
            acknowledged = 1 if flags & FLAGS["A"] else 0
            header = struct.pack("!HHIIBBHHH", source[1], destination[1], 1, acknowledged, 0x50, flags, 65535, 0, 0)
        # What TCP has in the shortest frame are no data, but what fills it up.
        bare = self.protocol == "tcp" and octets == OCTETS_MIN
        data = b"" if bare else fill(room - 20 - len(header))
        segment = with_checksum(header + data, source[0], destination[0], PROTOCOLS[self.protocol])
        ip = struct.pack(
            "!BBHHHBBHII", 0x45, 0, 20 + len(segment), 1, 0x4000, 64, PROTOCOLS[self.protocol], 0, source[0], destination[0]
        )
        ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
        frame = stations + b"\x08\x00" + ip + segment
        return frame + bytes(octets - CHECK_SEQUENCE_OCTETS - len(frame))

    def with_octets(self, octets):
        """The same with frames of one size."""
        where = f"{self.name} with {octets} octets"
        return dataclasses.replace(self, frames=check_frames([{"octets": octets, "weight": 1}], self.flags, where))


def fill(octets):
    """So many octets of data."""
    return (PAYLOAD * (octets // len(PAYLOAD) + 1))[:octets]


def checksum(octets):
    """The Internet checksum (RFC 1071)."""
    total = int.from_bytes(octets + b"\0" * (len(octets) % 2), "big") % 0xFFFF
    # All octets zero is the one sum that is zero; every other that the remainder says is zero is all ones.
    return 0xFFFF - (total or (0xFFFF if any(octets) else 0))


def with_checksum(segment, source, destination, protocol):
    """A TCP or UDP segment with its checksum."""
    at = 16 if protocol == 6 else 6
    pseudo = struct.pack("!IIBBH", source, destination, 0, protocol, len(segment))
    value = checksum(pseudo + segment)
    if protocol == 17 and value == 0:
        value = 0xFFFF
    return segment[:at] + struct.pack("!H", value) + segment[at + 2 :]


def check_frames(value, flags, where):
    """Pairs of octets and weight."""
    need(isinstance(value, list) and value, where, "'frames' is no list of sizes")
    for size in value:
        need(isinstance(size, dict), where, "a size is no object")
        only(size, ["octets", "weight"], where)
        need(whole(size["octets"], OCTETS_MIN, OCTETS_MAX), where, f"'octets' is from {OCTETS_MIN} to {OCTETS_MAX}")
        need(whole(size["weight"], 1, WEIGHT_MAX), where, f"'weight' is from 1 to {WEIGHT_MAX}")
        need(not flags & FLAGS["S"] or size["octets"] == OCTETS_MIN, where, "a SYN has no data: 64 octets")
    return tuple((size["octets"], size["weight"]) for size in value)


def load(path, network=None):
    """Reads a description; without `network` (a path) with the file network.json beside it."""
    value = read(path)
    names = ["about", "protocol", "frames", "clients", "ports", "opening", "directions"]
    only(value, names + (["flags"] if value.get("protocol") == "tcp" else []), path)
    need(value["protocol"] in tuple(PROTOCOLS), path, "'protocol' is tcp or udp")
    letters = value.get("flags", "")
    good = isinstance(letters, str) and set(letters) <= set(FLAGS) and len(letters) == len(set(letters))
    need(good, path, f"'flags' are letters of {''.join(FLAGS)}, each once")
    flags = sum(FLAGS[letter] for letter in letters)
    need(isinstance(value["about"], str), path, "'about' is no text")
    need(whole(value["clients"], 1, FLOWS_MAX), path, f"'clients' is from 1 to {FLOWS_MAX}")
    need(whole(value["ports"], 1, FLOWS_MAX), path, f"'ports' is from 1 to {FLOWS_MAX}")
    need(value["clients"] * value["ports"] <= FLOWS_MAX, path, f"at most {FLOWS_MAX} flows")
    need(value["opening"] in OPENINGS, path, f"'opening' is one of {', '.join(OPENINGS)}")
    need(value["opening"] != "syn" or value["protocol"] == "tcp", path, "only TCP opens with a SYN")
    directions = value["directions"]
    need(directions in (["inbound"], ["inbound", "outbound"]), path, "'directions' is inbound, or inbound and outbound")
    need(len(directions) == 1 or value["opening"] != "none", path, "replies need connections: 'opening' is none")
    made = load_network(network or os.path.join(os.path.dirname(os.path.abspath(path)), "network.json"))
    need(made.client_port + value["ports"] <= 65536, path, "ports above 65535")
    need(made.clients + value["clients"] <= 1 << 32, path, "addresses above 255.255.255.255")
    return Profile(
        name=os.path.basename(path).removesuffix(".json"),
        about=value["about"],
        protocol=value["protocol"],
        flags=flags,
        frames=check_frames(value["frames"], flags, path),
        clients=value["clients"],
        ports=value["ports"],
        opening=value["opening"],
        directions=tuple(directions),
        network=made,
    )


def paths():
    """Files of all descriptions here, by name."""
    names = sorted(name for name in os.listdir(HERE) if name.endswith(".json") and name != "network.json")
    return {name.removesuffix(".json"): os.path.join(HERE, name) for name in names}


def find(word, network=None):
    """A description by its name here or by its path."""
    known = paths()
    if word in known:
        return load(known[word], network)
    if not os.path.exists(word):
        raise Refused(f"no profile '{word}'; there are {', '.join(known)}, or the path of a file")
    return load(word, network)


def main(words):
    """Lists descriptions, or prints frames."""
    if words == ["list"]:
        for name, path in paths().items():
            print(f"{name:<12} {load(path).about}")
        return 0
    if len(words) in (3, 4) and words[0] == "frames" and words[2].isdecimal():
        profile = find(words[1])
        direction = words[3] if len(words) == 4 else "inbound"
        need(direction in (*DIRECTIONS, "opening"), "profiles.py", f"no direction '{direction}'")
        stream = profile.opening_stream() if direction == "opening" else profile.stream(direction)
        for frame in itertools.islice(stream, int(words[2])):
            print(frame.hex())
        return 0
    print(__doc__.splitlines()[-1], file=sys.stderr)
    return 2


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Refused as why:
        sys.exit(f"profiles.py: {why}")

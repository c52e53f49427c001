"""What the profiles share: the draw of a case, and pools to draw from.

A case has the form of the recorded ones (`tests/golden`): `name`, `family`, `net`, `steps`. It is a function of
profile, seed and number alone.
"""

import ipaddress
import random

import packets

PROFILES = {}
DEFAULT_PROFILES = []


def profile(name, default=True):
    """Registers a function from a `Draw` to the steps of a case (or `(steps, net)`)."""

    def register(function):
        PROFILES[name] = function
        if default:
            DEFAULT_PROFILES.append(name)
        return function

    return register


class Draw(random.Random):
    """Chance with the words that generators need."""

    def often(self, probability):
        """True with this probability."""
        return self.random() < probability

    def weighted(self, choices):
        """A key of `{key: weight}`."""
        return self.choices(list(choices), list(choices.values()))[0]

    def some(self, values, most):
        """Between none and `most` different ones, in random order."""
        values = list(values)
        return self.sample(values, self.randint(0, min(most, len(values))))


def case(name, seed, number):
    """Case `number` of a profile and seed."""
    made = PROFILES[name](Draw(f"{seed}/{name}/{number}"))
    steps, net = made if isinstance(made, tuple) else (made, {})
    return {"name": f"{name}-{seed}-{number}", "family": name, "seed": seed, "number": number, "net": net, "steps": steps}


def command(text, stdin=None):
    """The step of a command, from its words or a line without quotes."""
    return {"argv": text.split() if isinstance(text, str) else list(text), "stdin": stdin}


class Place:
    """Addresses of one family in the network of the cases."""

    def __init__(self, draw, version):
        self.draw, self.version = draw, version

    def vip(self, number):
        """A virtual address."""
        return f"10.9.0.{number}" if self.version == 4 else f"fd00:9::{number:x}"

    def server(self, number):
        """Real server `number`, whose link address tells the number."""
        # The oracle gives link addresses to fd00:2::N with N in decimal digits, read as hexadecimal.
        return f"10.2.0.{number}" if self.version == 4 else f"fd00:2::{number}"

    def client(self):
        """A client somewhere behind the router."""
        draw = self.draw
        if self.version == 4:
            return f"10.1.{draw.randrange(4)}.{draw.randrange(1, 255)}"
        # As the listings write it.
        return str(ipaddress.ip_address(f"fd00:1::{draw.randrange(4):x}:{draw.randrange(1, 0xFFFF):x}"))


SERVICE_OPTION = {"tcp": "-t", "udp": "-u", "sctp": "--sctp-service"}


class Flow:
    """A client's connection to a virtual service, and its packets."""

    def __init__(self, protocol, client, port, vip, vport):
        self.protocol, self.client, self.port, self.vip, self.vport = protocol, client, port, vip, vport

    @property
    def name(self):
        """As the connection listing names the client's side."""
        return packets.endpoint(self.client, self.port)

    def packet(self, event, **words):
        """A packet from the client."""
        made = packets.transport(self.protocol, self.client, self.port, self.vip, self.vport, event, **words)
        note = f"{self.protocol} {self.name} > {packets.endpoint(self.vip, self.vport)} {event}"
        return packets.from_client(made, note)

    def answer(self, server, sport, number, event, **words):
        """A packet of a real server to the client; `number` is whose link address it has."""
        made = packets.transport(self.protocol, server, sport, self.client, self.port, event, **words)
        note = f"{self.protocol} {packets.endpoint(server, sport)} > {self.name} {event}"
        return packets.from_server(made, number, note)

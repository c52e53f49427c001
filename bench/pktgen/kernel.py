"""Drives the kernel's packet generator through its files (Documentation/networking/pktgen.rst).

A profile becomes lines for these files (`lines_for`), which is all that is said to the kernel; `Generator` writes them,
starts, stops and reads what was sent. What pktgen cannot send is refused: it knows no TCP, and its flows are drawn at
random, so that it cannot open each flow once.
"""

import argparse
import ipaddress
import os
import re
import sys
import threading
import time

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "profiles"))

import profiles

PROC = "/proc/net/pktgen"
MISSING = "the kernel has no packet generator here (modprobe pktgen; CONFIG_NET_PKTGEN)"


def address(number):
    """Its text."""
    return str(ipaddress.IPv4Address(number))


def station(octets):
    """Its text."""
    return ":".join(f"{octet:02x}" for octet in octets)


def lines_for(profile, direction, rate):
    """Lines for a device's file: what to send, `rate` frames a second, or as many as go with None."""
    profiles.need(profile.protocol == "udp", profile.name, "pktgen sends no TCP; use TRex or the benchmark on veth")
    network = profile.network
    # With drawn numbers the upper ends are not reached.
    addresses = (address(network.clients), address(network.clients + profile.clients))
    ports = (network.client_port, network.client_port + profile.ports)
    if direction == "inbound":
        own, their = network.client_station, network.director_station_in
        client, other, (fixed, fixed_port) = "src", "dst", network.service
    else:
        own, their = network.server_station, network.director_station_out
        client, other, (fixed, fixed_port) = "dst", "src", network.server
    sizes = [(octets - profiles.CHECK_SEQUENCE_OCTETS, weight) for octets, weight in profile.frames]
    lines = ["count 0", "clone_skb 0", "delay 0", f"pkt_size {sizes[0][0]}"]
    if len(sizes) > 1:
        lines.append("imix_weights " + " ".join(f"{octets},{weight}" for octets, weight in sizes))
    if rate is not None:
        lines.append(f"ratep {max(1, round(rate))}")
    lines += [
        f"src_mac {station(own)}",
        f"dst_mac {station(their)}",
        f"{client}_min {addresses[0]}",
        f"{client}_max {addresses[1]}",
        f"udp_{client}_min {ports[0]}",
        f"udp_{client}_max {ports[1]}",
        f"{other}_min {address(fixed)}",
        f"{other}_max {address(fixed)}",
        f"udp_{other}_min {fixed_port}",
        f"udp_{other}_max {fixed_port}",
        "flag UDPCSUM",
    ]
    # One address or port is no range to draw from.
    if profile.clients > 1:
        lines.append(f"flag IP{client.upper()}_RND")
    if profile.ports > 1:
        lines.append(f"flag UDP{client.upper()}_RND")
    return lines


class Generator:
    """The kernel's generator with one thread of it for each interface."""

    def __init__(self, proc=PROC):
        self.proc = proc
        self.devices = []

    def is_there(self):
        """Whether the kernel has it."""
        return os.path.isdir(self.proc)

    def threads(self):
        """Names of its threads, one a processor."""
        names = [name for name in os.listdir(self.proc) if name.startswith("kpktgend_")]
        return sorted(names, key=lambda name: int(name.rsplit("_", 1)[1]))

    def write(self, name, line):
        """One line to one file."""
        path = os.path.join(self.proc, name)
        try:
            with open(path, "w", encoding="ascii") as file:
                file.write(line + "\n")
        except OSError as error:
            raise profiles.Refused(f"{path}: '{line}': {error.strerror}") from error

    def prepare(self, loads):
        """Takes (interface, lines) for each interface that sends."""
        threads = self.threads()
        profiles.need(len(loads) <= len(threads), self.proc, f"has {len(threads)} threads, {len(loads)} are needed")
        for thread in threads:
            self.write(thread, "rem_device_all")
        self.devices = []
        for thread, (interface, lines) in zip(threads, loads):
            self.write(thread, f"add_device {interface}")
            for line in lines:
                self.write(interface, line)
            self.devices.append(interface)

    def run(self, seconds):
        """Sends for so long; what each interface sent and for how many seconds."""
        # `start` returns when all is sent, so somebody else has to say stop.
        failures = []

        def start():
            try:
                self.write("pgctrl", "start")
            except profiles.Refused as why:
                failures.append(why)

        sender = threading.Thread(target=start)
        begin = time.monotonic()
        sender.start()
        try:
            time.sleep(seconds)
        finally:
            self.write("pgctrl", "stop")
            sender.join()
        if failures:
            raise failures[0]
        elapsed = time.monotonic() - begin
        return [self.result(interface, elapsed) for interface in self.devices]

    def result(self, interface, elapsed):
        """Frames sent, and seconds: the kernel's own where it says so, in its `Result:` line."""
        with open(os.path.join(self.proc, interface), encoding="ascii") as file:
            text = file.read()
        sent = re.search(r"pkts-sofar: (\d+)", text)
        profiles.need(sent, interface, "pktgen does not say what it sent")
        took = re.search(r"Result: OK: (\d+)\(", text)
        return int(sent[1]), int(took[1]) / 1e6 if took else elapsed

    def clear(self):
        """Gives the interfaces back."""
        for thread in self.threads():
            self.write(thread, "rem_device_all")


def main():
    """Prints the lines for a profile, or sends it."""
    parser = argparse.ArgumentParser(description="Sends a profile (bench/profiles) by the kernel's packet generator.")
    parser.add_argument("profile", help="a name of bench/profiles, or a path")
    parser.add_argument("interface", help="interface towards the director's clients' side")
    parser.add_argument("--servers", metavar="IF", help="interface towards the servers' side, for replies")
    parser.add_argument("--network", metavar="FILE", help="link addresses and addresses (default: network.json there)")
    parser.add_argument("--rate", type=float, metavar="PPS", help="frames a second of each direction (default: all that go)")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long (default: %(default)s)")
    parser.add_argument("--print", action="store_true", dest="show", help="print what would be written, and do nothing")
    arguments = parser.parse_args()
    try:
        profile = profiles.find(arguments.profile, arguments.network)
        sides = {"inbound": arguments.interface, "outbound": arguments.servers}
        profiles.need(
            len(profile.directions) == 1 or arguments.servers, profile.name, "replies need --servers IF"
        )
        loads = [(sides[direction], lines_for(profile, direction, arguments.rate)) for direction in profile.directions]
        if arguments.show:
            for interface, lines in loads:
                print(f"add_device {interface}", *(f"{interface}: {line}" for line in lines), sep="\n")
            return 0
        generator = Generator()
        if not generator.is_there():
            print(f"skipped: {MISSING}")
            return 0
        generator.prepare(loads)
        try:
            for interface, (sent, seconds) in zip(generator.devices, generator.run(arguments.seconds)):
                print(f"{interface}: {sent} frames in {seconds:.3f} s, {sent / seconds:.0f} a second")
        finally:
            generator.clear()
    except profiles.Refused as why:
        print(f"pktgen: {why}", file=sys.stderr)
        return 1
    return 0

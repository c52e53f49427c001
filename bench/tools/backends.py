"""Generators of trials: our own on veth, TRex, the kernel's pktgen. Each takes the profiles of bench/profiles.

A back-end has `why_not()` (None, or why it cannot run here), `maximum(job)` (frames a second to begin with) and
`trial(job, rate, seconds, latency)`. Add a class and a row of BACKENDS for another generator.
"""

import dataclasses
import json
import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.realpath(__file__))
for folder in ("profiles", "pktgen", "trex"):
    sys.path.insert(0, os.path.join(HERE, "..", folder))

import build
import kernel
import lvx
import profiles
from search import Trial, line_rate

# Names of times, in the order of reports.
TIMES = ("min", "mean", "p50", "p99", "p99.9", "max")


class Skipped(Exception):
    """It cannot run here, and why."""


class Failed(Exception):
    """It could not run a trial."""


@dataclasses.dataclass(frozen=True)
class Job:
    """A profile, its file, and the one size of its frames, or None for the sizes of the file."""

    profile: profiles.Profile
    path: str
    octets: int | None

    def mean_octets(self):
        """Average over the mix."""
        total = sum(weight for _, weight in self.profile.frames)
        return sum(octets * weight for octets, weight in self.profile.frames) / total


class Veth:
    """The benchmark on veth: everything on one machine, in network namespaces."""

    def __init__(self, options):
        self.subject = options.subject
        self.program = options.program

    def why_not(self):
        """Needs root; the benchmark itself says what else."""
        return None if os.geteuid() == 0 else "needs root, for network namespaces"

    def maximum(self, job):
        """What the generator can send at all."""
        return self.trial(job, None, 1.0, False).rate

    def trial(self, job, rate, seconds, latency):
        """One run of the program."""
        if self.program is None:
            self.program = build.bench("veth")
        words = [self.program, "--profile", job.path, "--subject", self.subject, "--seconds", str(seconds), "--json"]
        words += ["--rate", str(rate)] if rate is not None else []
        words += ["--octets", str(job.octets)] if job.octets is not None else []
        words += ["--latency"] if latency else []
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Failed(f"veth: {done.stderr.strip()}")
        try:
            found = json.loads(done.stdout.splitlines()[-1])
        except (IndexError, ValueError) as error:
            raise Failed(f"veth: no result in {done.stdout!r}") from error
        if "skipped" in found:
            raise Skipped(found["skipped"])
        times = found["latency_us"]
        if times:
            times = {name: times[name] for name in TIMES}
        directions = len(job.profile.directions)
        return Trial(found["sent"], found["received"], found["seconds"], directions, times)


class Kernel:
    """pktgen here, the director elsewhere; what comes back is counted at the other interface."""

    def __init__(self, options, generator=None, statistics="/sys/class/net"):
        self.sides = {"inbound": options.interface, "outbound": options.servers}
        self.gigabits = options.link
        self.generator = generator or kernel.Generator()
        self.statistics = statistics
        self.settle_seconds = 2.0

    def why_not(self):
        """Needs the module and both interfaces."""
        if not self.generator.is_there():
            return kernel.MISSING
        if not all(self.sides.values()):
            raise profiles.Refused("pktgen needs --interface IF (clients' side) and --servers IF")
        return None

    def maximum(self, job):
        """Line rate."""
        return line_rate(job.mean_octets(), self.gigabits)

    def arrived(self, directions):
        """Frames that have come in at the far ends."""
        total = 0
        for direction in directions:
            side = self.sides["outbound" if direction == "inbound" else "inbound"]
            with open(os.path.join(self.statistics, side, "statistics", "rx_packets"), encoding="ascii") as file:
                total += int(file.read())
        return total

    def trial(self, job, rate, seconds, latency):
        """One run; pktgen takes no times."""
        if latency:
            raise Failed("pktgen takes no times; use --backend trex or veth")
        directions = job.profile.directions
        loads = [(self.sides[one], kernel.lines_for(job.profile, one, rate)) for one in directions]
        self.generator.prepare(loads)
        try:
            before = self.arrived(directions)
            sent = self.generator.run(seconds)
            # RFC 2544 section 23: two seconds for frames that still are on their way.
            time.sleep(self.settle_seconds)
            received = self.arrived(directions) - before
        finally:
            self.generator.clear()
        return Trial(sum(frames for frames, _ in sent), received, max(took for _, took in sent), len(directions))


class Trex:
    """TRex's server, asked through its Python client."""

    ports = (0, 1)

    def __init__(self, options):
        self.server = options.server
        self.gigabits = options.link
        self.client = None
        self.opened = None

    def why_not(self):
        """Needs TRex's modules and a server."""
        try:
            api = lvx.api()
        except ImportError:
            return "TRex's Python modules are not in PYTHONPATH (bench/trex/README.md)"
        self.client = api.STLClient(server=self.server)
        try:
            self.client.connect()
            self.client.reset(ports=list(self.ports))
        except api.STLError as error:
            return f"no server of TRex at {self.server}: {error}"
        return None

    def maximum(self, job):
        """Line rate."""
        return line_rate(job.mean_octets(), self.gigabits)

    def play(self, streams, multiplier, seconds):
        """Sends streams (by port) and waits until the last frame is in."""
        self.client.remove_all_streams(ports=list(self.ports))
        busy = [port for port, made in streams.items() if made]
        for port in busy:
            self.client.add_streams(streams[port], ports=[port])
        self.client.clear_stats(ports=list(self.ports))
        words = {} if seconds is None else {"duration": seconds}
        self.client.start(ports=busy, mult=str(multiplier), force=True, **words)
        # RFC 2544 section 23: two seconds for frames that still are on their way.
        self.client.wait_on_traffic(ports=busy, timeout=(seconds or 60) + 60, rx_delay_ms=2000)
        return self.client.get_stats()

    def trial(self, job, rate, seconds, latency):
        """One run; flows are opened before the first and again for another profile."""
        api = lvx.api()
        key = (job.path, job.octets)
        if self.opened != key:
            opening = lvx.opening_streams(api, job.profile)
            if opening:
                self.play({0: opening}, 1, None)
            self.opened = key
        sides = dict(zip(self.ports, profiles.DIRECTIONS))
        streams = {port: lvx.measuring_streams(api, job.profile, side, latency) for port, side in sides.items()}
        stats = self.play(streams, rate, seconds)
        sent = sum(stats[port]["opackets"] for port in self.ports)
        busy = [port for port in self.ports if streams[port]]
        received = sum(stats[1 - port]["ipackets"] for port in busy)
        times = None
        if latency:
            times = times_of(stats["latency"][lvx.LATENCY_GROUP]["latency"])
        return Trial(sent, received, seconds, len(busy), times)


def times_of(found):
    """Microseconds of TRex's record of a packet group, percentiles from its histogram (lower ends of its ranges)."""
    histogram = sorted((int(value), count) for value, count in found["histogram"].items())
    total = sum(count for _, count in histogram)

    def percentile(share):
        seen = 0
        for value, count in histogram:
            seen += count
            if seen >= share * total:
                return float(value)
        return float(found["total_max"])

    values = (
        float(found["total_min"]),
        float(found["average"]),
        *(percentile(share) for share in (0.5, 0.99, 0.999)),
        float(found["total_max"]),
    )
    return dict(zip(TIMES, values))


BACKENDS = {"veth": Veth, "trex": Trex, "pktgen": Kernel}

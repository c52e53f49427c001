"""scripts/rfc2544 over simulated devices and generators: python3 tests/bench_tools/test_rfc2544.py"""

import contextlib
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import types
import unittest

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")
sys.path.insert(0, os.path.join(ROOT, "bench", "tools"))
sys.path.insert(0, HERE)

import backends
import profiles
import rfc2544
import search
import trex_stub


class Device:
    """Carries `capacity` frames a second; its generator sends at most `limit`. With noise, some trials lose a frame."""

    def __init__(self, capacity, limit=1e9, noise=0.0, seed=1, seconds=1.0):
        self.capacity, self.limit, self.noise, self.seconds = capacity, limit, noise, seconds
        self.random = random.Random(seed)
        self.asked = []

    def __call__(self, rate):
        self.asked.append(rate)
        sent = round(min(rate, self.limit) * self.seconds)
        received = min(sent, round(self.capacity * self.seconds))
        if self.random.random() < self.noise:
            received = min(received, sent - 1)
        return search.Trial(sent, received, self.seconds, 1, {"p50": 10.0 + len(self.asked), "max": 20.0})


class Throughput(unittest.TestCase):
    def test_the_capacity_is_found_to_the_tolerance(self):
        for capacity in (1_234, 50_000, 333_333, 499_999, 999_999):
            for tolerance in (0.1, 0.01, 0.001):
                device = Device(capacity)
                found = search.throughput(device, 1_000_000, tolerance)
                self.assertLessEqual(found.rate, capacity + 1)
                self.assertGreaterEqual(found.rate, capacity - tolerance * 1_000_000 - 1)
                self.assertFalse(found.limited)
                self.assertEqual(found.trials, len(device.asked))

    def test_a_device_that_carries_all_needs_one_trial(self):
        device = Device(2_000_000)
        self.assertEqual(search.throughput(device, 1_000_000), search.Throughput(1_000_000, False, 1))

    def test_a_device_that_carries_nothing_has_none(self):
        found = search.throughput(Device(0), 1_000_000)
        self.assertEqual((found.rate, found.limited), (0.0, False))

    def test_the_limit_of_the_generator_is_said(self):
        found = search.throughput(Device(500_000, limit=300_000), 1_000_000)
        self.assertTrue(found.limited)
        self.assertAlmostEqual(found.rate, 300_000, delta=10_000)
        found = search.throughput(Device(200_000, limit=300_000), 1_000_000)
        self.assertFalse(found.limited)
        self.assertAlmostEqual(found.rate, 200_000, delta=10_000)

    def test_one_lost_frame_is_a_loss(self):
        self.assertEqual(search.throughput(Device(1e9, noise=1.0), 1000).rate, 0.0)

    def test_attempts_see_through_noise(self):
        def share(attempts):
            rates = [search.throughput(Device(500_000, noise=0.6, seed=seed), 1_000_000, 0.01, 0.0, attempts).rate for seed in range(40)]
            self.assertLessEqual(max(rates), 500_001, "noise never adds")
            return sum(rate > 480_000 for rate in rates) / len(rates)

        self.assertLess(share(1), 0.6)
        self.assertGreater(share(12), 0.9)

    def test_tolerated_loss(self):
        found = search.throughput(Device(500_000), 1_000_000, 0.001, 0.1)
        self.assertAlmostEqual(found.rate, 500_000 / 0.9, delta=1_100)

    def test_a_trial_that_sends_nothing_is_an_error(self):
        with self.assertRaises(search.SearchError):
            search.throughput(Device(1, limit=0), 1000)

    def test_more_received_than_sent_is_no_loss(self):
        trial = search.Trial(100, 103, 2.0, 2)
        self.assertEqual((trial.lost, trial.loss, trial.rate), (0, 0.0, 25.0))


class Others(unittest.TestCase):
    def test_latency_is_the_mean_of_the_trials(self):
        device = Device(1000)
        self.assertEqual(search.latency(device, 500, 3), {"p50": 12.0, "max": 20.0})
        self.assertEqual(device.asked, [500, 500, 500])
        with self.assertRaisesRegex(search.SearchError, "no times"):
            search.latency(lambda rate: search.Trial(1, 1, 1.0), 1, 2)

    def test_the_curve_ends_after_two_rates_without_loss(self):
        points = search.loss_curve(Device(650_000), 1_000_000)
        self.assertEqual([percent for percent, _, _ in points], [100, 90, 80, 70, 60, 50])
        self.assertAlmostEqual(points[0][2], 35.0)
        self.assertAlmostEqual(points[3][2], 100 * 50 / 700)
        self.assertEqual([loss for _, _, loss in points[4:]], [0.0, 0.0])

    def test_the_curve_of_a_device_that_loses_all(self):
        points = search.loss_curve(Device(0), 1000)
        self.assertEqual([percent for percent, _, _ in points], list(range(100, 0, -10)))
        self.assertEqual({loss for _, _, loss in points}, {100.0})

    def test_line_rate(self):
        # RFC 2544, appendix B: 64 octets at 10 Mbit/s.
        self.assertEqual(int(search.line_rate(64, 0.01)), 14880)
        self.assertEqual(int(search.line_rate(1518, 0.01)), 812)


class Simulated:
    """A back-end over a device."""

    capacity = 400_000
    reason = None

    def __init__(self, _):
        self.device = Device(self.capacity)

    def why_not(self):
        return self.reason

    def maximum(self, _):
        return 1_000_000

    def trial(self, job, rate, seconds, latency):
        self.device.seconds = seconds
        return self.device(rate)


class Program(unittest.TestCase):
    def run_main(self, *words, registry=None):
        said, errors = [], io.StringIO()
        with contextlib.redirect_stderr(errors):
            try:
                status = rfc2544.main(list(words), said.append, registry)
            except SystemExit as end:
                status = end.code
        return status, "\n".join(said), errors.getvalue()

    def test_all_tests_and_the_report(self):
        with tempfile.TemporaryDirectory() as place:
            path = os.path.join(place, "report.json")
            status, said, _ = self.run_main(
                "all", "--sizes", "64,512", "--seconds", "1", "--latency-seconds", "1", "--latency-repeats", "2", "--json", path,
                registry={"veth": Simulated},
            )
            self.assertEqual(status, 0)
            self.assertIn("not as in RFC 2544: trials of 1 s instead of 60", said)
            with open(path, encoding="utf-8") as file:
                report = json.load(file)
        self.assertEqual([result["octets"] for result in report["results"]], [64, 512])
        for result in report["results"]:
            self.assertAlmostEqual(result["throughput"]["pps"], 400_000, delta=10_000)
            self.assertEqual(result["loss"][0]["percent"], 100)
            self.assertIn("p50", result["latency_us"])

    def test_the_defaults_are_those_of_the_rfc(self):
        options = rfc2544.parse(["all"])
        self.assertEqual(rfc2544.departures(options), [])
        self.assertEqual(rfc2544.parse(["loss", "--sizes", "rfc"]).sizes, [64, 128, 256, 512, 1024, 1280, 1518])

    def test_what_cannot_run_is_skipped_or_refused(self):
        registry = {"veth": type("No", (Simulated,), {"reason": "no device"})}
        self.assertEqual(self.run_main("loss", registry=registry)[:2], (0, "skipped: no device"))
        self.assertEqual(self.run_main("loss", "--require", registry=registry)[0], 2)

    def test_wrong_usage(self):
        for words in (
            [], ["nonsense"], ["all", "--backend", "x"], ["all", "--sizes", "63"], ["all", "--sizes", "a"],
            ["all", "--seconds", "0"], ["all", "--attempts", "0"], ["all", "--tolerance", "2"], ["all", "--subject", "x"],
            ["all", "--profile", "nonsense"], ["all", "--profile", "tcp-syn", "--sizes", "128"],
            ["all", "--network", "x.json"], ["all", "--backend", "trex", "--network", "/nonexistent"],
        ):
            status, _, errors = self.run_main(*words, registry={"veth": Simulated})
            self.assertEqual(status, 2, words)
            self.assertTrue(errors, words)
        script = os.path.join(ROOT, "scripts", "rfc2544")
        self.assertEqual(subprocess.run([script, "--help"], capture_output=True, check=False).returncode, 0)

    def test_a_trial_that_fails_is_told(self):
        class Broken(Simulated):
            def trial(self, *_):
                raise backends.Failed("no trial")

        self.assertEqual(self.run_main("loss", registry={"veth": Broken})[::2], (1, "rfc2544: no trial\n"))


class Generators(unittest.TestCase):
    def job(self, name, octets=None):
        profile = profiles.find(name)
        return backends.Job(profile.with_octets(octets) if octets else profile, profiles.paths()[name], octets)

    def veth(self, text, status=0):
        """A program that keeps its words and says `text`."""
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        program = os.path.join(place.name, "veth")
        with open(program, "w", encoding="ascii") as file:
            file.write(f'#!/bin/sh\necho "$@" >{place.name}/words\ncat {place.name}/text\necho why >&2\nexit {status}\n')
            os.fchmod(file.fileno(), 0o755)
        with open(os.path.join(place.name, "text"), "w", encoding="ascii") as file:
            file.write(text)
        self.words = os.path.join(place.name, "words")
        return backends.Veth(types.SimpleNamespace(subject="dr", program=program))

    def test_veth_asks_the_benchmark(self):
        answer = {"sent": 1000, "received": 990, "seconds": 2.0, "latency_us": dict({name: 5.0 for name in backends.TIMES}, samples=9)}
        backend = self.veth("something else\n" + json.dumps(answer) + "\n")
        trial = backend.trial(self.job("nat-both", 128), 1500.0, 2.0, True)
        self.assertEqual((trial.lost, trial.rate), (10, 250.0))
        self.assertEqual(list(trial.latency_us), list(backends.TIMES))
        with open(self.words, encoding="ascii") as file:
            words = file.read().split()
        self.assertEqual(words[words.index("--octets") + 1], "128")
        self.assertEqual(words[words.index("--rate") + 1], "1500.0")
        self.assertIn("--latency", words)
        self.assertEqual(backend.maximum(self.job("udp64")), 500.0)

    def test_veth_that_cannot(self):
        with self.assertRaisesRegex(backends.Skipped, "no rights"):
            self.veth('{"skipped": "no rights"}').trial(self.job("udp64"), 1.0, 1.0, False)
        with self.assertRaisesRegex(backends.Failed, "why"):
            self.veth("", status=1).trial(self.job("udp64"), 1.0, 1.0, False)
        for text in ("", "nonsense\n"):
            with self.assertRaisesRegex(backends.Failed, "no result"):
                self.veth(text).trial(self.job("udp64"), 1.0, 1.0, False)

    def test_pktgen_counts_at_the_far_end(self):
        with tempfile.TemporaryDirectory() as place:
            counters = {}
            for name in ("a", "b"):
                os.makedirs(os.path.join(place, name, "statistics"))
                counters[name] = os.path.join(place, name, "statistics", "rx_packets")

            def count(name, value):
                with open(counters[name], "w", encoding="ascii") as file:
                    file.write(f"{value}\n")

            class Generator:
                def is_there(self):
                    return True

                def prepare(self, loads):
                    self.loads = loads

                def run(self, seconds):
                    count("a", 190)
                    count("b", 300)
                    return [(200, seconds), (100, seconds)]

                def clear(self):
                    self.loads = None

            count("a", 100)
            count("b", 100)
            options = types.SimpleNamespace(interface="a", servers="b", link=10.0)
            backend = backends.Kernel(options, Generator(), place)
            backend.settle_seconds = 0
            self.assertIsNone(backend.why_not())
            trial = backend.trial(self.job("nat-both"), 100, 2.0, False)
            self.assertEqual((trial.sent, trial.received, trial.directions), (300, 290, 2))
            self.assertEqual(int(backend.maximum(self.job("udp64"))), 14880952)
            with self.assertRaisesRegex(backends.Failed, "no times"):
                backend.trial(self.job("udp64"), 1, 1.0, True)
            with self.assertRaisesRegex(profiles.Refused, "--servers"):
                backends.Kernel(types.SimpleNamespace(interface="a", servers=None, link=1.0), Generator(), place).why_not()

    def test_trex_opens_measures_and_takes_times(self):
        api = trex_stub.install()
        calls = []

        class STLError(Exception):
            pass

        class STLClient:
            def __init__(self, server):
                self.added = {}

            def connect(self):
                calls.append("connect")

            def reset(self, ports):
                calls.append("reset")

            def remove_all_streams(self, ports):
                self.added = {}

            def add_streams(self, streams, ports):
                self.added[ports[0]] = [stream.name for stream in streams]

            def clear_stats(self, ports):
                pass

            def start(self, ports, mult, force, duration=None):
                calls.append((dict(self.added), mult, duration))

            def wait_on_traffic(self, ports, timeout, rx_delay_ms):
                pass

            def get_stats(self):
                times = {"total_min": 1, "total_max": 90, "average": 7.5, "histogram": {"1": 900, "10": 95, "80": 5}}
                port = {"opackets": 1000, "ipackets": 900}
                return {0: port, 1: dict(port, ipackets=1000), "latency": {7: {"latency": times}}}

        api.STLError, api.STLClient = STLError, STLClient
        backend = backends.Trex(types.SimpleNamespace(server="127.0.0.1", link=40.0))
        self.assertIsNone(backend.why_not())
        trial = backend.trial(self.job("nat-both"), 5e6, 60.0, True)
        self.assertEqual((trial.sent, trial.received, trial.directions), (2000, 1900, 2))
        self.assertEqual(trial.latency_us, {"min": 1.0, "mean": 7.5, "p50": 1.0, "p99": 10.0, "p99.9": 80.0, "max": 90.0})
        self.assertEqual(calls[2], ({0: ["opening"]}, "1", None))
        measured = {0: ["inbound-64", "latency"], 1: ["outbound-64"]}
        self.assertEqual(calls[3], (measured, "5000000.0", 60.0))
        backend.trial(self.job("nat-both"), 1e6, 60.0, False)
        self.assertEqual(len(calls), 5, "flows are opened once")

        def refuse(self):
            raise STLError("nobody there")

        STLClient.connect = refuse
        self.assertIn("no server of TRex", backends.Trex(types.SimpleNamespace(server="x", link=1.0)).why_not())
        for name in [name for name in sys.modules if name.split(".")[0] == "trex"]:
            del sys.modules[name]
        self.assertIn("PYTHONPATH", backends.Trex(types.SimpleNamespace(server="x", link=1.0)).why_not())


unittest.main()

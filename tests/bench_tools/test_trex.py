"""bench/trex against the profiles, octet by octet, without TRex: python3 tests/bench_tools/test_trex.py"""

import contextlib
import io
import itertools
import os
import sys
import unittest

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
for folder in ("trex", "profiles"):
    sys.path.insert(0, os.path.join(HERE, "..", "..", "bench", folder))
sys.path.insert(0, HERE)

import lvx
import profiles
import trex_stub

# Frames of each stream that are looked at; all flows of the small profiles.
COUNT = 1100


def streams(*words, direction=0):
    return lvx.register().get_streams(direction=direction, tunables=list(words), port_id=direction)


def flow_of(profile, frame, direction):
    """The flow that a frame's client is of."""
    address_at, port_at = (26, 34) if direction == "inbound" else (30, 36)
    address = int.from_bytes(frame[address_at : address_at + 4], "big") - profile.network.clients
    port = int.from_bytes(frame[port_at : port_at + 2], "big") - profile.network.client_port
    return address * profile.ports + port


class Streams(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        trex_stub.install()

    def test_every_profile_is_sent_octet_by_octet(self):
        for name in profiles.paths():
            profile = profiles.find(name)
            for number, direction in enumerate(profiles.DIRECTIONS):
                made = streams("--profile", name, direction=number)
                wanted = len(profile.frames) if direction in profile.directions else 0
                self.assertEqual(len(made), wanted, name)
                for stream, (octets, _) in zip(made, profile.frames):
                    seen = set()
                    for frame in itertools.islice(trex_stub.frames(stream), COUNT):
                        flow = flow_of(profile, frame, direction)
                        seen.add(flow)
                        self.assertEqual(frame, profile.frame(flow, octets, direction), f"{name} {flow}")
                    self.assertEqual(len(seen), min(COUNT, profile.flows), name)

    def test_flows_are_opened_once_each(self):
        for name in profiles.paths():
            profile = profiles.find(name)
            made = streams("--profile", name, "--part", "opening")
            self.assertEqual(streams("--profile", name, "--part", "opening", direction=1), [])
            if profile.opening == "none":
                self.assertEqual(made, [])
                continue
            (stream,) = made
            self.assertEqual(stream.mode.total_pkts, profile.flows)
            if profile.flows == 1024:
                sent = itertools.islice(trex_stub.frames(stream), profile.flows)
                self.assertEqual(sorted(sent), sorted(profile.opening_stream()), name)

    def test_shares_of_a_mix_add_up_to_one(self):
        rates = [stream.mode.pps for stream in streams("--profile", "imix")]
        self.assertEqual([round(rate * 12, 9) for rate in rates], [7, 4, 1])

    def test_frames_leave_as_they_are(self):
        for stream in streams("--profile", "tcp64"):
            self.assertTrue(stream.mac_src_override_by_pkt)
            self.assertEqual(stream.mac_dst_override_mode, 1)
            self.assertIs(stream.packet.remove_fcs, False, "padding stays")
            self.assertEqual(len(stream.packet.pkt_buffer), 60)

    def test_one_size(self):
        (stream,) = streams("--profile", "imix", "--octets", "512")
        self.assertEqual(len(stream.packet.pkt_buffer), 508)

    def test_times(self):
        *_, last = streams("--profile", "udp64", "--latency")
        self.assertEqual((last.flow_stats.pg_id, last.mode.pps), (lvx.LATENCY_GROUP, lvx.LATENCY_RATE))
        with self.assertRaisesRegex(profiles.Refused, "octets of data"):
            streams("--profile", "tcp64", "--latency")

    def test_another_network(self):
        path = os.path.join(HERE, "..", "..", "bench", "profiles", "network.json")
        self.assertEqual(len(streams("--network", path)), 1)
        with self.assertRaises(profiles.Refused):
            streams("--network", __file__)

    def test_unknown_words_are_refused(self):
        for words in (["--nonsense"], ["--part", "all"], ["--octets", "x"]):
            with self.assertRaises(SystemExit), contextlib.redirect_stderr(io.StringIO()):
                streams(*words)
        with self.assertRaises(profiles.Refused):
            streams("--profile", "nonsense")


class Import(unittest.TestCase):
    def test_the_profile_can_be_imported_without_trex(self):
        hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "trex"}
        try:
            self.assertTrue(callable(lvx.register().get_streams))
            with self.assertRaises(ImportError):
                lvx.api()
        finally:
            sys.modules.update(hidden)


unittest.main()

"""bench/pktgen with files in the kernel's place: python3 tests/bench_tools/test_pktgen.py"""

import os
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
BENCH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "bench")
for folder in ("pktgen", "profiles"):
    sys.path.insert(0, os.path.join(BENCH, folder))

import kernel
import profiles


class Files(kernel.Generator):
    """Keeps what is written in the order in which it is."""

    def __init__(self, place, threads=2):
        super().__init__(place)
        self.written = []
        for number in range(threads):
            open(os.path.join(place, f"kpktgend_{number}"), "w", encoding="ascii").close()

    def write(self, name, line):
        self.written.append((name, line))
        if line == "stop":
            for interface in self.devices:
                with open(os.path.join(self.proc, interface), "w", encoding="ascii") as file:
                    file.write("Current:\n     pkts-sofar: 1500  errors: 0\nResult: OK: 2000000(c1+d1) usec, 1500 (60byte,0frags)\n")


class Lines(unittest.TestCase):
    def test_a_udp_profile_is_said_as_it_stands(self):
        self.assertEqual(
            kernel.lines_for(profiles.find("udp64"), "inbound", 1234.6),
            [
                "count 0", "clone_skb 0", "delay 0", "pkt_size 60", "ratep 1235",
                "src_mac 02:00:00:00:01:01", "dst_mac 02:00:00:00:01:fe",
                "src_min 10.64.0.0", "src_max 10.64.0.64", "udp_src_min 1024", "udp_src_max 1040",
                "dst_min 10.77.9.1", "dst_max 10.77.9.1", "udp_dst_min 5000", "udp_dst_max 5000",
                "flag UDPCSUM", "flag IPSRC_RND", "flag UDPSRC_RND",
            ],
        )

    def test_replies_draw_their_destination(self):
        lines = kernel.lines_for(profiles.find("nat-both"), "outbound", None)
        for line in ("dst_mac 02:00:00:00:02:fe", "src_min 10.77.2.1", "udp_src_min 6000", "dst_min 10.64.0.0",
                     "udp_dst_max 1040", "flag IPDST_RND", "flag UDPDST_RND"):
            self.assertIn(line, lines)
        self.assertFalse([line for line in lines if line.startswith("ratep")])

    def test_a_mix_has_weights(self):
        self.assertIn("imix_weights 60,7 590,4 1514,1", kernel.lines_for(profiles.find("imix"), "inbound", None))

    def test_tcp_is_refused(self):
        for name in ("tcp64", "tcp-syn"):
            with self.assertRaisesRegex(profiles.Refused, "no TCP"):
                kernel.lines_for(profiles.find(name), "inbound", None)

    def test_every_udp_profile_can_be_said(self):
        for name in profiles.paths():
            profile = profiles.find(name)
            if profile.protocol == "udp":
                for direction in profile.directions:
                    self.assertTrue(kernel.lines_for(profile, direction, 1))


class Run(unittest.TestCase):
    def test_a_run_says_what_was_sent(self):
        with tempfile.TemporaryDirectory() as place:
            generator = Files(place)
            profile = profiles.find("nat-both")
            generator.prepare([("eth2", kernel.lines_for(profile, "inbound", 10)), ("eth3", kernel.lines_for(profile, "outbound", 10))])
            self.assertEqual(generator.run(0.01), [(1500, 2.0), (1500, 2.0)])
            generator.clear()
            self.assertIn(("kpktgend_0", "add_device eth2"), generator.written)
            self.assertIn(("kpktgend_1", "add_device eth3"), generator.written)
            self.assertEqual(generator.written[:2], [("kpktgend_0", "rem_device_all"), ("kpktgend_1", "rem_device_all")])
            self.assertLess(generator.written.index(("pgctrl", "start")), generator.written.index(("pgctrl", "stop")))
            self.assertEqual(generator.written[-1], ("kpktgend_1", "rem_device_all"))

    def test_more_interfaces_than_threads(self):
        with tempfile.TemporaryDirectory() as place:
            with self.assertRaisesRegex(profiles.Refused, "has 1 threads, 2 are needed"):
                Files(place, threads=1).prepare([("a", []), ("b", [])])

    def test_the_kernels_refusal_is_told(self):
        with tempfile.TemporaryDirectory() as place:
            generator = kernel.Generator(place)
            with self.assertRaisesRegex(profiles.Refused, "'count 0'"):
                generator.write("missing/eth0", "count 0")

    def test_the_program(self):
        def program(*words):
            return subprocess.run([os.path.join(BENCH, "pktgen", "pktgen"), *words], capture_output=True, text=True, check=False)

        shown = program("udp64", "eth2", "--print")
        self.assertIn("eth2: pkt_size 60\n", shown.stdout)
        self.assertEqual(program("udp64").returncode, 2)
        self.assertIn("no TCP", program("tcp64", "eth2", "--print").stderr)
        self.assertIn("replies need --servers", program("nat-both", "eth2", "--print").stderr)
        if not os.path.isdir(kernel.PROC):
            self.assertIn("skipped: the kernel has no packet generator", program("udp64", "eth2").stdout)


unittest.main()

"""Descriptions of streams: python3 tests/bench_tools/test_profiles.py"""

import itertools
import json
import os
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
PROFILES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "bench", "profiles")
sys.path.insert(0, PROFILES)

import profiles


class Frames(unittest.TestCase):
    def test_the_shortest_udp_frame_literally(self):
        frame = next(profiles.find("udp64").stream())
        self.assertEqual(
            frame.hex(" ", 2).replace(" ", ""),
            "0200000001fe" "020000000101" "0800"
            "4500002e" "00014000" "4011" "1d31" "0a400000" "0a4d0901"
            "0400" "1388" "001a" "42a4"
            "61206c767820766574682073616d706c652e",
        )

    def test_the_syn_literally(self):
        frame = next(profiles.find("tcp-syn").stream())
        self.assertEqual(
            frame.hex(),
            "0200000001fe" "020000000101" "0800"
            "45000028" "00014000" "4006" "1d42" "0a400000" "0a4d0901"
            "0400" "1388" "00000001" "00000000" "5002" "ffff" "7acc" "0000"
            "000000000000",
        )

    def test_checksums_are_right_in_every_profile(self):
        for name in profiles.paths():
            profile = profiles.find(name)
            for direction in profile.directions:
                for frame in itertools.islice(profile.stream(direction), 40):
                    end = 14 + int.from_bytes(frame[16:18], "big")
                    self.assertEqual(profiles.checksum(frame[14:34]), 0)
                    pseudo = frame[26:34] + bytes([0, frame[23]]) + (end - 34).to_bytes(2, "big")
                    self.assertEqual(profiles.checksum(pseudo + frame[34:end]), 0)
                    self.assertEqual(frame[end:], bytes(len(frame) - end))

    def test_the_mix_is_seven_four_one_and_spread(self):
        profile = profiles.find("imix")
        pattern = profile.pattern()
        self.assertEqual([pattern.count(octets) for octets in (64, 594, 1518)], [7, 4, 1])
        self.assertNotEqual(pattern, sorted(pattern), "the sizes are mixed")
        self.assertEqual(round(sum(pattern) / len(pattern)), 362)
        frames = itertools.islice(profile.stream(), 12)
        self.assertEqual([len(frame) + 4 for frame in frames], pattern)

    def test_every_flow_has_its_turn(self):
        profile = profiles.find("udp64")
        order = list(itertools.islice(profile.order(), 2 * profile.flows))
        self.assertEqual(sorted(order), sorted(2 * list(range(1024))))
        clients = {(frame[26:30], frame[34:36]) for frame in itertools.islice(profile.stream(), 1024)}
        self.assertEqual(len(clients), 1024)
        odd = profiles.Profile(**dict(vars(profile), clients=7919, ports=1))
        self.assertEqual(len(set(itertools.islice(odd.order(), 7919))), 7919)

    def test_known_connections_are_opened_by_syns(self):
        profile = profiles.find("tcp64")
        opening = list(profile.opening_stream())
        self.assertEqual({frame[47] for frame in opening}, {0x02})
        self.assertEqual(len({(frame[26:30], frame[34:36]) for frame in opening}), 1024)
        self.assertEqual(next(profile.stream())[47], 0x10)
        self.assertEqual(list(profiles.find("tcp-syn").opening_stream()), [])

    def test_replies_come_from_the_server_to_the_client(self):
        profile = profiles.find("nat-both")
        request, reply = next(profile.stream()), next(profile.stream("outbound"))
        self.assertEqual(reply[30:34] + reply[36:38], request[26:30] + request[34:36])
        self.assertEqual(reply[26:30], bytes([10, 77, 2, 1]))
        self.assertEqual(reply[:12], bytes.fromhex("0200000002fe020000000201"))

    def test_both_numbers_of_flows_are_there(self):
        flows = {name: profiles.find(name).flows for name in profiles.paths()}
        for kind in ("udp64", "tcp64", "imix", "nat-both"):
            self.assertEqual((flows[kind], flows[kind + "-1m"]), (1024, 1 << 20))

    def test_one_size_for_all(self):
        for octets in profiles.RFC2544_OCTETS:
            for name in ("udp64", "tcp64"):
                self.assertEqual(len(next(profiles.find(name).with_octets(octets).stream())), octets - 4)
        with self.assertRaises(profiles.Refused):
            profiles.find("tcp-syn").with_octets(128)


class Refusals(unittest.TestCase):
    def refused(self, base="udp64", **changes):
        with tempfile.TemporaryDirectory() as place:
            value = profiles.read(profiles.paths()[base])
            network = profiles.read(os.path.join(PROFILES, "network.json"))
            for name, change in changes.items():
                target = network if name in network and name != "clients" else value
                if change is None:
                    del target[name]
                else:
                    target[name] = change
            for name, content in (("x.json", value), ("network.json", network)):
                with open(os.path.join(place, name), "w", encoding="utf-8") as file:
                    json.dump(content, file)
            with self.assertRaises(profiles.Refused) as caught:
                profiles.load(os.path.join(place, "x.json"))
            return str(caught.exception)

    def test_each_fault_is_named(self):
        for words, changes in (
            ("unknown name 'extra'", {"extra": 1}),
            ("'ports' is missing", {"ports": None}),
            ("unknown name 'flags'", {"flags": "S"}),
            ("'protocol' is tcp or udp", {"protocol": "icmp"}),
            ("'protocol' is tcp or udp", {"protocol": ["udp"]}),
            ("no list of sizes", {"frames": []}),
            ("'octets' is from 64", {"frames": [{"octets": 60, "weight": 1}]}),
            ("'octets' is from 64", {"frames": [{"octets": True, "weight": 1}]}),
            ("'weight' is from 1", {"frames": [{"octets": 64, "weight": 0}]}),
            ("'weight' is missing", {"frames": [{"octets": 64}]}),
            ("at most 1048576 flows", {"clients": 1 << 18}),
            ("'clients' is from 1", {"clients": 0}),
            ("only TCP opens", {"opening": "syn"}),
            ("'opening' is one of", {"opening": "never"}),
            ("'directions' is inbound", {"directions": ["outbound"]}),
            ("replies need connections", {"directions": ["inbound", "outbound"], "opening": "none"}),
            ("ports above 65535", {"client_port": 65530}),
            ("'client_port' is no port", {"client_port": 0}),
            ("no link address", {"server_station": "2:0:0:0:2:1"}),
            ("no address with a port", {"service": "10.0.0.1"}),
            ("Octet", {"server": "10.0.0.256:1"}),
        ):
            self.assertIn(words, self.refused(**changes))
        self.assertIn("letters of FSRPA", self.refused("tcp64", flags="AX"))
        self.assertIn("a SYN has no data", self.refused("tcp64", flags="S", frames=[{"octets": 65, "weight": 1}]))

    def test_what_is_no_description(self):
        with tempfile.TemporaryDirectory() as place:
            path = os.path.join(place, "x.json")
            for text in ("", "[]", "{", '{"about": 1, "about": 2}'):
                with open(path, "w", encoding="utf-8") as file:
                    file.write(text)
                with self.assertRaises(profiles.Refused):
                    profiles.load(path)
        with self.assertRaisesRegex(profiles.Refused, "no profile 'nonsense'; there are imix"):
            profiles.find("nonsense")

    def test_the_program(self):
        def program(*words):
            return subprocess.run([sys.executable, os.path.join(PROFILES, "profiles.py"), *words], capture_output=True, text=True, check=False)

        self.assertEqual(len(program("list").stdout.splitlines()), len(profiles.paths()))
        self.assertEqual(len(program("frames", "imix", "3").stdout.splitlines()), 3)
        self.assertEqual(program("frames", "imix", "x").returncode, 2)
        self.assertIn("no direction 'up'", program("frames", "imix", "3", "up").stderr)


unittest.main()

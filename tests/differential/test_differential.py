"""Tests of the differential test that need neither oracle nor lvx: python3 tests/differential/test_differential.py"""

import hashlib
import json
import os
import shlex
import subprocess
import sys
import unittest

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import deviations
import generate
import judge
import main
import packets
import shrink

SCRIPT = os.path.join(HERE, "..", "..", "scripts", "differential")


class Generator(unittest.TestCase):
    def test_a_case_is_a_function_of_profile_seed_and_number(self):
        for name in generate.PROFILES:
            first, again = generate.case(name, 5, 3), generate.case(name, 5, 3)
            self.assertEqual(first, again)
            self.assertNotEqual(first["steps"], generate.case(name, 6, 3)["steps"])
            self.assertNotEqual(first["steps"], generate.case(name, 5, 4)["steps"])

    def test_another_process_draws_the_same(self):
        # Hash randomisation must not reach a case.
        def digest():
            words = [sys.executable, SCRIPT, "--print", "--cases", "3", "--profile", ",".join(generate.PROFILES)]
            return hashlib.sha256(subprocess.run(words, check=True, capture_output=True).stdout).hexdigest()

        self.assertEqual(digest(), digest())

    def test_cases_hold_what_their_profiles_are_about(self):
        steps = {name: [step for number in range(40) for step in generate.case(name, 1, number)["steps"]] for name in generate.PROFILES}
        words = {name: {word for step in made for word in step.get("argv", [])} for name, made in steps.items()}
        self.assertLessEqual({"-A", "-E", "-D", "-a", "-e", "-d", "-L", "-S", "--set", "ipvsadm-restore", "--pe"}, words["cli"])
        self.assertLessEqual({"rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh"}, words["sched"])
        self.assertIn("-p", words["persist"])
        self.assertTrue(any(step.get("send") == "server" for step in steps["states"]))
        self.assertIn("multiport", words["marks"])
        self.assertTrue(any("ICMP 3/" in step.get("note", "") for step in steps["icmp"]))
        self.assertTrue(all("sysctl" in step or "sysctl_get" in step for step in steps["sysctl"]))

    def test_sleeps_of_a_case_stay_short(self):
        for name in generate.PROFILES:
            for number in range(40):
                slept = sum(step.get("sleep", 0) for step in generate.case(name, 2, number)["steps"])
                self.assertLess(slept, 4.5, f"{name} {number}")

    def test_packets_have_right_checksums(self):
        for version in (4, 6):
            place = generate.Place(generate.Draw("sums"), version)
            for protocol, event in (("tcp", "SA"), ("udp", "")):
                flow = generate.Flow(protocol, place.client(), 1024, place.vip(1), 80)
                seen = packets.check.Packet(bytes.fromhex(flow.packet(event)["hex"]))
                self.assertTrue(seen.ok and seen.l4_good())
            error = packets.icmp_error(place.client(), place.vip(1), 3, 1, bytes(4), b"quoted packet")
            self.assertTrue(packets.check.Packet(error).l4_good())


def planted(case):
    """A difference that needs two commands, one word of each, and one line of standard input."""
    first = [step for step in case["steps"] if "-x" in step.get("argv", [])]
    second = [step for step in case["steps"] if "-y" in step.get("argv", []) and "wrong" in step.get("stdin", "")]
    return bool(first and second)


class Shrinker(unittest.TestCase):
    def planted_case(self):
        steps = [generate.command(f"ipvsadm -a -t 10.9.0.1:80 -w {number}") for number in range(40)]
        steps[7] = generate.command("ipvsadm -a -t 10.9.0.1:80 -x 5 -w 3")
        steps[31] = generate.command("ipvsadm -R -y 3 -n", "one\ntwo\nwrong\nfour\n")
        return {"name": "planted", "net": {}, "steps": steps}

    def run_shrinker(self, cases, differs, last_step):
        asked = []

        def ask(candidates):
            asked.append(len(candidates))
            return [differs(candidate) for _, candidate in candidates]

        shrinkers = {key: shrink.shrink(case, last_step) for key, case in cases.items()}
        return shrink.drive(shrinkers, ask), asked

    def test_a_planted_difference_is_all_that_is_left(self):
        case = self.planted_case()
        small, asked = self.run_shrinker({"a": case}, planted, 31)
        self.assertEqual(
            [(step["argv"], step["stdin"]) for step in small["a"]["steps"]],
            [(["ipvsadm", "-x", "5"], None), (["ipvsadm", "-y", "3"], "wrong\n")],
        )
        self.assertLessEqual(len(asked), shrink.ROUNDS_MAX + 1, "a round is a boot")

    def test_cases_share_their_rounds(self):
        case = self.planted_case()
        _, alone = self.run_shrinker({"a": case}, planted, 31)
        small, together = self.run_shrinker({"a": case, "b": case}, planted, 31)
        self.assertEqual(len(alone), len(together))
        self.assertEqual(small["a"], small["b"])

    def test_a_shrinker_out_of_time_gives_the_smallest_that_differed(self):
        case = self.planted_case()
        rounds = iter([False, False, False, True])
        shrinkers = {"a": shrink.shrink(case, 39)}
        small = shrink.drive(shrinkers, lambda asked: [planted(one) for _, one in asked], lambda: next(rounds))["a"]
        self.assertTrue(planted(small))
        self.assertLess(len(small["steps"]), len(case["steps"]))


def recorded():
    """A case as the reference answers it."""
    return {
        "name": "planted", "family": "cli", "net": {"light": True},
        "steps": [
            {"argv": ["ipvsadm", "-Ln"], "stdin": None, "exit": 0, "stdout": "one\n", "stderr": "", "t0": 0.1, "t": 0.15},
            {"sysctl_get": "vs.drop_entry", "text": "1", "t0": 0.2, "t": 0.21},
        ],
    }


# A program that knows everything but marks.
WITHOUT_MARKS = """
import json, sys
for line in sys.stdin:
    marks = "mark" in json.loads(line).get("cmd", [])
    print(json.dumps({"error": "lvxd knows no command `lvx mark load -'"} if marks else {}))
"""


class Judge(unittest.TestCase):
    def program(self, answers):
        """A program that says the same whatever it is asked: one line an answer."""
        text = "".join(json.dumps(answer) + "\n" for answer in answers)
        return judge.Program(shlex.join(["python3", "-c", f"import sys; sys.stdin.read(); print({text!r}, end='')"]))

    ADVANCED = {"out": []}
    KNOB = {"exit": 0, "stdout": "net.ipv4.vs.drop_entry = 1\n", "stderr": ""}

    def differences(self, first):
        return self.program([self.ADVANCED, first, self.ADVANCED, self.KNOB]).differences(recorded())

    def test_equal_answers_are_no_difference(self):
        self.assertEqual(self.differences({"exit": 0, "stdout": "one\n", "stderr": ""}), ([], []))

    def test_another_text_is_a_difference_at_its_step(self):
        found, _ = self.differences({"exit": 0, "stdout": "two\n", "stderr": ""})
        self.assertEqual([one.step for one in found], [0])
        self.assertEqual(found[0].kind(), ("ipvsadm -Ln", "stdout"))

    def test_an_entry_that_expires_at_once_may_be_there_or_not(self):
        def case(seconds):
            entry = {"proto": "TCP", "state": "CLOSE", "expires": seconds}
            steps = [{"conn": "10.1.0.1:1024", "entries": [entry], "t0": 0.1, "t": 0.15}]
            return {"name": "planted", "family": "states", "net": {"light": True}, "steps": steps}

        program = self.program([self.ADVANCED, {"exit": 0, "stdout": "", "stderr": ""}])
        self.assertEqual(program.differences(case(0)), ([], []))
        self.assertEqual([one.step for one in program.differences(case(9))[0]], [0])

    def test_an_early_end_is_a_difference(self):
        found, _ = self.program([self.ADVANCED]).differences(recorded())
        self.assertIn("ended", found[-1].text)

    def test_what_is_to_come_is_named_and_left_out(self):
        text = "persistence is not supported yet\n"
        self.assertEqual(deviations.not_yet({"exit": 255, "stdout": "", "stderr": text}), "persistence")
        self.assertIsNone(deviations.not_yet({"exit": 255, "stdout": "", "stderr": "No such service\n"}))
        self.assertEqual(deviations.not_yet({"verdict": "drop:fragment", "out": []}), "reassembly of fragments")

    def test_marks_that_are_to_come_are_left_out_of_the_reference_too(self):
        steps = [generate.command("iptables -t mangle -A PREROUTING -j MARK --set-mark 1"), generate.command("iptables-save"),
                 generate.command("ipvsadm -Ln")]
        program = judge.Program(shlex.join(["python3", "-c", WITHOUT_MARKS]))
        case, named = program.supported({"name": "planted", "family": "marks", "net": {"light": True}, "steps": steps})
        self.assertEqual([step["argv"] for step in case["steps"]], [["ipvsadm", "-Ln"]])
        self.assertEqual(named, ["firewall marks"])

    def test_a_deviation_needs_what_it_is_about(self):
        text = "1 frames out of eth1, want 0; the first too many: tcp"
        add = generate.command("ipvsadm -a -t 10.9.0.1:80 -r 10.2.0.1:80 -g")
        masquerade = generate.command("ipvsadm -e -t 10.9.0.1:80 -r 10.2.0.1:80 -m")
        packet = {"send": "client", "hex": "45", "note": ""}
        self.assertEqual(deviations.deviation([add, masquerade, packet], text), "route-of-another-method")
        self.assertIsNone(deviations.deviation([add, packet], text))
        self.assertIsNone(deviations.deviation([add, masquerade, packet], "server: another"))

    def test_a_saved_case_can_be_read_again(self):
        case = generate.case("sched", 1, 1)
        difference = judge.Difference(case, 0, "label", "stdout: want 'a'\n got 'b'")
        again = json.loads(main.saved(case, difference))
        self.assertEqual(again["steps"], case["steps"])


class Command(unittest.TestCase):
    def test_without_an_oracle_it_is_skipped_unless_required(self):
        def run(*words):
            return subprocess.run([sys.executable, SCRIPT, "--oracle", "/nonexistent", *words], capture_output=True, text=True)

        self.assertEqual(run().returncode, 0)
        self.assertTrue(run().stdout.startswith("skipped: "))
        self.assertEqual(run("--require").returncode, 2)


if __name__ == "__main__":
    unittest.main()

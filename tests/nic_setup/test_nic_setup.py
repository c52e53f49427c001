"""scripts/nic-setup against a card of its own: python3 tests/nic_setup/test_nic_setup.py (tests/netns has veth)."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
SCRIPT = os.path.join(HERE, "..", "..", "scripts", "nic-setup")
KEY = ":".join(f"{octet:02x}" for octet in range(40))
SYMMETRIC = ":".join(["6d", "5a"] * 20)


def card(**other):
    """A card that has everything."""
    full = {
        "channels": {"most": {"combined": "8"}, "now": {"combined": "8"}},
        "ring": {"most": {"rx": "4096", "tx": "4096"}, "now": {"rx": "512", "tx": "1024"}},
        "coalesce": {"adaptive-rx": "on", "adaptive-tx": "on", "rx-usecs": "50", "tx-usecs": "50"},
        "rss": {"table": [at % 8 for at in range(128)], "key": KEY, "hash": "xor"},
        "fields": {"tcp4": "sdfn", "udp4": "sd", "tcp6": "sdfn", "udp6": "sd"},
        "features": {
            "large-receive-offload": "on",
            "rx-gro-hw": "off [fixed]",
            "rx-vlan-offload": "on",
            "rx-vlan-stag-hw-parse": "off",
        },
    }
    full.update(other)
    return full


class NicSetup(unittest.TestCase):
    def setUp(self):
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.place = place.name
        self.net = os.path.join(self.place, "net")
        os.makedirs(os.path.join(self.net, "x"))
        for name, value in (("ifindex", 7), ("napi_defer_hard_irqs", 0), ("gro_flush_timeout", 20)):
            self.write(name, value)
        # Quick to start, as a preparation asks some hundred times.
        os.makedirs(os.path.join(self.place, "bin"))
        with open(os.path.join(HERE, "card.py"), encoding="ascii") as source:
            text = f"#!{sys.executable} -IS\n{source.read()}"
        with open(os.path.join(self.place, "bin", "ethtool"), "w", encoding="ascii") as program:
            program.write(text)
            os.fchmod(program.fileno(), 0o755)
        self.put(card())

    def write(self, name, value):
        with open(os.path.join(self.net, "x", name), "w", encoding="ascii") as file:
            print(value, file=file)

    def read(self, name):
        with open(os.path.join(self.net, "x", name), encoding="ascii") as file:
            return file.read().strip()

    def put(self, settings):
        with open(os.path.join(self.place, "card.json"), "w", encoding="ascii") as file:
            json.dump(settings, file)

    def card(self):
        with open(os.path.join(self.place, "card.json"), encoding="ascii") as file:
            return json.load(file)

    def calls(self):
        """Calls that change something."""
        with open(os.path.join(self.place, "calls"), encoding="ascii") as file:
            return [line.strip() for line in file if line.split()[0].isupper()]

    def run_script(self, *words, status=0):
        path = os.path.join(self.place, "bin") + os.pathsep + os.environ["PATH"]
        environment = dict(os.environ, PATH=path, FAKE_CARD=self.place, NIC_SETUP_SYS=self.net)
        command = [SCRIPT, "--state", os.path.join(self.place, "state"), *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done.stdout if status in (0, 3) else done.stderr

    def line(self, text, label):
        found = [line for line in text.splitlines() if line.startswith(label + " ")]
        self.assertEqual(len(found), 1, text)
        return found[0][len(label) :].strip()

    ALL = ("--channels", "4", "--fields", "addresses", "--ring", "max", "--coalesce", "8", "--busy-poll", "on", "x")

    def test_every_knob_is_set_and_told_with_its_value_before(self):
        said = self.run_script(*self.ALL)
        now = self.card()
        self.assertEqual(now["channels"]["now"], {"combined": "4"})
        self.assertEqual(now["rss"]["table"], [at % 4 for at in range(128)])
        self.assertEqual((now["rss"]["key"], now["rss"]["hash"]), (SYMMETRIC, "toeplitz"))
        self.assertEqual(set(now["fields"].values()), {"sd"})
        self.assertEqual(now["ring"]["now"], {"rx": "4096", "tx": "4096"})
        self.assertEqual(now["coalesce"], {"adaptive-rx": "off", "adaptive-tx": "on", "rx-usecs": "8", "tx-usecs": "50"})
        self.assertEqual((self.read("napi_defer_hard_irqs"), self.read("gro_flush_timeout")), ("2", "200000"))
        self.assertEqual(now["features"]["large-receive-offload"], "off")
        self.assertEqual(now["features"]["rx-vlan-offload"], "off")
        self.assertEqual(self.line(said, "channels"), "done: combined 8 -> combined 4")
        self.assertEqual(self.line(said, "hash"), "done: xor -> toeplitz")
        self.assertEqual(self.line(said, "fields tcp4"), "done: sdfn -> sd")
        self.assertEqual(self.line(said, "fields udp4"), "unchanged: sd")
        self.assertEqual(self.line(said, "ring"), "done: rx 512 tx 1024 -> rx 4096 tx 4096")
        self.assertEqual(self.line(said, "gro_flush_timeout"), "done: 20 -> 200000")
        self.assertEqual(self.line(said, "rx-gro-hw"), "unchanged: off fixed")
        self.assertIn("(40 octets) -> 6d:5a:", self.line(said, "key"))
        self.assertIn("-C x adaptive-rx off rx-usecs 8", self.calls(), "words that stay are not said")

    def test_undo_puts_back_exactly_what_was(self):
        self.run_script(*self.ALL)
        self.run_script("--undo", "x")
        now = self.card()
        self.assertFalse(now["rss"].pop("configured"), "the table is the driver's own again")
        self.assertEqual(now, card())
        self.assertEqual((self.read("napi_defer_hard_irqs"), self.read("gro_flush_timeout")), ("0", "20"))
        self.assertIn("nothing to undo", self.run_script("--undo", "x", status=1))

    def test_undo_puts_back_tables_of_other_makes(self):
        for channels, table in ((8, [at % 3 for at in range(128)]), (8, [0] * 32 + [1] * 96), (2, [at % 2 for at in range(128)])):
            before = card(channels={"most": {"combined": "8"}, "now": {"combined": str(channels)}})
            before["rss"].update(table=table, configured=True)
            self.put(before)
            self.run_script("--channels", "4", "x")
            self.assertEqual(self.card()["rss"]["table"], [at % 4 for at in range(128)])
            self.run_script("--undo", "x")
            self.assertEqual(self.card()["rss"]["table"], table)
            self.assertEqual(self.card()["channels"], before["channels"])

    def test_a_table_that_could_not_be_put_back_is_left_alone(self):
        before = card()
        before["rss"].update(table=[7, 0] * 64, configured=True)
        self.put(before)
        said = self.run_script("--channels", "8", "x", status=3)
        self.assertIn("left alone", self.line(said, "table"))
        self.assertEqual(self.card()["rss"]["table"], [7, 0] * 64)
        before["fields"].update(tcp4="sde", udp4="")
        self.put(before)
        said = self.run_script("--channels", "keep", "--key", "keep", "x", status=3)
        self.assertIn("left alone: what is set (custom)", self.line(said, "fields tcp4"))
        self.assertIn("left alone: what is set (none)", self.line(said, "fields udp4"))
        self.assertEqual((self.card()["fields"]["tcp4"], self.card()["fields"]["udp4"]), ("sde", ""))

    def test_the_first_state_stays(self):
        self.run_script(*self.ALL)
        said = self.run_script("--channels", "2", "--ring", "256", "x")
        self.assertIn("kept in", self.line(said, "state"))
        self.assertEqual(self.card()["channels"]["now"], {"combined": "2"})
        self.run_script("--undo", "x")
        now = self.card()
        now["rss"].pop("configured")
        self.assertEqual(now, card())

    def test_another_interface_of_the_name_is_not_undone(self):
        self.run_script(*self.ALL)
        self.write("ifindex", 8)
        self.assertIn("another interface", self.run_script("--undo", "x", status=1))
        self.assertEqual(self.card()["channels"]["now"], {"combined": "4"})
        self.assertIn("saved in", self.line(self.run_script(*self.ALL), "state"))

    def test_refusals_of_each_knob_are_told_and_the_rest_is_done(self):
        for option, label, words in (
            ("-L", "channels", "netlink error: Device or resource busy"),
            ("-X", "key", "Cannot set RX flow hash configuration: Operation not supported"),
            ("-N", "fields tcp4", "Cannot change RX network flow hashing options: Operation not supported"),
            ("-G", "ring", "netlink error: Invalid argument"),
            ("-C", "coalesce", "netlink error: Invalid argument"),
            ("-K", "lro", "Could not change any device features"),
        ):
            with self.subTest(option):
                before = card(refuse={option: words}, quiet=["-N"])
                self.put(before)
                said = self.run_script(*self.ALL, status=3)
                self.assertIn(f"refused by driver: {words}", self.line(said, label))
                self.assertIn("stays", self.line(said, label))
                others = {"-L": "channels", "-X": "rss", "-N": "fields", "-G": "ring", "-C": "coalesce", "-K": "features"}
                now = self.card()
                kind = others.pop(option)
                if kind != "rss":
                    self.assertEqual(now[kind], before[kind])
                for other in others.values():
                    # A table that names all queues keeps the card from having fewer.
                    if option != "-X" or other != "channels":
                        self.assertNotEqual(now[other], before[other], other)

    def test_what_a_driver_lacks_is_told(self):
        for kind, labels in (
            ("channels", ["channels"]),
            ("rss", ["table", "hash", "key"]),
            ("fields", ["fields tcp4", "fields udp6"]),
            ("ring", ["ring"]),
            ("coalesce", ["coalesce"]),
        ):
            self.put(card(**{kind: None}))
            said = self.run_script(*self.ALL, status=3)
            for label in labels:
                self.assertEqual(self.line(said, label), "not supported by driver")
            self.run_script("--undo", "x")
        os.remove(os.path.join(self.net, "x", "gro_flush_timeout"))
        self.assertEqual(self.line(self.run_script(*self.ALL, status=3), "gro_flush_timeout"), "not supported by driver")

    def test_what_a_driver_makes_of_it_is_told(self):
        self.put(card(clamp=["-G"]))
        said = self.run_script("--ring", "2048", "x", status=3)
        self.assertEqual(
            self.line(said, "ring"), "changed by driver: rx 512 tx 1024 -> rx 1024 tx 1024, asked for rx 2048 tx 2048"
        )
        features = dict(card()["features"], **{"large-receive-offload": "on [fixed]"})
        self.put(card(features=features))
        self.assertIn("cannot be changed (stays on)", self.line(self.run_script("x", status=3), "lro"))

    def test_separate_channels(self):
        self.put(card(channels={"most": {"rx": "4", "tx": "8"}, "now": {"rx": "4", "tx": "4"}}, rss=None))
        self.run_script("--channels", "2", "x", status=3)
        self.assertEqual(self.card()["channels"]["now"], {"rx": "2", "tx": "2"})
        self.run_script("--channels", "max", "x", status=3)
        self.assertEqual(self.card()["channels"]["now"], {"rx": "4", "tx": "8"})

    def test_a_card_with_short_rings(self):
        short = card(ring={"most": {"rx": "1024", "tx": "256"}, "now": {"rx": "128", "tx": "128"}})
        self.put(short)
        self.run_script("x")
        self.assertEqual(self.card()["ring"]["now"], {"rx": "1024", "tx": "256"}, "the card's most")
        self.put(short)
        said = self.run_script("--ring", "2048", "x", status=3)
        self.assertIn("exceeds maximum (stays rx 128 tx 128)", self.line(said, "ring"))

    def test_sides_hash_the_client_alone(self):
        for side, fields, letters in (
            ("clients", "ports", "sf"), ("clients", "addresses", "s"), ("servers", "ports", "dn"), ("servers", "addresses", "d"),
        ):
            self.run_script("--side", side, "--fields", fields, "x")
            self.assertEqual(set(self.card()["fields"].values()), {letters})

    def test_dry_run_prints_commands_and_does_nothing(self):
        said = self.run_script("--dry-run", *self.ALL)
        for command in ("ethtool -L x combined 4", "ethtool -X x equal 4", "ethtool -X x hfunc toeplitz",
                        f"ethtool -X x hkey {SYMMETRIC}", "ethtool -N x rx-flow-hash tcp4 sd",
                        "ethtool -G x rx 4096 tx 4096", "ethtool -C x adaptive-rx off rx-usecs 8",
                        "ethtool -K x lro off", f"write 2 {self.net}/x/napi_defer_hard_irqs"):
            self.assertIn(f"    {command}", [line.rstrip() for line in said.splitlines()])
        self.assertEqual(self.card(), card())
        self.assertEqual(self.calls(), [])
        self.assertFalse(os.path.exists(os.path.join(self.place, "state")))
        self.run_script(*self.ALL)
        prepared = self.card()
        self.assertIn("ethtool -G x rx 512 tx 1024", self.run_script("--dry-run", "--undo", "x"))
        self.assertEqual(self.card(), prepared)
        self.run_script("--undo", "x")

    def test_keep_changes_nothing(self):
        keep = [word for option in ("channels", "key", "fields", "ring", "offloads") for word in (f"--{option}", "keep")]
        self.run_script(*keep, "x")
        self.assertEqual(self.calls(), [])

    def test_show_prints_what_is(self):
        said = self.run_script("--show", "x")
        self.assertEqual(self.line(said, "channels"), "combined 8")
        self.assertEqual(self.line(said, "table"), "equal 8")
        self.assertEqual(self.line(said, "key"), KEY)
        self.assertEqual(self.line(said, "coalesce"), "adaptive-rx on adaptive-tx on rx-usecs 50 tx-usecs 50")
        self.assertEqual(self.calls(), [])

    def test_wrong_usage(self):
        for words in ((), ("--nonsense", "x"), ("x", "y"), ("--channels", "many", "x"), ("--channels", "0", "x"),
                      ("--fields", "all", "x"), ("--key",), ("--ring", "-1", "x"), ("../x",), ("--coalesce", "max", "x")):
            self.assertIn("usage:", self.run_script(*words, status=2))
        self.assertIn("there is no interface 'z'", self.run_script("z", status=1))


unittest.main()

"""scripts/bench: its plots over small results, its steps over programs in the benchmarks' place.

python3 tests/bench_tools/test_bench.py
"""

import contextlib
import io
import json
import os
import shutil
import sys
import tempfile
import unittest
from unittest import mock
from xml.etree import ElementTree

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "bench", "tools"))

import build
import measure
import plot

SVG = "{http://www.w3.org/2000/svg}"
FLOWS = (1, 1000, 1_000_000)
FORWARD = [
    {"case": case, "flows": flows, "ns_per_packet": base + place * 10.0, "instructions_per_packet": 300, "bytes_per_connection": 75.5}
    for case, base in (("dr", 30), ("nat", 40), ("a < b & \"c\"", 50))
    for place, flows in enumerate(FLOWS)
]
VETH = """veth, AF_XDP copy mode: not a claim of line rate; compare with the floor of the same run
checked octet by octet: 256 frames of 64 flows for each subject

millions of frames a second, 3 runs of 1 s each for bursts and flood; 60 octets a frame
subject               flows   median      min      max       ns    ratio    flood   lost in  lost out
floor                     1    1.500    1.400    1.600      667    1.000    0.900     0.00%     0.00%
kernel ip_forward         1        -        -        -        -        -    0.800     1.50%     0.00%
lvx nat                   1    1.200    1.100    1.300      833    0.800    0.700     0.00%     0.25%
floor                100000    1.400    1.400    1.600      714    1.000    0.900     0.00%     0.00%
lvx nat              100000    1.050    1.000    1.100      952    0.750    0.600     0.00%     0.00%

UDP round trips, microseconds, 3 runs of 1 s; client and echo on one processor
subject              answers      p50      p99    p99.9     trips
floor               director     20.0     40.0     60.0      1000
"""


def shapes(text, name, kind=None):
    """Elements of a plot; the text must be XML."""
    found = ElementTree.fromstring(text).iter(SVG + name)
    return [shape for shape in found if kind is None or shape.get("class") == kind]


def points(shape):
    return [tuple(map(float, pair.split(","))) for pair in shape.get("points").split()]


class Lines(unittest.TestCase):
    def setUp(self):
        self.plots = measure.forward_plots(FORWARD, [("goal & line", 45.0)])
        self.text = self.plots["forward.svg"]

    def test_a_line_for_each_case_and_a_tick_for_each_number_of_flows(self):
        lines = shapes(self.text, "polyline")
        self.assertEqual([line[0].text for line in lines], ["dr", "nat", 'a < b & "c"'])
        for line in lines:
            self.assertEqual(len(points(line)), len(FLOWS))
        self.assertEqual([tick.text for tick in shapes(self.text, "text", "x-tick")], ["1", "1k", "1M"])
        self.assertEqual([row.text for row in shapes(self.text, "text", "legend")], ["dr", "nat", 'a < b & "c"'])

    def test_points_stand_where_their_values_are(self):
        dr, nat, _ = (points(line) for line in shapes(self.text, "polyline"))
        ticks = {float(tick.text): float(tick.get("y")) - 4 for tick in shapes(self.text, "text", "y-tick")}
        self.assertIn(0.0, ticks)
        self.assertGreaterEqual(max(ticks), 70)
        self.assertAlmostEqual(nat[0][1], ticks[40.0], delta=0.2)
        self.assertAlmostEqual(dr[1][1], ticks[40.0], delta=0.2)
        # Equal steps of powers of ten.
        self.assertAlmostEqual(dr[1][0] - dr[0][0], dr[2][0] - dr[1][0], delta=0.2)
        for x, y in dr + nat:
            self.assertTrue(plot.LEFT <= x <= plot.WIDTH - plot.RIGHT and plot.TOP <= y <= plot.HEIGHT_LEAST - plot.BOTTOM)

    def test_goals_are_drawn_across_and_named(self):
        (goal,) = shapes(self.text, "g", "goal")
        self.assertEqual(goal.get("data-name"), "goal & line")
        line = goal.find(SVG + "line")
        self.assertEqual(line.get("y1"), line.get("y2"))
        self.assertEqual(goal.find(SVG + "text").text, "goal & line: 45")
        self.assertEqual(shapes(measure.forward_plots(FORWARD, [])["forward.svg"], "g"), [])

    def test_axes_are_named(self):
        words = [text.text for text in shapes(self.text, "text")]
        self.assertIn("flows", words)
        self.assertIn("nanoseconds a packet", words)

    def test_what_was_not_measured_is_not_drawn(self):
        self.assertEqual(set(self.plots), {"forward.svg", "forward-instructions.svg", "forward-memory.svg"})
        rows = [{"case": "dr", "flows": 5, "ns_per_packet": 30, "instructions_per_packet": None}]
        plots = measure.forward_plots(rows, [])
        self.assertEqual(set(plots), {"forward.svg"})
        self.assertEqual(len(shapes(plots["forward.svg"], "polyline")), 1)

    def test_new_connections_have_plots_of_their_own(self):
        rows = FORWARD + [{"case": case, "flows": 1, "ns_per_packet": 900} for case in ("new-wlc", "synflood-full")]
        plots = measure.forward_plots(rows, [("goal", 45.0)])
        self.assertEqual(len(shapes(plots["forward.svg"], "polyline")), 3)
        self.assertEqual([line[0].text for line in shapes(plots["forward-new.svg"], "polyline")], ["new-wlc", "synflood-full"])
        self.assertEqual(shapes(plots["forward-new.svg"], "g", "goal"), [])

    def test_the_legend_has_room(self):
        rows = [{"case": str(number), "flows": 1, "ns_per_packet": number} for number in range(30)]
        text = measure.forward_plots(rows, [])["forward.svg"]
        height = float(ElementTree.fromstring(text).get("height"))
        self.assertEqual(len(shapes(text, "text", "legend")), 30)
        self.assertTrue(all(float(row.get("y")) < height for row in shapes(text, "text", "legend")))

    def test_scales_end_above_the_most(self):
        for most in (0.0, 0.3, 1, 7, 67.2, 99, 100, 101, 12345):
            ticks = plot.scale(most)
            self.assertGreaterEqual(ticks[-1], most)
            self.assertLessEqual(len(ticks), 7)
            self.assertEqual(ticks[0], 0)

    def test_many_cases_can_be_told_apart(self):
        rows = [{"case": str(number), "flows": 1, "ns_per_packet": number} for number in range(12)]
        lines = shapes(measure.forward_plots(rows, [])["forward.svg"], "polyline")
        looks = {(line.get("stroke"), line.get("stroke-dasharray")) for line in lines}
        self.assertEqual(len(looks), 12)


class Bars(unittest.TestCase):
    def test_the_table_is_read(self):
        rows = measure.read_veth(VETH)
        self.assertEqual(len(rows), 5)
        self.assertEqual(rows[1]["subject"], "kernel ip_forward")
        self.assertIsNone(rows[1]["ratio"])
        self.assertEqual((rows[4]["flows"], rows[4]["ratio"], rows[2]["lost_out"]), (100000, 0.75, 0.25))
        self.assertEqual(measure.read_veth("skipped: no rights\n"), [])

    def test_a_bar_for_each_ratio(self):
        plots = measure.veth_plots(measure.read_veth(VETH))
        bars = shapes(plots["veth.svg"], "rect", "bar")
        self.assertEqual(len(bars), 4)
        self.assertEqual([bar[0].text for bar in bars], ["floor: 1", "lvx nat: 0.8", "floor: 1", "lvx nat: 0.75"])
        heights = [float(bar.get("height")) for bar in bars]
        self.assertAlmostEqual(heights[1] / heights[0], 0.8, delta=0.01)
        self.assertEqual([tick.text for tick in shapes(plots["veth.svg"], "text", "x-tick")], ["1", "100k"])
        self.assertEqual(len(shapes(plots["veth-flood.svg"], "rect", "bar")), 5)


class Program(unittest.TestCase):
    def setUp(self):
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.place = place.name
        self.out = os.path.join(self.place, "results")

    def benchmark(self, name, script):
        """A program in a benchmark's place."""
        path = os.path.join(self.place, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write("#!/bin/sh\n" + script)
            os.fchmod(file.fileno(), 0o755)

    def run_main(self, *words, root=True):
        said, errors = [], io.StringIO()
        with contextlib.redirect_stderr(errors), mock.patch.object(
            build, "bench", lambda name: os.path.join(self.place, name)
        ), mock.patch.object(os, "geteuid", lambda: 0 if root else 1000):
            try:
                status = measure.main(["--out", self.out, *words], said.append)
            except SystemExit as end:
                status = end.code
        return status, "\n".join(said), errors.getvalue()

    def file(self, name):
        with open(os.path.join(self.out, name), encoding="utf-8") as file:
            return file.read()

    def both(self):
        with open(os.path.join(self.place, "fixture"), "w", encoding="utf-8") as file:
            json.dump(FORWARD, file)
        self.benchmark("forward", f'echo "$@" >{self.place}/words; cp {self.place}/fixture "$2"\n')
        self.benchmark("veth", f"echo \"$@\" >{self.place}/veth-words; cat <<'END'\n{VETH}END\n")

    def test_all_leaves_results_plots_and_the_machine(self):
        self.both()
        status, said, errors = self.run_main("all", "--quick")
        self.assertEqual((status, errors), (0, ""), said)
        self.assertEqual(json.loads(self.file("forward.json")), FORWARD)
        self.assertEqual(len(json.loads(self.file("veth.json"))), 5)
        for name in ("forward.svg", "forward-instructions.svg", "forward-memory.svg", "veth.svg", "veth-flood.svg"):
            ElementTree.fromstring(self.file(name))
        drawn = [goal.get("data-name") for goal in shapes(self.file("forward.svg"), "g", "goal")]
        self.assertEqual(drawn, [goal[0] for goal in measure.read_goals(measure.GOALS)])
        text = self.file("machine.txt")
        for word in ("date:", "kernel:", "processor:", "caches:", "huge pages:", "governor:", "cargo bench --bench veth --"):
            self.assertIn(word, text)
        self.assertNotRegex(text, r"command:.* /", "paths are the project's")
        with open(os.path.join(self.place, "words"), encoding="utf-8") as file:
            words = file.read().split()
        counted = ["--instructions"] if shutil.which("valgrind") else []
        self.assertEqual(words, ["--json", os.path.join(self.out, "forward.json"), "--quick", *counted])

    def test_veth_without_root_is_skipped(self):
        self.both()
        status, said, _ = self.run_main("veth", root=False)
        self.assertEqual(status, 0)
        self.assertIn("skipped: the benchmark on veth needs root", said)
        self.assertEqual(os.listdir(self.out), [])

    def test_forward_with_a_file_writes_that_alone(self):
        self.both()
        path = os.path.join(self.place, "mine.json")
        status, said, errors = self.run_main("forward", "--json", path)
        self.assertEqual((status, errors), (0, ""), said)
        with open(path, encoding="utf-8") as file:
            self.assertEqual(json.load(file), FORWARD)
        self.assertFalse(os.path.exists(self.out))

    def test_a_benchmark_that_fails_does_not_keep_the_others(self):
        self.both()
        self.benchmark("forward", "exit 2\n")
        status, _, errors = self.run_main("all")
        self.assertEqual(status, 1)
        self.assertIn("the benchmark forward failed (status 2)", errors)
        ElementTree.fromstring(self.file("veth.svg"))

    def test_results_that_make_no_sense_are_refused(self):
        self.both()
        for text in ("", "{}", "[]", "[1]", '[{"case": 1, "flows": 1}]', '[{"case": "a", "flows": 0}]',
                     '[{"case": "a", "flows": true}]', '[{"case": "a", "flows": 1, "ns_per_packet": "x"}]',
                     '[{"case": "a", "flows": 1, "ns_per_packet": NaN}]', '[{"case": "a", "flows": 1, "ns_per_packet": -1}]'):
            with open(os.path.join(self.place, "fixture"), "w", encoding="utf-8") as file:
                file.write(text)
            status, _, errors = self.run_main("forward", "--json", os.path.join(self.place, "x.json"))
            self.assertEqual(status, 1, text)
            self.assertIn("x.json", errors)

    def test_plot_draws_again(self):
        self.assertEqual(self.run_main("plot")[0], 1)
        self.both()
        self.run_main("all")
        os.remove(os.path.join(self.out, "forward.svg"))
        self.assertEqual(self.run_main("plot")[0], 0)
        self.assertEqual(len(shapes(self.file("forward.svg"), "polyline")), 3)

    def test_wrong_usage(self):
        for words in ([], ["nonsense"], ["all", "--nonsense"], ["veth", "--json", "x"], ["forward", "--json"]):
            status, _, errors = self.run_main(*words)
            self.assertEqual(status, 2, words)
            self.assertIn("usage:", errors)


unittest.main()

"""The command line of scripts/bench: runs the benchmarks that can run here and draws what they found.

The benchmark `forward` writes its results as JSON (`--json FILE`): an array of objects with `case`, `flows`,
`ns_per_packet`, `instructions_per_packet`, `bytes_per_connection`; what was not measured is null or absent. Of the
benchmark on veth the table is read.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys

import build
import machine
import plot

RESULTS = os.path.join(build.ROOT, "bench", "results")
GOALS = os.path.join(build.ROOT, "bench", "goals.json")
NUMBERS = ("ns_per_packet", "instructions_per_packet", "bytes_per_connection")
# Cases that open connections begin so; they cost several times as much and have plots of their own.
OPENING = ("new", "synflood")
# Columns of the table of the benchmark on veth, after the subject.
VETH_COLUMNS = ("flows", "median", "min", "max", "ns", "ratio", "flood", "lost_in", "lost_out")
VETH_QUICK = ("--flows", "1,1000", "--seconds", "0.2", "--runs", "1")


class Fault(Exception):
    """What keeps a benchmark or a plot from being made."""


def is_number(value):
    """A finite number that is not negative."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf")


def read_forward(path):
    """Rows of the benchmark `forward`, checked."""
    try:
        with open(path, encoding="utf-8") as file:
            rows = json.load(file)
    except (OSError, ValueError) as error:
        raise Fault(f"{path}: {error}") from error
    if not isinstance(rows, list) or not rows:
        raise Fault(f"{path}: no array of results")
    for row in rows:
        if not isinstance(row, dict) or not isinstance(row.get("case"), str):
            raise Fault(f"{path}: a result without `case`: {row}")
        if not isinstance(row.get("flows"), int) or isinstance(row["flows"], bool) or row["flows"] < 1:
            raise Fault(f"{path}: a result without `flows`: {row}")
        for name in NUMBERS:
            if row.get(name) is not None and not is_number(row[name]):
                raise Fault(f"{path}: `{name}` is no number: {row}")
    return rows


def read_goals(path):
    """Pairs of name and nanoseconds."""
    try:
        with open(path, encoding="utf-8") as file:
            return [(goal["name"], goal["ns_per_packet"]) for goal in json.load(file)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Fault(f"{path}: {error!r}") from error


def series(rows, name):
    """Case to pairs of (flows, value), where the value was measured."""
    found = {}
    for row in rows:
        if row.get(name) is not None:
            found.setdefault(row["case"], []).append((row["flows"], row[name]))
    return found


def forward_plots(rows, goals):
    """File names and texts of the plots of `forward`."""
    plots = {}
    kinds = (
        ("forward", "The pipeline in memory: known connections", False, goals),
        ("forward-new", "The pipeline in memory: new connections", True, ()),
    )
    for file, title, is_opening, lines in kinds:
        mine = [row for row in rows if row["case"].startswith(OPENING) == is_opening]
        times = series(mine, "ns_per_packet")
        if times:
            plots[f"{file}.svg"] = plot.lines(title, "nanoseconds a packet", times, lines)
        counts = series(mine, "instructions_per_packet")
        if counts:
            plots[f"{file}-instructions.svg"] = plot.lines(title, "instructions a packet", counts)
    octets = series(rows, "bytes_per_connection")
    if octets:
        groups = {case: {"octets": max(points)[1]} for case, points in octets.items()}
        title = "Memory of a connection, at the most flows measured"
        plots["forward-memory.svg"] = plot.bars(title, "case", "octets a connection", groups)
    return plots


def read_veth(text):
    """Rows of the table in what the benchmark on veth printed."""
    rows, inside = [], False
    for line in text.splitlines():
        words = line.replace("%", "").split()
        if words[:1] == ["subject"]:
            inside = "ratio" in words and "flood" in words
        elif inside and len(words) > len(VETH_COLUMNS):
            values = words[-len(VETH_COLUMNS) :]
            try:
                found = {name: None if value == "-" else float(value) for name, value in zip(VETH_COLUMNS, values)}
            except ValueError:
                inside = False
                continue
            rows.append(dict(found, subject=" ".join(words[: -len(VETH_COLUMNS)]), flows=int(found["flows"])))
        else:
            inside = False
    return rows


def veth_plots(rows):
    """File names and texts of the plots of the benchmark on veth."""
    ratios, floods = {}, {}
    for row in rows:
        group = plot.number(row["flows"])
        if row["ratio"] is not None:
            ratios.setdefault(group, {})[row["subject"]] = row["ratio"]
        floods.setdefault(group, {})[row["subject"]] = row["flood"]
    plots = {}
    if ratios:
        title = "One worker on veth (copy mode), beside a bare AF_XDP forwarder"
        goals = [("the floor", 1.0)]
        plots["veth.svg"] = plot.bars(title, "flows", "ratio of rates to the floor", ratios, goals)
    if floods:
        title = "Flood on veth (copy mode): no line rates"
        plots["veth-flood.svg"] = plot.bars(title, "flows", "millions of frames a second", floods)
    return plots


def write(path, text):
    """A file, replaced as a whole."""
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(path + ".new", path)


class Run:
    """What one call of the script does."""

    def __init__(self, options, say):
        self.options, self.say = options, say
        self.commands = []
        self.broken = 0

    def path(self, name):
        """A file among the results."""
        return os.path.join(self.options.out, name)

    def program(self, name, words, capture=False):
        """Builds and runs a benchmark; what it printed. Run by itself: under sudo cargo is not root, and it must be."""
        program = build.bench(name)
        # Whoever reads the results has the project elsewhere.
        told = [os.path.relpath(word, build.ROOT) if os.path.isabs(word) else word for word in words]
        self.commands.append(" ".join(["cargo", "bench", "--bench", name, "--", *told]))
        self.say(f"== {self.commands[-1]}")
        lines = []
        with subprocess.Popen([program, *words], cwd=build.ROOT, stdout=subprocess.PIPE, text=True) as child:
            for line in child.stdout:
                lines.append(line)
                self.say(line.rstrip("\n"))
        if child.returncode != 0:
            raise Fault(f"the benchmark {name} failed (status {child.returncode})")
        return "".join(lines)

    def forward(self):
        """Measures the pipeline in memory."""
        target = os.path.abspath(self.options.json or self.path("forward.json"))
        words = ["--json", target] + (["--quick"] if self.options.quick else [])
        if shutil.which("valgrind") is not None:
            words.append("--instructions")
        else:
            self.say("instructions are not counted: that needs valgrind")
        self.program("forward", words)
        rows = read_forward(target)
        self.say(f"{target}: {len(rows)} results")

    def veth(self):
        """Measures the director on veth."""
        if os.geteuid() != 0:
            self.say("skipped: the benchmark on veth needs root, for network namespaces")
            return
        text = self.program("veth", list(VETH_QUICK) if self.options.quick else [])
        skipped = [line for line in text.splitlines() if line.startswith("skipped:")]
        if skipped:
            return
        rows = read_veth(text)
        if not rows:
            raise Fault("the benchmark on veth printed no table")
        write(self.path("veth.json"), json.dumps(rows, indent=1) + "\n")

    def plot(self):
        """Draws all results that are there."""
        plots = {}
        if os.path.exists(self.path("forward.json")):
            plots.update(forward_plots(read_forward(self.path("forward.json")), read_goals(self.options.goals)))
        if os.path.exists(self.path("veth.json")):
            with open(self.path("veth.json"), encoding="utf-8") as file:
                plots.update(veth_plots(json.load(file)))
        if not plots:
            raise Fault(f"there is nothing to draw in {self.options.out}")
        for name, text in plots.items():
            write(self.path(name), text)
            self.say(self.path(name))

    def attempt(self, step):
        """One step; what keeps it from being done is said, and the others go on."""
        try:
            step()
        except (Fault, build.BuildError, OSError) as why:
            print(f"bench: {why}", file=sys.stderr)
            self.broken += 1

    def go(self):
        """The exit status."""
        # With a file of its own `forward` leaves the results alone.
        alone = self.options.json is not None
        if not alone:
            os.makedirs(self.options.out, exist_ok=True)
        steps = {"forward": [self.forward], "veth": [self.veth], "all": [self.forward, self.veth], "plot": []}
        for step in steps[self.options.what]:
            self.attempt(step)
        if self.commands and not alone:
            write(self.path("machine.txt"), machine.describe(self.commands))
        have_results = any(os.path.exists(self.path(name)) for name in ("forward.json", "veth.json"))
        if not alone and (have_results or self.options.what == "plot"):
            self.attempt(self.plot)
        return 1 if self.broken else 0


def parse(words):
    """Options."""
    parser = argparse.ArgumentParser(
        prog="bench",
        description="Runs the benchmarks that can run on this machine, and draws what they found.",
    )
    parser.add_argument("what", choices=("all", "forward", "veth", "plot"), help="plot: draw again what is there")
    parser.add_argument("--quick", action="store_true", help="shorter runs, to see that all works")
    parser.add_argument("--json", metavar="FILE", help="forward: its results go there, and nothing else is written")
    parser.add_argument("--out", metavar="DIR", default=RESULTS, help="where results go (default: bench/results)")
    parser.add_argument("--goals", metavar="FILE", default=GOALS, help="goal lines (default: bench/goals.json)")
    options = parser.parse_args(words)
    if options.json and options.what != "forward":
        parser.error("--json goes with forward")
    return options


def main(words=None, say=lambda text: print(text, flush=True)):
    """Runs what is asked; the exit status."""
    return Run(parse(words), say).go()

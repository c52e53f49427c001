"""scripts/differential: lvx beside the real kernel, over random commands and packets.

Cases are drawn from a seed, answered by the kernel of an oracle (a machine that boots in seconds) and by
`lvx replay --steps`, and compared as tests/golden/check compares. What differs is made smaller until nothing can be
left out, printed, and saved as a file that --replay takes.
"""

import argparse
import collections
import json
import os
import shlex
import sys
import time

sys.dont_write_bytecode = True

import generate
import oracle as reference
import profile_cli
import profile_icmp
import profile_traffic
from deviations import DEVIATIONS
from judge import Program, blur
from shrink import drive, shrink

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.normpath(os.path.join(HERE, "..", ".."))
BATCH = 40


class Found:
    """A case that differs, and how."""

    def __init__(self, case, difference):
        self.case, self.difference = case, difference
        self.more = []
        self.steady = True


class Run:
    """The cases of one call, and what came out."""

    def __init__(self, oracle, program, options):
        self.oracle, self.program, self.options = oracle, program, options
        self.end = time.monotonic() + options.seconds if options.seconds else None
        self.counts = collections.Counter()
        self.not_yet = collections.Counter()
        self.known = collections.Counter()
        self.found = {}

    def out_of_time(self):
        return self.end is not None and time.monotonic() > self.end

    def compare(self, cases):
        """Differences of each case, answered in one boot. A case that the reference cannot run has None."""
        results = []
        for recorded in self.oracle.run(cases):
            results.append((recorded, None if "broken" in recorded else self.program.differences(recorded)))
        return results

    def take(self, cases):
        """Compares a batch and keeps what differs, one case for each kind of difference."""
        ready = []
        for case in cases:
            case, named = self.program.supported(case)
            self.not_yet.update(named)
            ready.append(case)
        for case, (recorded, result) in zip(ready, self.compare(ready)):
            profile = case["family"]
            self.counts[profile, "cases"] += 1
            self.counts[profile, "steps"] += len(case["steps"])
            if result is None:
                self.counts[profile, "broken"] += 1
                print(f"{case['name']}: the reference could not run it: {recorded['broken'].strip().splitlines()[-1]}", flush=True)
                continue
            differences, known = result
            self.known.update(known)
            if not differences:
                continue
            self.counts[profile, "differ"] += 1
            first = differences[0]
            print(f"{case['name']} differs at {str(first).splitlines()[0]}", flush=True)
            same = self.found.get(first.signature())
            if same is None:
                self.found[first.signature()] = Found(case, first)
                continue
            # The shorter way to the difference is the better start.
            same.more.append(case["name"])
            if first.step < same.difference.step:
                same.more[-1] = same.case["name"]
                same.case, same.difference = case, first
        done = sum(count for (_, what), count in self.counts.items() if what == "cases")
        print(f"{done} cases done, {len(self.found)} kinds of difference", flush=True)

    def differs_alike(self, case, kind, result):
        """Whether a candidate shows the kind of difference that its case began with."""
        return result is not None and any(difference.kind() == kind for difference in result[0])

    def ask(self, found):
        """What `shrink.drive` asks, for these cases."""

        def answer(candidates):
            results = []
            for at in range(0, len(candidates), 2 * BATCH):
                part = candidates[at : at + 2 * BATCH]
                for (key, candidate), (_, result) in zip(part, self.compare([case for _, case in part])):
                    results.append(self.differs_alike(candidate, found[key].difference.kind(), result))
            print(f"  shrinking: {len(candidates)} candidates, {sum(results)} differ", flush=True)
            return results

        return answer

    def confirm_and_shrink(self):
        """Runs each found case twice more; those that differ again are shrunk, side by side."""
        found = list(self.found.values())
        if not found:
            return
        print(f"{len(found)} kinds of difference; once more, to see that they stay", flush=True)
        again = self.compare([one.case for one in found for _ in range(2)])
        for number, one in enumerate(found):
            results = [result for _, result in again[2 * number : 2 * number + 2]]
            one.steady = all(self.differs_alike(one.case, one.difference.kind(), result) for result in results)
        if self.options.no_shrink:
            return
        steady = {number: one for number, one in enumerate(found) if one.steady}
        shrinkers = {number: shrink(one.case, one.difference.step) for number, one in steady.items()}
        for number, case in drive(shrinkers, self.ask(steady), self.out_of_time).items():
            if case is not None:
                found[number].case = case
        # The texts of the small cases.
        for one, (_, result) in zip(steady.values(), self.compare([one.case for one in steady.values()])):
            if result and result[0]:
                kind = one.difference.kind()
                one.difference = next((d for d in result[0] if d.kind() == kind), result[0][0])

    def report(self):
        """Prints what was found and saves the cases; gives the number of steady differences."""
        steady = [one for one in self.found.values() if one.steady]
        merged = {}
        for one in steady:
            # Shrinking leads different cases to the same fault.
            key = (one.difference.kind(), blur(script(one.case)))
            if key in merged:
                merged[key].more += [one.case["name"], *one.more]
            else:
                merged[key] = one
        for one in merged.values():
            print(f"\n=== {one.case['name']} (seed {one.case.get('seed')}, case {one.case.get('number')} of {one.case['family']})"
                  + (f", also seen in {len(one.more)} more: {' '.join(one.more[:6])}" if one.more else ""))
            print(script(one.case))
            print(f"--- {one.difference}")
            if self.options.save:
                os.makedirs(self.options.save, exist_ok=True)
                path = os.path.join(self.options.save, one.case["name"] + ".json")
                with open(path, "w", encoding="utf-8") as file:
                    file.write(saved(one.case, one.difference))
                print(f"--- saved: {path}")
        print("\nsummary")
        for name in sorted({profile for profile, _ in self.counts}):
            row = {what: self.counts[name, what] for what in ("cases", "steps", "differ", "broken")}
            print(f"  {name:8} {row['cases']} cases, {row['steps']} steps, {row['differ']} differ"
                  + (f", {row['broken']} could not be run by the reference" if row["broken"] else ""))
        for one in self.found.values():
            if not one.steady:
                print(f"  not again: {one.case['name']}: {' | '.join(str(one.difference).splitlines())[:240]}")
        for name, count in self.not_yet.most_common():
            print(f"  not supported yet, left out: {name}: {count} steps")
        for name, count in self.known.most_common():
            print(f"  documented deviation {name}: {count}")
        print(f"  {self.oracle.boots} boots, {self.oracle.cases} cases in them")
        print(f"{len(merged)} differences")
        return len(merged)


def script(case):
    """A case in words, one line a step."""
    lines = [f"@net {' '.join(f'{key}={value}' for key, value in case['net'].items())}"] if case.get("net") else []
    for step in case["steps"]:
        if "argv" in step:
            lines.append(shlex.join(step["argv"]))
            if step.get("stdin") is not None:
                lines += [f"    {line}" for line in (step["stdin"] or "").splitlines()]
        elif "send" in step:
            lines.append(f"@{step['send']} {step['note']}")
        else:
            key = next(iter(step))
            lines.append(f"@{key} {step[key]}" + (f"={step['value']!r}" if "value" in step else ""))
    return "\n".join(lines)


def saved(case, difference):
    """The file of a case, a step a line."""
    head = {key: value for key, value in case.items() if key != "steps"}
    head["difference"] = str(difference)
    lines = [f" {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    steps = ",\n".join("  " + json.dumps(step) for step in case["steps"])
    return "{\n" + "\n".join(lines) + '\n "steps": [\n' + steps + "\n ]\n}\n"


def find_program(named):
    """The command of the program under test."""
    if named:
        return named
    built = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
    places = [os.path.join(built, kind, "lvx") for kind in ("debug", "release")]
    there = [place for place in places if os.path.exists(place)]
    if not there:
        sys.exit("differential: lvx is not built; cargo build, or name it with --lvx")
    return shlex.quote(max(there, key=os.path.getmtime)) + " replay"


def arguments(words):
    """The command line."""
    made = argparse.ArgumentParser(prog="scripts/differential", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--seed", type=int, default=1, help="what the cases are drawn from (default: 1)")
    made.add_argument("--cases", type=int, default=20, metavar="N", help="cases of each profile (default: 20)")
    made.add_argument("--first", type=int, default=0, metavar="N", help="number of the first case (default: 0)")
    made.add_argument("--seconds", type=float, metavar="S", help="begin no batch and no round of shrinking after so long")
    made.add_argument("--profile", metavar="NAME[,NAME...]", default=",".join(generate.DEFAULT_PROFILES),
                      help="of " + " ".join(generate.PROFILES) + " (default: %(default)s)")
    made.add_argument("--replay", metavar="FILE", nargs="+", help="run saved cases instead")
    made.add_argument("--oracle", metavar="DIR", help="directory of the oracle (default: LVX_ORACLE, or ../shared/oracle)")
    made.add_argument("--machines", type=int, default=1, metavar="N", help="oracles that run at once (default: 1)")
    made.add_argument("--lvx", metavar="COMMAND", help="the program under test (default: `lvx replay` as built last)")
    made.add_argument("--save", metavar="DIR", help="where shrunk cases go (default: target/differential)",
                      default=os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "differential"))
    made.add_argument("--no-shrink", action="store_true", help="show differing cases as they were drawn")
    made.add_argument("--print", action="store_true", help="print the cases and run nothing")
    made.add_argument("--require", action="store_true", help="fail where there is no oracle, instead of skipping")
    made.add_argument("--deviations", action="store_true", help="list what lvx does otherwise on purpose, with the reasons")
    return made.parse_args(words)


def drawn(options):
    """The cases that are asked for, profiles in turn, so that a time limit cuts all alike."""
    if options.replay:
        for path in options.replay:
            try:
                with open(path, encoding="utf-8") as file:
                    yield json.load(file)
            except (OSError, ValueError) as error:
                sys.exit(f"differential: {path}: {error}")
        return
    names = options.profile.split(",")
    for name in names:
        if name not in generate.PROFILES:
            sys.exit(f"differential: no profile {name!r}; there are {' '.join(generate.PROFILES)}")
    for number in range(options.first, options.first + options.cases):
        for name in names:
            yield generate.case(name, options.seed, number)


def main(words=None):
    """Exit status: 0 nothing differs or skipped, 1 differences, 2 wrong words or no way to run."""
    options = arguments(words)
    if options.deviations:
        for name, reason, _ in DEVIATIONS:
            print(f"{name}: {reason}")
        return 0
    if options.print:
        for case in drawn(options):
            print(f"# {case['name']}\n{script(case)}\n")
        return 0
    place, why = reference.find(options.oracle)
    if place is None:
        print(f"skipped: {why}")
        return 2 if options.require else 0
    run = Run(reference.Oracle(place, options.machines), Program(find_program(options.lvx)), options)
    batch = []
    try:
        for case in drawn(options):
            if run.out_of_time():
                break
            batch.append(case)
            if len(batch) == BATCH:
                run.take(batch)
                batch = []
        if batch and not run.out_of_time():
            run.take(batch)
        run.confirm_and_shrink()
    except reference.OracleError as error:
        print(f"differential: {error}", file=sys.stderr)
        return 2
    return 1 if run.report() else 0


if __name__ == "__main__":
    sys.exit(main())

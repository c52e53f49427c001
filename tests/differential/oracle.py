"""The reference: boots the oracle's machine with a file of cases and brings back the answers of its kernel."""

import concurrent.futures
import copy
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
BOOT_S = 60
CASE_S = 12


class OracleError(Exception):
    """The machine did not give all answers."""


def find(named):
    """The oracle's directory and None, or None and the reason why there is none.

    `named` comes from the command line; then the environment's LVX_ORACLE; then a directory beside the checkout.
    """
    place = named or os.environ.get("LVX_ORACLE")
    beside = os.path.join(HERE, "..", "..", "..", "shared", "oracle")
    place = os.path.abspath(place or beside)
    if not os.path.isfile(os.path.join(place, "run")):
        return None, "there is no oracle (a machine with the real kernel); name it with --oracle or LVX_ORACLE"
    if not (shutil.which("linux.uml") or os.path.exists("/usr/bin/linux.uml")):
        return None, "the oracle's kernel (linux.uml) is not installed; its setup does it"
    return place, None


class Oracle:
    """Boots the machine for a batch of cases; counts what it did."""

    def __init__(self, place, machines=1):
        self.place, self.machines = place, machines
        self.boots = 0
        self.cases = 0

    def run(self, cases):
        """Copies of the cases with the kernel's answers, in the same order.

        The case at which a machine stopped comes back `broken`; those after it are asked of another.
        """
        share = -(-len(cases) // self.machines)
        parts = [cases[at : at + share] for at in range(0, len(cases), share or 1)]
        with concurrent.futures.ThreadPoolExecutor(self.machines) as threads:
            return [case for part in threads.map(self.run_part, parts) for case in part]

    def run_part(self, cases):
        """As `run`, one machine after the other."""
        answered = self.boot(cases)
        missing = cases[len(answered):]
        if missing:
            first = dict(copy.deepcopy(missing[0]), broken="the machine stopped at this case")
            answered.append(first)
            if len(missing) > 1:
                answered += self.run_part(missing[1:])
        return answered

    def boot(self, cases):
        """One boot; what was answered before it ended."""
        self.boots += 1
        self.cases += len(cases)
        with tempfile.TemporaryDirectory(prefix="lvx-differential-") as directory:
            with open(os.path.join(directory, "cases.jsonl"), "w", encoding="utf-8") as file:
                file.writelines(json.dumps(case) + "\n" for case in cases)
            words = ["python3", os.path.join(HERE, "guest.py"), os.path.join(self.place, "guest"), "/out"]
            script = os.path.join(directory, "script")
            with open(script, "w", encoding="utf-8") as file:
                file.write("export PYTHONDONTWRITEBYTECODE=1\n" + shlex.join(words) + "\n")
            limit = BOOT_S + CASE_S * len(cases)
            ran = subprocess.run(
                [os.path.join(self.place, "run"), script, directory],
                env=dict(os.environ, ORACLE_TIMEOUT=str(limit)), capture_output=True, text=True, errors="replace",
            )
            results = os.path.join(directory, "results.jsonl")
            answered = []
            if os.path.exists(results):
                with open(results, encoding="utf-8") as file:
                    for line in file:
                        if line.endswith("\n"):
                            answered.append(json.loads(line))
            if ran.returncode != 0:
                tail = "\n".join(ran.stderr.strip().split("\n")[-5:])
                print(f"differential: the machine ended with {ran.returncode}: {tail}", file=sys.stderr)
                if not answered and ran.returncode != 124:
                    raise OracleError(f"the oracle does not run: {tail}")
            return answered

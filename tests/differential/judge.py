"""Asks lvx what the kernel was asked, and compares by the rules of `tests/golden/check`.

Two things differ from there: time moves in lvx by what it took in the recording, step by step, and the fields that the
kernel draws at random are told by the packet (`packets.varying`) because there is one recording and not two.
"""

import copy
import json
import os
import re
import shlex
import subprocess
import tempfile

import deviations
import packets

check = packets.check
ANSWER_S_MAX = 60
# What a step has to have before the kernel has answered, so that its lines can be made.
EMPTY = {"exit": 0, "stdout": "", "stderr": "", "lines": [], "entries": [], "text": "", "error": None, "out": []}


class Difference:
    """Where and how two answers differ."""

    def __init__(self, case, step, label, text):
        self.step, self.label, self.text = step, label, text
        self.at = case["steps"][step] if 0 <= step < len(case["steps"]) else {}

    def kind(self):
        """What must stay the same while a case shrinks: the command or kind of step, and which answer differs."""
        words = self.at.get("argv")
        if words:
            what = " ".join(word for word in words[:2] if word.startswith(("-", "ip")))
        else:
            what = next((key for key in self.at if key in ("conns", "conn", "proc", "sysctl", "sysctl_get", "send")), "?")
            what = f"{what} {self.at.get(what, '')}" if what in ("proc", "send", "sysctl", "sysctl_get") else what
        field = self.text.split(":", 1)[0].split("\n")[0] if ":" in self.text else self.text
        return what, blur(field)

    def signature(self):
        """Differences with the same one are most likely the same fault, seen in several cases."""
        return self.kind(), blur("\n".join(self.text.split("\n")[:6]))

    def __str__(self):
        return f"step {self.step}: {self.label}\n" + "\n".join("  " + line for line in self.text.split("\n"))


def blur(text):
    """Addresses, numbers and octets replaced by a mark."""
    text = re.sub(r"\[?[0-9a-f]*:[0-9a-f:]+\]?|\d+\.\d+\.\d+\.\d+", "A", text)
    text = re.sub(r"\b[0-9a-f]{6,}\b", "H", text)
    return re.sub(r"\d+", "#", text)


def is_error(protocol, kind):
    """Whether a type of ICMP or ICMPv6 is an error's."""
    return kind in (3, 4, 5, 11, 12) if protocol == packets.ICMP else kind < 128


def rows(lines):
    """`(protocol, seconds left, state, client)` of the lines of -Lnc that are connections."""
    found = []
    for line in lines:
        words, expiry = line.split(), check.EXP.match(line)
        if expiry and len(words) > 5:
            found.append((words[0], int(expiry[2]) * 60 + int(expiry[3]), words[2], words[3]))
    return found


class TimedCase(check.Case):
    """A case of the judge whose clock is the recording's."""

    now = 0.0

    def __init__(self, path):
        # Clients whose packet both hosts were left to answer with a TCP reset.
        self.reset = set()
        super().__init__(path)

    def steps(self):
        kinds = ("argv", "conns", "conn", "proc", "sysctl", "sysctl_get", "sysctls", "sleep", "send")
        for number, step in enumerate(self.c["steps"]):
            kind = next(kind for kind in kinds if kind in step)
            # A command reaches the kernel at the end of its time: most of that is its start.
            self.until(number, step["t0"] if kind in ("send", "sleep") else step["t"])
            if kind == "argv":
                self.command(number, step)
            elif kind == "sysctl":
                self.sysctl(number, step["sysctl"], step["value"], step["error"])
            elif kind == "sleep":
                self.until(number, step["t"])
            elif kind == "send":
                self.packet(number, self.marked(step))
            elif kind in ("sysctl_get", "sysctls"):
                getattr(self, kind)(number, step)
            else:
                getattr(self, kind)(number, step, step.get("compare"))

    def until(self, number, moment):
        """Moves the clock on; frames that leave meanwhile are nobody's answer and are looked at by no step."""
        if moment > self.now:
            super().advance(number, round(moment - self.now, 4), sync=False)
            self.now = moment

    def advance(self, i, s, label=None, sync=True, use=None):
        """The judge's waiting after a packet: as short as the recording's."""
        super().advance(i, 0.001, label, sync, use)
        self.now += 0.001

    def marked(self, step):
        """The step with the fields marked that the kernel draws at random."""
        sent = bytes.fromhex(step["hex"])
        outs = [dict(out, vary=packets.varying(sent, bytes.fromhex(out["hex"]))) for out in step["out"]]
        return dict(step, out=outs)

    def judge(self, p, v, want, got, eth_dst):
        """As the judge, and remembers whom the host reset.

        A host says nothing of an ICMP error that it cannot route on for its TTL (RFC 1122, 3.2.2).
        """
        error = p.proto in (packets.ICMP, packets.ICMP6) and p.body[:1] and is_error(p.proto, p.body[0])
        if v == "pass" and not want and not got and error and p.ttl <= 1 and not check.is_local(p.dst):
            return
        before = self.used.get("host-tcp-reset", 0)
        super().judge(p, v, want, got, eth_dst)
        if v == "pass" and self.used.get("host-tcp-reset", 0) > before:
            address = check.ipaddress.ip_address(p.src)
            self.reset.add(packets.endpoint(str(address), p.ports()[0]))

    def gone(self, row, theirs):
        """Whether a row of the reference that lvx does not have is none that lvx should have.

        `row` and `theirs` are `(protocol, seconds, state, client)` each. An entry that expires at once goes with the
        kernel's next tick, and is listed with 0 s until then. And a connection that expires at a packet is still found
        by the reset with which the host answers that packet, and so goes on in CLOSE; the director never sees the
        host's packets.
        """
        protocol, seconds, state, client = row
        if seconds == 0:
            return all((protocol, state, client) != (one[0], one[2], one[3]) for one in theirs)
        if client in self.reset and state == "CLOSE" and all(client != one[3] for one in theirs):
            self.rule("host-reset-revives")
            return True
        return False

    def conns(self, i, st, how):
        """As the judge, without entries that are `gone`."""
        super().conns(i, st, how)

        def act(answer):
            theirs = rows(answer.get("stdout", "").split("\n"))
            st["lines"] = [line for line in st["lines"] if not any(self.gone(row, theirs) for row in rows([line]))]

        self.before(act)

    def conn(self, i, st, how):
        """The same for one client."""
        super().conn(i, st, how)

        def act(answer):
            theirs = [row for row in rows(answer.get("stdout", "").split("\n")) if row[3] == st["conn"]]
            st["entries"] = [
                entry for entry in st["entries"]
                if not self.gone((entry["proto"], entry["expires"], entry["state"], st["conn"]), theirs)
            ]

        self.before(act)

    def before(self, act):
        """Lets `act` see the answer to the last line before it is compared."""
        line, times, step, label, use = self.plan[-1]

        def both(answer):
            act(answer)
            use(answer)

        self.plan[-1] = (line, times, step, label, both)

    def command(self, number, step):
        """A command of ipvsadm, or of iptables, whose rules lvx takes from iptables-save."""
        program = step["argv"][0]
        if program in ("iptables", "ip6tables"):
            return
        if program in ("iptables-save", "ip6tables-save"):
            self.load_marks(number, step)
        else:
            self.text_step(number, step, step.get("compare"))

    def load_marks(self, number, step):
        def use(answer):
            self.need(answer, "exit")
            if answer["exit"] != 0:
                raise check.Diff(f"mark load: exit {answer['exit']}: {answer.get('stderr', '')}")

        self.cmd(number, ["lvx", "mark", "load", "-"], step["stdout"], use, "lvx mark load - (what iptables-save says)")


def prepared(case):
    """The case with an empty answer to each step, where it has none: enough to ask lvx."""
    case = copy.deepcopy(case)
    moment = 0.0
    for step in case["steps"]:
        for key, value in EMPTY.items():
            step.setdefault(key, copy.deepcopy(value))
        step.setdefault("t0", moment)
        moment += step.get("sleep", 0.01)
        step.setdefault("t", moment)
        moment = step["t"]
    return case


class Program:
    """`lvx replay`, one process a case."""

    def __init__(self, command):
        self.words = shlex.split(command)

    def ask(self, case):
        """The judge's case and the program's answers to its lines; as many as came."""
        with tempfile.TemporaryDirectory(prefix="lvx-differential-") as directory:
            path = os.path.join(directory, "case.json")
            with open(path, "w", encoding="utf-8") as file:
                json.dump(case, file)
            timed = TimedCase(path)
            network = os.path.join(directory, "net")
            with open(network, "w", encoding="utf-8") as file:
                file.write("\n".join(check.net_lines(case)) + "\n")
            lines = b"".join(line * times for line, times, *_ in timed.plan)
            words = [*self.words, "--net", network, "--steps", "-"]
            try:
                ran = subprocess.run(words, input=lines, capture_output=True, timeout=ANSWER_S_MAX)
                output, errors, status = ran.stdout, ran.stderr, ran.returncode
            except subprocess.TimeoutExpired as late:
                output, errors, status = late.stdout or b"", late.stderr or b"", "no end"
        answers = []
        for line in output.split(b"\n"):
            if line:
                try:
                    answers.append(json.loads(line))
                except ValueError:
                    break
        tail = errors.decode("utf-8", "replace").strip()[-600:]
        return timed, answers, (status, tail)

    def supported(self, case):
        """The case without the steps that lvx refuses as not supported yet, and the names of what was refused.

        What a left-out step would have made is missing afterwards on both sides, and what is asked of it is answered
        alike; so the rest of the case is worth comparing.
        """
        named = []
        for _ in range(4):
            timed, answers, _ = self.ask(prepared(case))
            gone = {}
            for (_, _, number, _, _), answer in zip(timed.plan, answers):
                name = deviations.not_yet(answer)
                if name and number not in gone:
                    gone[number] = name
            if not gone:
                break
            named += gone.values()
            if any(case["steps"][number].get("argv", [""])[0].endswith("tables-save") for number in gone):
                # Without its marks the reference must have none either.
                tables = ("iptables", "ip6tables")
                gone.update((at, "") for at, step in enumerate(case["steps"]) if step.get("argv", [""])[0] in tables)
            case = dict(case, steps=[step for number, step in enumerate(case["steps"]) if number not in gone])
        return case, named

    def differences(self, recorded):
        """What differs between a case that the kernel answered and lvx: differences, and names of known deviations."""
        case = prepared(recorded)
        timed, answers, (status, tail) = self.ask(case)
        for number, answer in enumerate(answers[: len(timed.plan)]):
            timed.consume(number, answer)
        found = [Difference(case, step, label, text) for step, label, text in timed.diffs]
        if len(answers) < len(timed.plan) or status != 0:
            at = min(len(answers), len(timed.plan) - 1)
            _, _, step, label, _ = timed.plan[at]
            found.append(Difference(case, step, label, f"the program ended: status {status}: {tail}"))
        left = []
        known = ["host-reset-revives"] * timed.used.get("host-reset-revives", 0)
        for difference in found:
            name = deviations.deviation(case["steps"][: difference.step + 1], difference.text)
            if name:
                known.append(name)
            else:
                left.append(difference)
        return left, known

"""Builds benchmarks with cargo, as the person behind sudo where there is one: Rust is most often theirs."""

import json
import os
import pwd
import shutil
import subprocess

ROOT = os.path.realpath(os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", ".."))


class BuildError(Exception):
    """No program, and why."""


def cargo():
    """The words that run cargo."""
    user = os.environ.get("SUDO_USER")
    behind = user if user and user != "root" and os.geteuid() == 0 else None
    home = pwd.getpwnam(behind).pw_dir if behind else os.path.expanduser("~")
    program = shutil.which("cargo") or shutil.which("cargo", path=os.path.join(home, ".cargo", "bin"))
    if not program:
        raise BuildError("cargo is missing; https://rustup.rs says how to install it")
    path = f"PATH={os.path.dirname(program)}:{os.environ.get('PATH', '')}"
    return (["runuser", "-u", behind, "--"] if behind else []) + ["env", f"HOME={home}", path, program]


def bench(name, profile=None):
    """Path of the benchmark's program, built."""
    words = ["bench", "--bench", name, "--no-run", "--message-format=json"]
    words += ["--profile", profile] if profile else []
    done = subprocess.run(cargo() + words, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"cargo cannot build the benchmark {name}; what it says stands above")
    for line in done.stdout.splitlines():
        message = json.loads(line) if line.startswith("{") else {}
        if message.get("executable") and message.get("target", {}).get("name") == name:
            return message["executable"]
    raise BuildError(f"cargo does not say where the benchmark {name} is")

"""What a figure depends on beside the program: the machine, in words."""

import datetime
import glob
import os
import platform
import subprocess

import build


def first_line(path, default="unknown"):
    """A file's first line."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.readline().strip()
    except OSError:
        return default


def field(path, name):
    """What follows `name` and a colon in a file of such lines."""
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                key, _, value = line.partition(":")
                if key.strip() == name:
                    return value.strip()
    except OSError:
        pass
    return "unknown"


def output(*words):
    """What a program prints, or unknown."""
    try:
        return subprocess.run(words, cwd=build.ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def caches():
    """Each cache of the first processor."""
    found = []
    for index in sorted(glob.glob("/sys/devices/system/cpu/cpu0/cache/index*")):
        level, kind, size, shared = (
            first_line(os.path.join(index, name)) for name in ("level", "type", "size", "shared_cpu_list")
        )
        found.append(f"L{level} {kind.lower()} {size} (processors {shared})")
    return ", ".join(found) or "unknown"


def describe(commands):
    """The text of machine.txt."""
    now = datetime.datetime.now(datetime.timezone.utc)
    changed = "" if output("git", "status", "--porcelain", "--untracked-files=no") == "" else ", with changes"
    meminfo = "/proc/meminfo"
    rows = [
        ("date", now.strftime("%Y-%m-%d %H:%M UTC")),
        ("source", output("git", "rev-parse", "--short=12", "HEAD") + changed),
        ("compiler", output(*cargo_words(), "--version")),
        ("kernel", f"{platform.system()} {platform.release()} {platform.machine()}"),
        ("processor", field("/proc/cpuinfo", "model name")),
        ("processors", str(os.cpu_count())),
        ("virtual", "yes" if " hypervisor" in field("/proc/cpuinfo", "flags") else "no"),
        ("caches", caches()),
        ("governor", first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        ("memory", field(meminfo, "MemTotal")),
        ("huge pages", f"{field(meminfo, 'HugePages_Total')} of {field(meminfo, 'Hugepagesize')}"),
        ("transparent huge pages", first_line("/sys/kernel/mm/transparent_hugepage/enabled")),
    ]
    rows += [("command", command) for command in commands]
    return "".join(f"{name + ':':<24}{value}\n" for name, value in rows)


def cargo_words():
    """The words that run cargo, or what will not be found."""
    try:
        return build.cargo()
    except build.BuildError:
        return ["cargo"]

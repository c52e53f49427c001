"""Inside the oracle's machine: runs cases against its kernel, each in a fresh network.

usage: guest.py ORACLE_GUEST_DIRECTORY WORK_DIRECTORY

Reads `cases.jsonl` of the work directory and appends each case with its answers to `results.jsonl`, so that what is
done stays when the machine is stopped. A case that cannot be run has `broken` with the reason instead.
"""

import json
import os
import shlex
import sys
import time
import traceback

# Packets leave while the sending system call still runs; what comes later is added to the packet's frames before the
# next step, so the wait is short.
QUIET_S = 0.004
COMMAND_S_MAX = 20
# The kernel ends the connections of a removed server in the background, two ticks later.
BACKGROUND_S = 0.04


def write_sysctl(name, value):
    """The error's text, or None."""
    try:
        with open("/proc/sys/" + name.replace(".", "/"), "w", encoding="utf-8") as knob:
            knob.write(value + "\n")
        return None
    except OSError as error:
        return error.strerror


def full_name(name):
    """`vs.x` is short for `net.ipv4.vs.x`."""
    return "net.ipv4." + name if name.startswith("vs.") else "net." + name


def run_step(engine, net, step):
    """Adds to a step what happened to it."""
    if "argv" in step:
        step["exit"], step["stdout"], step["stderr"] = engine.run_cmd(step["argv"], step.get("stdin"), COMMAND_S_MAX)
        if "-d" in step["argv"]:
            time.sleep(BACKGROUND_S)
    elif "conns" in step:
        status, output, errors = engine.run_cmd(shlex.split(step["conns"]), None, COMMAND_S_MAX)
        step["lines"] = engine.sort_conns(output)
        step["exit"], step["stderr"] = status, errors
    elif "conn" in step:
        step["entries"] = engine.conn_entries(step["conn"])
    elif "proc" in step:
        step["text"] = engine.read("/proc/net/" + step["proc"])
    elif "sysctl" in step:
        step["error"] = write_sysctl(full_name(step["sysctl"]), step["value"])
    elif "sysctl_get" in step:
        step["text"] = engine.read("/proc/sys/" + full_name(step["sysctl_get"]).replace(".", "/")).rstrip("\n")
    elif "sysctls" in step:
        step["sysctls"] = engine.vs_sysctls()
    elif "sleep" in step:
        time.sleep(step["sleep"])
    elif "send" in step:
        packet = bytes.fromhex(step["hex"])
        port = 0 if step["send"] == "client" else 1
        net.send(port, packet, engine.wire.rs_mac(step["server"]) if step.get("server") else None)
        step["out"] = engine.out_frames(net.recv(QUIET_S))
    else:
        raise ValueError(f"unknown step {sorted(step)}")


def run_case(engine, case):
    """Runs the steps; each gets `t0` and `t`, its beginning and end in seconds since the case began."""
    options = case.get("net", {})
    net = engine.wire.Net(**options)
    wired = not options.get("light")
    sent = None
    begin = time.monotonic()
    try:
        for step in case["steps"]:
            late = net.recv(0) if wired else []
            if late and sent:
                sent["out"] += engine.out_frames(late)
            step["t0"] = round(time.monotonic() - begin, 4)
            run_step(engine, net, step)
            step["t"] = round(time.monotonic() - begin, 4)
            if "send" in step:
                sent = step
        if sent:
            sent["out"] += engine.out_frames(net.recv(QUIET_S))
    finally:
        net.close()


def main():
    """All cases of the file, in order."""
    guest, directory = sys.argv[1:3]
    sys.path.insert(0, guest)
    import engine  # of the oracle, whose place is known only now

    with open(os.path.join(directory, "cases.jsonl"), encoding="utf-8") as lines, open(
        os.path.join(directory, "results.jsonl"), "w", encoding="utf-8"
    ) as results:
        for line in lines:
            case = json.loads(line)
            try:
                run_case(engine, case)
            except Exception:  # whatever it is, the other cases go on and the report says it
                case["broken"] = traceback.format_exc()
            results.write(json.dumps(case) + "\n")
            results.flush()


if __name__ == "__main__":
    main()

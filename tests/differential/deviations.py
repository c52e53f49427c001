"""What lvx does otherwise than the reference and means to, with the reason; and what it does not do yet.

Each row is `(name, reason, matches)`: `matches(steps, text)` is true where a difference at the last of these steps, as
the judge words it, is this deviation and nothing else. A difference that a row matches is counted under its name and is no failure.
"""

import re

import packets

DEVIATIONS = [
    (
        "icmpv6-from-server",
        "the reference drops ICMPv6 errors of masqueraded servers because it checks their checksum without the pseudo "
        "header (net/netfilter/ipvs/ip_vs_core.c, handle_response_icmp); lvx relays them, as for IPv4",
        lambda steps, text: is_icmpv6_error(steps[-1], "server") and "1 frames out of eth0, want 0" in text,
    ),
    (
        "host-reset-revives",
        "a connection that expires at a packet (expire_nodest_conn) is still found by the TCP reset with which the host "
        "answers that packet, and goes on in CLOSE for 10 s; the director does not see what the host sends. "
        "judge.TimedCase.gone takes these entries out, so that no text is matched here",
        lambda steps, text: False,
    ),
    (
        "icmpv6-wrong-checksum",
        "the reference relays an ICMPv6 error from the clients' side whose checksum is wrong and gives it a right one "
        "(ip_vs_nat_icmp_v6); lvx drops what is damaged, as for IPv4",
        lambda steps, text: is_icmpv6_error(steps[-1], "client")
        and not packets.check.Packet(bytes.fromhex(steps[-1]["hex"])).l4_good()
        and "0 frames out of eth1, want 1" in text,
    ),
    (
        "route-of-another-method",
        "the reference keeps one cached route a server for all methods; where connections of -g live on after the server "
        "has become -m, their packets take the route that was looked up for the others and wait for a neighbour with "
        "the virtual address, which nobody is (__ip_vs_get_out_rt, FLOWI_FLAG_KNOWN_NH); lvx forwards them",
        lambda steps, text: steps[-1].get("send") == "client"
        and "1 frames out of eth1, want 0; the first too many" in text
        and has_server_of_two_methods(steps),
    ),
]


def is_icmpv6_error(step, side):
    """Whether a step is an ICMPv6 error from this side."""
    packet = bytes.fromhex(step.get("hex", "")) if step.get("send") == side else b""
    return len(packet) > 40 and packet[0] >> 4 == 6 and packet[6] == packets.ICMP6 and packet[40] < 128


def has_server_of_two_methods(steps):
    """Whether some server was given both direct routing and masquerading."""
    methods = {}
    for step in steps:
        words = step.get("argv", [])
        if "-r" in words and {"-a", "-e"} & set(words):
            method = next((word for word in words if word in ("-m", "-i")), "-g")
            methods.setdefault(words[words.index("-r") + 1], set()).add(method)
    return any({"-g", "-m"} <= given for given in methods.values())


# What an answer says where lvx refuses something that is to come. The step is left out on both sides and counted.
NOT_YET = re.compile(r"([^\n:]*?) (?:is|are) not supported yet")
NOT_YET_VERDICTS = {
    "drop:fragment": "reassembly of fragments",
    "drop:method": "a forwarding method",
}


def not_yet(answer):
    """The name of what an answer refuses as not supported yet, or None."""
    if not isinstance(answer, dict):
        return None
    if "knows no command `lvx mark" in str(answer.get("error", "")):
        return "firewall marks"
    for key in ("stderr", "error"):
        found = NOT_YET.search(str(answer.get(key, "")))
        if found:
            return found[1].strip()
    return NOT_YET_VERDICTS.get(answer.get("verdict"))


def deviation(steps, text):
    """The name of the documented deviation that a difference is, or None."""
    for name, _reason, matches in DEVIATIONS:
        if steps and matches(steps, text):
            return name
    return None

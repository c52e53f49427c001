"""What lvx does otherwise than the reference and means to, with the reason; and what it does not do yet.

Each row is `(name, reason, matches)`: `matches(step, text)` is true where a difference, as the judge words it, is this
deviation and nothing else. A difference that a row matches is counted under its name and is no failure.
"""

import re

DEVIATIONS = [
    (
        "icmpv6-from-server",
        "the reference drops ICMPv6 errors of masqueraded servers because it checks their checksum without the pseudo "
        "header (net/netfilter/ipvs/ip_vs_core.c, handle_response_icmp); lvx relays them, as for IPv4",
        lambda step, text: step.get("send") == "server"
        and len(step["hex"]) > 82
        and step["hex"][0] == "6"
        and step["hex"][12:14] == "3a"
        and int(step["hex"][80:82], 16) < 128
        and re.search(r"1 frames out of eth0, want 0", text) is not None,
    ),
    (
        "host-reset-revives",
        "a connection that expires at a packet (expire_nodest_conn) is still found by the TCP reset with which the host "
        "answers that packet, and goes on in CLOSE for 10 s; the director does not see what the host sends. "
        "judge.TimedCase.gone takes these entries out, so that no text is matched here",
        lambda step, text: False,
    ),
]

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


def deviation(step, text):
    """The name of the documented deviation that a difference is, or None."""
    for name, _reason, matches in DEVIATIONS:
        if matches(step, text):
            return name
    return None

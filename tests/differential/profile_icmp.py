"""Profile `icmp`: errors about balanced packets, odd sizes, and what the director answers itself."""

import struct

from generate import Flow, Place, command, profile
from packets import endpoint, from_client, from_server, icmp_error, transport
from profile_traffic import CONNECTIONS, Service, first_event

KINDS4 = [(3, 0), (3, 1), (3, 3), (3, 4), (3, 13), (4, 0), (11, 0), (11, 1), (12, 0), (5, 1), (8, 0), (0, 0)]
KINDS6 = [(1, 0), (1, 4), (2, 0), (3, 0), (4, 0), (4, 1), (128, 0), (129, 0)]
KNOBS = {"schedule_icmp": "01", "nat_icmp_send": "01", "pmtu_disc": "01", "sloppy_tcp": "01", "expire_nodest_conn": "01"}


def error(draw, place, source, destination, quoted):
    """An ICMP message that quotes a packet, whole or cut."""
    kind, code = draw.choice(KINDS4 if place.version == 4 else KINDS6)
    least = 28 if place.version == 4 else 48
    cut = draw.weighted({len(quoted): 6, least: 3, least + 12: 2, least - 4: 0.4, 20: 0.2, 8: 0.2, 0: 0.2})
    mtu = draw.choice([0, 68, 576, 1280, 1400, 1500])
    rest = struct.pack("!HH", 0, mtu) if place.version == 4 else struct.pack("!I", mtu)
    made = icmp_error(source, destination, kind, code, rest, quoted[:cut], bad_checksum=draw.often(0.04),
                      ttl=64 if draw.often(0.9) else draw.choice([1, 2]))
    return made, f"ICMP {kind}/{code} quoting {cut} octets, {source} > {destination}"


@profile("icmp")
def icmp(draw):
    """A service, flows, and errors from both sides about packets that passed or never did."""
    place = Place(draw, 4 if draw.often(0.65) else 6)
    net = {}
    if draw.often(0.2):
        net = {draw.choice(["mtu0", "mtu1"]): draw.choice([1280, 1300, 1400])}
    method = draw.weighted({"-m": 5, "-g": 2, "-i": 3})
    protocol = draw.weighted({"tcp": 5, "udp": 4})
    service = Service(draw, place, protocol, place.vip(1), 80, "rr", (), (method,))
    sport = 80 if draw.often(0.6) or method != "-m" else 8080
    steps = [{"sysctl": "vs." + name, "value": draw.choice(KNOBS[name])} for name in draw.some(sorted(KNOBS), 3)]
    steps += [service.add()]
    if draw.often(0.93):
        steps += [command(["ipvsadm", "-a", *service.name, "-r", endpoint(place.server(1), sport), method])]
    router = "10.0.0.1" if place.version == 4 else "fd00::1"
    flows = []
    for _ in range(draw.randint(8, 25)):
        kind = draw.weighted({"new": 30, "size": 15, "ttl": 6, "client-error": 25, "server-error": 25, "answer": 10, "other": 5,
                              "stranger": 6, "server": 3})
        if kind == "new" or not flows:
            flows.append(Flow(protocol, place.client(), draw.randrange(1024, 65536), service.vip, 80))
            steps.append(flows[-1].packet(first_event(protocol)))
            continue
        flow = draw.choice(flows)
        usual = "A" if protocol == "tcp" else ""
        if kind == "size":
            size = draw.choice([1, 2, 3, 512, 1200, 1232, 1240, 1260, 1372, 1400, 1420, 1440])
            # No larger than the clients' cable carries.
            size = min(size, net.get("mtu0", 1500) - 60)
            steps.append(flow.packet(usual, data=bytes(at & 255 for at in range(size)), df=draw.often(0.6)))
            steps[-1]["note"] += f" {size} octets"
        elif kind == "ttl":
            limit = draw.choice([1, 2, 255])
            steps.append(flow.packet(usual, ttl=limit, tos=draw.choice([0, 0x10, 0xB8, 3])))
            steps[-1]["note"] += f" TTL {limit}"
        elif kind == "client-error":
            quoted = transport(protocol, flow.vip, 80, flow.client, flow.port, usual or "", data=b"quoted")
            source = draw.choice([flow.client, router, place.client()])
            steps.append(from_client(*error(draw, place, source, flow.vip, quoted)))
        elif kind == "server-error":
            seen = (place.server(1), sport) if method == "-m" else (flow.vip, 80)
            quoted = transport(protocol, flow.client, flow.port, *seen, usual or "", data=b"quoted")
            made, note = error(draw, place, place.server(1), flow.client, quoted)
            steps.append(from_server(made, 1, note))
        elif kind == "answer":
            steps.append(flow.answer(place.server(1), sport, 1, draw.choice(["SA", "A", "FA"]) if protocol == "tcp" else ""))
        elif kind == "stranger":
            # About a connection that there is not: schedule_icmp.
            quoted = transport(protocol, flow.vip, 80, place.client(), draw.randrange(1024, 65536), usual, data=b"quoted")
            steps.append(from_client(*error(draw, place, place.client(), flow.vip, quoted)))
        elif kind == "server":
            # From a server about no connection: nat_icmp_send.
            other = Flow(protocol, place.client(), 9, flow.vip, 80)
            steps.append(other.answer(place.server(1), sport, 1, "SA" if protocol == "tcp" else ""))
        else:
            steps.append({"conn": flow.name})
    return steps + [{"proc": "ip_vs"}, CONNECTIONS], net

"""A profile (bench/profiles) as streams of TRex's stateless mode; README.md says how to run it.

In the console: start -f lvx.py -p 0 1 -m 1mpps -t --profile udp64. Tunables: --profile NAME or PATH, --network FILE,
--octets N (all frames of that size), --part opening|measure, --latency (adds a stream whose times TRex takes).
"""

import argparse
import os
import sys

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "profiles"))

import profiles

# Where fields of a frame are.
IP, SEGMENT = 14, 34
PLACES = {"inbound": (26, 34), "outbound": (30, 36)}

# Packet group of the stream whose times are taken, its rate, and what its frames need behind the headers.
LATENCY_GROUP, LATENCY_RATE, LATENCY_OCTETS = 7, 1000, 16
# How fast flows are opened.
OPENING_RATE = 100_000


def api():
    """TRex's own modules, which are there where TRex runs."""
    import trex.stl.api

    return trex.stl.api


def field_engine(trex, profile, direction):
    """What TRex changes from frame to frame: the client's address and port, and the checksums."""
    address_at, port_at = PLACES[direction]
    first, port = profile.endpoint_of(0)
    kind = "L4_TYPE_TCP" if profile.protocol == "tcp" else "L4_TYPE_UDP"
    return trex.STLScVmRaw(
        [
            trex.STLVmTupleGen(
                name="client",
                ip_min=first,
                ip_max=first + profile.clients - 1,
                port_min=port,
                port_max=port + profile.ports - 1,
                limit_flows=profile.flows,
            ),
            trex.STLVmWrFlowVar(fv_name="client.ip", pkt_offset=address_at),
            trex.STLVmWrFlowVar(fv_name="client.port", pkt_offset=port_at),
            # By name: with numbers TRex takes the IP header to begin at 0.
            trex.STLVmFixChecksumHw(
                l3_offset="IP", l4_offset=profile.protocol.upper(), l4_type=getattr(trex.CTRexVmInsFixHwCs, kind)
            ),
        ]
    )


def stream(trex, profile, direction, frame, name, mode, **other):
    """One stream of frames like `frame`, which is that of flow 0."""
    # The frame as it is: without this TRex takes link addresses from its configuration, and padding away.
    packet = trex.STLPktBuilder(pkt_buffer=frame, vm=field_engine(trex, profile, direction), remove_fcs=False)
    return trex.STLStream(
        name=name,
        packet=packet,
        mode=mode,
        mac_src_override_by_pkt=True,
        mac_dst_override_mode=trex.STLStreamDstMAC_PKT,
        **other,
    )


def opening_streams(trex, profile):
    """One frame of each flow, inbound."""
    if profile.opening == "none":
        return []
    mode = trex.STLTXSingleBurst(total_pkts=profile.flows, pps=OPENING_RATE)
    return [stream(trex, profile, "inbound", next(profile.opening_stream()), "opening", mode)]


def measuring_streams(trex, profile, direction, latency=False):
    """A stream for each size; at a multiplier of 1 frame a second in all, each has its share."""
    if direction not in profile.directions:
        return []
    total = sum(weight for _, weight in profile.frames)
    made = []
    for octets, weight in profile.frames:
        frame = profile.frame(0, octets, direction)
        mode = trex.STLTXCont(pps=weight / total)
        made.append(stream(trex, profile, direction, frame, f"{direction}-{octets}", mode))
    if latency and direction == "inbound":
        octets = profile.frames[0][0]
        headers = 28 if profile.protocol == "udp" else 40
        data = octets - profiles.CHECK_SEQUENCE_OCTETS - IP - headers
        profiles.need(data >= LATENCY_OCTETS, profile.name, f"TRex takes times with {LATENCY_OCTETS} octets of data")
        group = trex.STLFlowLatencyStats(pg_id=LATENCY_GROUP)
        mode = trex.STLTXCont(pps=LATENCY_RATE)
        made.append(stream(trex, profile, direction, profile.frame(0, octets), "latency", mode, flow_stats=group))
    return made


class STLS1:
    """What TRex loads. Direction 0 is the clients' side, 1 the servers'."""

    def get_streams(self, direction=0, tunables=(), **_):
        """Streams of one port."""
        parser = argparse.ArgumentParser(prog=os.path.basename(__file__), description=__doc__.splitlines()[0])
        parser.add_argument("--profile", default="udp64", help="a name of bench/profiles, or a path")
        parser.add_argument("--network", help="a file like bench/profiles/network.json")
        parser.add_argument("--octets", type=int, help="all frames of that size")
        parser.add_argument("--part", choices=("opening", "measure"), default="measure")
        parser.add_argument("--latency", action="store_true")
        arguments = parser.parse_args(list(tunables))
        profile = profiles.find(arguments.profile, arguments.network)
        if arguments.octets is not None:
            profile = profile.with_octets(arguments.octets)
        trex = api()
        side = profiles.DIRECTIONS[direction % 2]
        if arguments.part == "opening":
            return opening_streams(trex, profile) if side == "inbound" else []
        return measuring_streams(trex, profile, side, arguments.latency)


def register():
    """TRex asks for this."""
    return STLS1()

"""What TRex does with a stream, for tests without TRex: the names that bench/trex uses, and its field engine.

The argument names are those of trex.stl.api; others are refused, as there. `frames` plays a stream's field engine.
"""

import struct
import sys
import types


class Record:
    """Keeps what it was made with; `fields` and `needed` are the names that it takes and wants."""

    fields, needed = (), ()

    def __init__(self, **given):
        unknown, missing = set(given) - set(self.fields), set(self.needed) - set(given)
        assert not unknown and not missing, f"{type(self).__name__}: unknown {unknown}, missing {missing}"
        self.__dict__.update({name: None for name in self.fields}, **given)


class STLVmTupleGen(Record):
    fields = ("name", "ip_min", "ip_max", "port_min", "port_max", "limit_flows", "flags")
    needed = ("name",)


class STLVmWrFlowVar(Record):
    fields = ("fv_name", "pkt_offset", "offset_fixup", "add_val", "is_big")
    needed = ("fv_name", "pkt_offset")


class STLVmFixChecksumHw(Record):
    fields = needed = ("l3_offset", "l4_offset", "l4_type")


class CTRexVmInsFixHwCs:
    L4_TYPE_UDP, L4_TYPE_TCP = 11, 13


class STLScVmRaw:
    def __init__(self, commands):
        self.commands = commands


class STLPktBuilder(Record):
    fields = ("pkt", "pkt_buffer", "vm", "path_relative_to_profile", "build_raw", "remove_fcs")

    def __init__(self, **given):
        super().__init__(**given)
        assert isinstance(self.pkt_buffer, bytes), "TRex takes bytes only"
        names = {"client.ip", "client.port"}
        assert all(c.fv_name in names for c in self.vm.commands if isinstance(c, STLVmWrFlowVar))


class STLStream(Record):
    fields = (
        "name", "packet", "mode", "enabled", "self_start", "isg", "flow_stats", "next", "stream_id", "action_count",
        "random_seed", "mac_src_override_by_pkt", "mac_dst_override_mode", "dummy_stream", "start_paused", "core_id",
    )


class STLTXCont(Record):
    fields = ("pps", "bps_L1", "bps_L2", "percentage")


class STLTXSingleBurst(Record):
    fields = ("total_pkts", "pps", "bps_L1", "bps_L2", "percentage")


class STLFlowLatencyStats(Record):
    fields = needed = ("pg_id",)


def install():
    """Makes `import trex.stl.api` give this."""
    names = (
        STLVmTupleGen, STLVmWrFlowVar, STLVmFixChecksumHw, CTRexVmInsFixHwCs, STLScVmRaw, STLPktBuilder, STLStream,
        STLTXCont, STLTXSingleBurst, STLFlowLatencyStats,
    )
    api = types.ModuleType("trex.stl.api")
    for name in names:
        setattr(api, name.__name__, name)
    api.STLStreamDstMAC_PKT = 1
    trex, stl = types.ModuleType("trex"), types.ModuleType("trex.stl")
    trex.stl, stl.api = stl, api
    sys.modules.update({"trex": trex, "trex.stl": stl, "trex.stl.api": api})
    return api


def ones_complement(octets):
    """The Internet checksum, word by word."""
    octets += b"\0" * (len(octets) % 2)
    total = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def tuples(generator):
    """Address and port: the address first, then the port."""
    made = 0
    while True:
        for port in range(generator.port_min, generator.port_max + 1):
            for ip in range(generator.ip_min, generator.ip_max + 1):
                yield ip, port
                made += 1
                if made == generator.limit_flows:
                    made = 0


def frames(stream):
    """What leaves the port, frame after frame."""
    generator, *rest = stream.packet.vm.commands
    assert isinstance(generator, STLVmTupleGen)
    for ip, port in tuples(generator):
        frame = bytearray(stream.packet.pkt_buffer)
        for command in rest:
            if isinstance(command, STLVmWrFlowVar):
                kind, value = ("!I", ip) if command.fv_name == "client.ip" else ("!H", port)
                struct.pack_into(kind, frame, command.pkt_offset, value)
                continue
            assert (command.l3_offset, command.l4_offset) in (("IP", "UDP"), ("IP", "TCP"))
            is_udp = command.l4_type == CTRexVmInsFixHwCs.L4_TYPE_UDP
            assert frame[23] == (17 if is_udp else 6), "the card is told the right protocol"
            struct.pack_into("!H", frame, 24, 0)
            struct.pack_into("!H", frame, 24, ones_complement(bytes(frame[14:34])))
            end, at = 14 + struct.unpack_from("!H", frame, 16)[0], 40 if is_udp else 50
            struct.pack_into("!H", frame, at, 0)
            pseudo = bytes(frame[26:34]) + struct.pack("!BBH", 0, frame[23], end - 34)
            value = ones_complement(pseudo + bytes(frame[34:end]))
            struct.pack_into("!H", frame, at, value or (0xFFFF if is_udp else 0))
        yield bytes(frame)

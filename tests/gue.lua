-- Generic UDP encapsulation, version 0, for tshark, which does not know it: header and options as Linux has them
-- (include/net/gue.h), then the packet inside. Whatever else stands there is malformed.
local gue = Proto("gue", "Generic UDP Encapsulation")
local protocol = ProtoField.uint8("gue.protocol", "Protocol", base.DEC)
local words = ProtoField.uint8("gue.words", "Words of options", base.DEC)
local flags = ProtoField.uint16("gue.flags", "Flags", base.HEX)
local private = ProtoField.uint32("gue.private", "Private flags", base.HEX)
local start = ProtoField.uint16("gue.start", "Checksum start", base.DEC)
local offset = ProtoField.uint16("gue.offset", "Checksum offset", base.DEC)
local wrong = ProtoExpert.new("gue.wrong", "Malformed GUE header", expert.group.MALFORMED, expert.severity.ERROR)
gue.fields = { protocol, words, flags, private, start, offset }
gue.experts = { wrong }

function gue.dissector(buffer, packet, root)
	local tree = root:add(gue, buffer(0, 4))
	local count = buffer(0, 1):bitfield(3, 5)
	tree:add(words, buffer(0, 1), count)
	tree:add(protocol, buffer(1, 1))
	tree:add(flags, buffer(2, 2))
	local plain = count == 0 and buffer(2, 2):uint() == 0
	local remote = count == 2 and buffer(2, 2):uint() == 1 and buffer(4, 4):uint() == 0x80000000
	if buffer(0, 1):bitfield(0, 3) ~= 0 or not (plain or remote) then
		tree:add_proto_expert_info(wrong)
	end
	if remote then
		tree:add(private, buffer(4, 4))
		tree:add(start, buffer(8, 2))
		tree:add(offset, buffer(10, 2))
	end
	local inner = { [4] = "ip", [41] = "ipv6" }
	local name = inner[buffer(1, 1):uint()]
	if not name then
		tree:add_proto_expert_info(wrong)
		return
	end
	Dissector.get(name):call(buffer(4 + count * 4):tvb(), packet, root)
end

DissectorTable.get("udp.port"):add(6080, gue)

// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// The XDP program of the director: decides for each received frame whether user space wants to see it.
//
// It is a filter, not a balancer: what it redirects may still turn out to be no business of ours, and user space then
// hands it to the kernel's stack (host::pass). What it passes, user space never sees. So it errs towards redirecting
// where it cannot know (fragments and ICMP errors carry no ports), and towards passing where the frame is malformed:
// the kernel's stack drops those as it always did.
//
// Two programs of one body: `lvx` for drivers that hand over a frame in one piece, `lvx_frags` for interfaces whose
// MTU exceeds one buffer (XDP multi-buffer). Plain is preferred: it makes a veth peer stop sending TSO super-frames,
// which an AF_XDP socket could not take.
//
// Limits: 2 VLAN tags; 8 IPv6 extension headers; what lies beyond the first buffer is not looked at.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

// Sizes; host::xdp holds the same numbers under the same names.
#define ENDPOINTS_MAX 524288
#define ADDRESSES_MAX 524288
#define MARKED_PREFIXES_MAX 16384
#define SOCKETS_MAX 4096
#define INTERFACES_MAX 256

#define VLAN_TAGS_MAX 2 // frames with more pass
#define EXTENSION_HEADERS_MAX 8

#define IP_MORE_FRAGMENTS 0x2000
#define IP_OFFSET_MASK 0x1fff
#define IP6_OFFSET_AND_MORE 0xfff9

#define PROTOCOL_IPIP 4
#define PROTOCOL_IPV6 41
#define PROTOCOL_GRE 47
#define PROTOCOL_SCTP 132

// Counters, by position; host::xdp::Counters names them in this order.
enum counter {
	COUNTER_REDIRECTED, // handed to a socket
	COUNTER_PASSED,     // left to the kernel's stack: nothing of ours
	COUNTER_NO_SOCKET,  // ours, but no socket is bound at this queue: left to the stack
	COUNTER_REINJECTED, // came back from user space by way of the generic mode: left to the stack
	COUNTERS,
};

// Settings, by position.
enum setting {
	SETTING_REINJECTED_SOURCE, // source MAC of frames handed back by user space, 48 bits as read from the wire; 0: none
	SETTINGS,
};

struct address {
	__u32 word[4]; // network order; IPv4 is ::ffff:a.b.c.d
};

struct endpoint {
	struct address address;
	__be16 port;   // 0: every port
	__u8 protocol; // IP protocol number
	__u8 pad;      // 0
};

// The beginning of an address, of which `bits` count from `family` on.
struct prefix {
	__u32 bits;
	__be32 family; // 4 or 6: one trie for both
	struct address address;
};

#define PREFIX_FULL_BITS 160

// Ports from the first to the last; none when the first is above the last.
struct port_span {
	__u16 first;
	__u16 last;
};

// Destination ports that rules may mark for a service.
struct marked_ports {
	struct port_span tcp;
	struct port_span udp;
	struct port_span sctp;
};

struct interface_sockets {
	__u32 first;  // position of queue 0's socket in `sockets`
	__u32 queues; // how many positions follow
};

#define HASH(NAME, KEY, ENTRIES)                     \
	struct {                                         \
		__uint(type, BPF_MAP_TYPE_HASH);             \
		__uint(map_flags, BPF_F_NO_PREALLOC);        \
		__uint(max_entries, ENTRIES);                \
		__type(key, KEY);                            \
		__type(value, __u8);                         \
	} NAME SEC(".maps")

HASH(services, struct endpoint, ENDPOINTS_MAX);
HASH(servers, struct endpoint, ENDPOINTS_MAX);
HASH(virtual_addrs, struct address, ADDRESSES_MAX);
HASH(server_addrs, struct address, ADDRESSES_MAX);
HASH(locals, struct address, ADDRESSES_MAX);

// Each prefix has the ports of the shorter ones around it too: only the longest is found.
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MARKED_PREFIXES_MAX);
	__type(key, struct prefix);
	__type(value, struct marked_ports);
} marked SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, SOCKETS_MAX);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

// One XSKMAP for all interfaces, so that the program is loaded once: each interface owns a run of positions.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, INTERFACES_MAX);
	__type(key, __u32); // interface index
	__type(value, struct interface_sockets);
} interfaces SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SETTINGS);
	__type(key, __u32);
	__type(value, __u64);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

struct vlan_tag {
	__be16 control;
	__be16 protocol;
};

// What every extension header of IPv6 begins with.
struct extension {
	__u8 next;
	__u8 length; // 8 octets each, the first not counted
	__be16 fragment_offset;
};

// What TCP, UDP and SCTP begin with.
struct ports {
	__be16 source;
	__be16 destination;
};

struct packet {
	struct address source;
	struct address destination;
	__u32 offset; // of the transport header, from the frame's start
	__be32 family; // 4 or 6
	__u8 protocol;
	__u8 fragment; // boolean
};

#define AT(TYPE, OFFSET)                                                    \
	({                                                                      \
		TYPE *found = data + (OFFSET);                                      \
		(void *)(found + 1) <= data_end ? found : (TYPE *)0;                \
	})

static __always_inline int count(enum counter which, int action)
{
	__u32 key = which;
	__u64 *value = bpf_map_lookup_elem(&counters, &key);
	if (value)
		*value += 1;
	return action;
}

static __always_inline void from_v4(struct address *to, __be32 v4)
{
	to->word[0] = 0;
	to->word[1] = 0;
	to->word[2] = bpf_htonl(0xffff);
	to->word[3] = v4;
}

static __always_inline void from_v6(struct address *to, const struct in6_addr *v6)
{
	to->word[0] = v6->s6_addr32[0];
	to->word[1] = v6->s6_addr32[1];
	to->word[2] = v6->s6_addr32[2];
	to->word[3] = v6->s6_addr32[3];
}

// Reads the IPv4 header at `offset`. 0, or -1 when it is none.
static __always_inline int parse_v4(void *data, void *data_end, __u32 offset, struct packet *packet)
{
	struct iphdr *ip = AT(struct iphdr, offset);
	if (!ip || ip->version != 4 || ip->ihl < 5)
		return -1;
	from_v4(&packet->source, ip->saddr);
	from_v4(&packet->destination, ip->daddr);
	packet->family = bpf_htonl(4);
	packet->protocol = ip->protocol;
	packet->fragment = !!(ip->frag_off & bpf_htons(IP_MORE_FRAGMENTS | IP_OFFSET_MASK));
	packet->offset = offset + ip->ihl * 4;
	return 0;
}

// Reads the IPv6 header at `offset` and walks its extension headers up to the transport or a fragment header.
static __always_inline int parse_v6(void *data, void *data_end, __u32 offset, struct packet *packet)
{
	struct ipv6hdr *ip = AT(struct ipv6hdr, offset);
	if (!ip || ip->version != 6)
		return -1;
	from_v6(&packet->source, &ip->saddr);
	from_v6(&packet->destination, &ip->daddr);
	packet->family = bpf_htonl(6);
	packet->fragment = 0;
	__u8 next = ip->nexthdr;
	offset += sizeof(*ip);
	for (int i = 0; i < EXTENSION_HEADERS_MAX; i++) {
		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS && next != IPPROTO_FRAGMENT &&
		    next != IPPROTO_AH)
			break;
		struct extension *extension = AT(struct extension, offset);
		if (!extension)
			return -1;
		if (next == IPPROTO_FRAGMENT) {
			// Offset 0 without more fragments is a whole packet (RFC 6946).
			if (extension->fragment_offset & bpf_htons(IP6_OFFSET_AND_MORE)) {
				packet->fragment = 1;
				next = extension->next;
				break;
			}
			offset += 8;
		} else if (next == IPPROTO_AH) {
			// The kernel's IPVS walks past AH in IPv6; its length is in units of four octets, less two (RFC 4302).
			offset += (extension->length + 2) * 4;
		} else {
			offset += (extension->length + 1) * 8;
		}
		next = extension->next;
	}
	packet->protocol = next;
	packet->offset = offset;
	return 0;
}

static __always_inline int has_address(void *map, const struct address *address)
{
	return bpf_map_lookup_elem(map, address) != 0;
}

// True when the map holds the endpoint with this port or with every port.
static __always_inline int has_endpoint(void *map, const struct address *address, __be16 port, __u8 protocol)
{
	struct endpoint key = { .address = *address, .port = port, .protocol = protocol };
	if (bpf_map_lookup_elem(map, &key))
		return 1;
	key.port = 0;
	return bpf_map_lookup_elem(map, &key) != 0;
}

// What rules may mark of the packets to an address.
static __always_inline struct marked_ports *find_marked(__be32 family, const struct address *address)
{
	struct prefix key = { .bits = PREFIX_FULL_BITS, .family = family, .address = *address };
	return bpf_map_lookup_elem(&marked, &key);
}

static __always_inline int in_span(const struct port_span *span, __u16 port)
{
	return span->first <= port && port <= span->last;
}

// True when rules may mark a packet to this address and port; answers come from there.
static __always_inline int is_marked(__be32 family, const struct address *address, __be16 port, __u8 protocol)
{
	struct marked_ports *ports = find_marked(family, address);
	if (!ports)
		return 0;
	switch (protocol) {
	case IPPROTO_TCP:
		return in_span(&ports->tcp, bpf_ntohs(port));
	case IPPROTO_UDP:
		return in_span(&ports->udp, bpf_ntohs(port));
	default:
		return in_span(&ports->sctp, bpf_ntohs(port));
	}
}

// True for the address of a virtual service, or one that packets to which rules may mark.
static __always_inline int is_virtual(__be32 family, const struct address *address)
{
	return has_address(&virtual_addrs, address) || find_marked(family, address);
}

// An ICMP error that quotes `quoted`: is it about one of our flows?
static __always_inline int wants_error(const struct packet *packet, const struct packet *quoted)
{
	// What we sent to a client in the name of a virtual service.
	if (is_virtual(packet->family, &packet->destination) && is_virtual(packet->family, &quoted->source))
		return 1;
	// What we sent to a real server.
	if (!has_address(&server_addrs, &quoted->destination))
		return 0;
	// The client's packet, the error addressed to the client.
	if (!has_address(&locals, &packet->destination))
		return 1;
	// Addressed to us: a tunnel's outer header, or else the host's own traffic (health checks).
	return quoted->protocol == PROTOCOL_IPIP || quoted->protocol == PROTOCOL_IPV6 || quoted->protocol == PROTOCOL_GRE ||
	       quoted->protocol == IPPROTO_UDP;
}

static __always_inline int is_icmp_error(__u8 type)
{
	// Destination unreachable, source quench, time exceeded, parameter problem (RFC 792).
	return type == 3 || type == 4 || type == 11 || type == 12;
}

static __always_inline int wants_transport(void *data, void *data_end, const struct packet *packet)
{
	struct ports *ports = AT(struct ports, packet->offset);
	if (!ports)
		return 0;
	if (has_endpoint(&services, &packet->destination, ports->destination, packet->protocol) ||
	    is_marked(packet->family, &packet->destination, ports->destination, packet->protocol))
		return 1;
	return (has_endpoint(&servers, &packet->source, ports->source, packet->protocol) ||
	        is_marked(packet->family, &packet->source, ports->source, packet->protocol)) &&
	       !has_address(&locals, &packet->destination);
}

static __always_inline int wants(void *data, void *data_end)
{
	struct packet packet;
	struct packet quoted;

	struct ethhdr *ethernet = AT(struct ethhdr, 0);
	if (!ethernet)
		return 0;
	__be16 protocol = ethernet->h_proto;
	__u32 offset = sizeof(*ethernet);
#pragma unroll
	for (int i = 0; i < VLAN_TAGS_MAX; i++) {
		if (protocol != bpf_htons(ETH_P_8021Q) && protocol != bpf_htons(ETH_P_8021AD))
			break;
		struct vlan_tag *tag = AT(struct vlan_tag, offset);
		if (!tag)
			return 0;
		protocol = tag->protocol;
		offset += sizeof(*tag);
	}

	if (protocol == bpf_htons(ETH_P_IP)) {
		if (parse_v4(data, data_end, offset, &packet))
			return 0;
	} else if (protocol == bpf_htons(ETH_P_IPV6)) {
		if (parse_v6(data, data_end, offset, &packet))
			return 0;
	} else {
		return 0;
	}

	if (packet.fragment)
		return is_virtual(packet.family, &packet.destination) ||
		       (has_address(&server_addrs, &packet.source) && !has_address(&locals, &packet.destination));

	switch (packet.protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case PROTOCOL_SCTP:
		return wants_transport(data, data_end, &packet);
	case IPPROTO_ESP:
	case IPPROTO_AH:
		// No ports: they belong to a connection of the key exchange between the same hosts, if there is one.
		return is_virtual(packet.family, &packet.destination) ||
		       (has_address(&server_addrs, &packet.source) && !has_address(&locals, &packet.destination));
	case IPPROTO_ICMP: {
		__u8 *type = AT(__u8, packet.offset);
		if (!type || !is_icmp_error(*type) || parse_v4(data, data_end, packet.offset + 8, &quoted))
			return 0;
		return wants_error(&packet, &quoted);
	}
	case IPPROTO_ICMPV6: {
		__u8 *type = AT(__u8, packet.offset);
		// Errors have the high bit clear (RFC 4443 section 2.1).
		if (!type || *type >= 128)
			return 0;
		struct ipv6hdr *ip = AT(struct ipv6hdr, packet.offset + 8);
		if (!ip || ip->version != 6)
			return 0;
		from_v6(&quoted.source, &ip->saddr);
		from_v6(&quoted.destination, &ip->daddr);
		quoted.protocol = ip->nexthdr;
		return wants_error(&packet, &quoted);
	}
	default:
		return 0;
	}
}

static __always_inline int is_reinjected(void *data, void *data_end)
{
	__u32 key = SETTING_REINJECTED_SOURCE;
	__u64 *secret = bpf_map_lookup_elem(&settings, &key);
	struct ethhdr *ethernet = AT(struct ethhdr, 0);
	if (!secret || !*secret || !ethernet)
		return 0;
	__u64 source = 0;
	__builtin_memcpy(&source, ethernet->h_source, ETH_ALEN);
	return source == *secret;
}

static __always_inline int filter(struct xdp_md *context)
{
	void *data = (void *)(long)context->data;
	void *data_end = (void *)(long)context->data_end;

	if (is_reinjected(data, data_end))
		return count(COUNTER_REINJECTED, XDP_PASS);
	if (!wants(data, data_end))
		return count(COUNTER_PASSED, XDP_PASS);
	__u32 index = context->ingress_ifindex;
	struct interface_sockets *run = bpf_map_lookup_elem(&interfaces, &index);
	__u32 queue = context->rx_queue_index;
	if (!run || queue >= run->queues)
		return count(COUNTER_NO_SOCKET, XDP_PASS);
	int action = bpf_redirect_map(&sockets, run->first + queue, XDP_PASS);
	return count(action == XDP_REDIRECT ? COUNTER_REDIRECTED : COUNTER_NO_SOCKET, action);
}

SEC("xdp")
int lvx(struct xdp_md *context)
{
	return filter(context);
}

SEC("xdp.frags")
int lvx_frags(struct xdp_md *context)
{
	return filter(context);
}

char LICENSE[] SEC("license") = "Apache-2.0 OR MIT";

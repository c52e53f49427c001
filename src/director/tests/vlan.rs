//! Tagged frames: of the host's VLAN devices, and of VLANs that it does not know.

use super::*;
use crate::base::Rng;
use crate::wire::ethernet::Tags;

/// eth0.7 is towards the clients, eth1.8 within 802.1ad 9 of eth1 towards the servers.
const VLANS: &str = "\
link add eth0 address 02:00:00:00:00:fe mtu 1500
link add eth1 address 02:00:00:00:01:fe mtu 1500
link add link eth0 name eth0.7 type vlan id 7
link add link eth1 name eth1.9 type vlan proto 802.1ad id 9
link add link eth1.9 name eth1.9.8 mtu 1496 type vlan id 8
addr add 10.0.0.254/24 dev eth0.7
addr add 10.2.0.254/16 dev eth1.9.8
addr add fd00::254/64 dev eth0.7
addr add fd00:2::254/64 dev eth1.9.8
addr add 10.9.0.1/32 dev lo
addr add fd00:9::1/128 dev lo
route add default via 10.0.0.1 dev eth0.7
route add default via fd00::1 dev eth0.7
neigh add 10.0.0.1 lladdr 02:00:00:00:00:01 dev eth0.7
neigh add fd00::1 lladdr 02:00:00:00:00:01 dev eth0.7
neigh add 10.2.0.1 lladdr 02:00:00:00:02:01 dev eth1.9.8
neigh add fd00:2::1 lladdr 02:00:00:00:02:01 dev eth1.9.8
";

fn tags(list: &[(u16, u16)]) -> Tags {
    list.iter().fold(Tags::default(), |tags, (protocol, control)| tags.inside(*protocol, *control).unwrap())
}

fn with_tags(frame: &[u8], tags: &Tags) -> Vec<u8> {
    let mut tagged = [&vec![0; tags.octets()], frame].concat();
    tags.put_in(&mut tagged);
    tagged
}

fn without_tags(frame: &[u8]) -> (Tags, Vec<u8>) {
    let (tags, _) = Tags::of(frame).unwrap_or_default();
    let mut bare = frame.to_vec();
    tags.take_out(&mut bare);
    (tags, bare.split_off(tags.octets()))
}

fn on_vlans(v6: bool, method: Method, server: &str) -> Director {
    on_network(VLANS, v6, method, server)
}

fn on_network(network: &str, v6: bool, method: Method, server: &str) -> Director {
    let mut director = balancing(v6, method, server, if method == Method::Masquerading { 8080 } else { 80 });
    let mut database = Database::new(&["eth0".to_owned(), "eth1".to_owned()]);
    for line in net_file::parse(network).unwrap() {
        database.apply(&line).unwrap();
    }
    director.set_routes(database.snapshot());
    director
}

/// A client's tag with a priority, which is nobody's business.
fn clients() -> Tags {
    tags(&[(0x8100, 0x6007)])
}

fn servers() -> Tags {
    tags(&[(0x88a8, 9), (0x8100, 8)])
}

#[test]
fn vlan_devices_lead_in_and_out() {
    for (v6, server) in [(false, "10.2.0.1"), (true, "fd00:2::1")] {
        for method in [Method::Masquerading, Method::DirectRouting, Method::Tunnelling] {
            let mut director = on_vlans(v6, method, server);
            for flags in [Some(SYN), Some(ACK), None] {
                let request = with_tags(&frame(STATION_0, client(v6), vip(v6), flags, b"ask"), &clients());
                assert_eq!(director.receive(ETH0, &request), Some(Verdict::Transmit(ETH1)), "{method:?} {flags:?}");
                let (interface, out) = sent(&mut director);
                let (tags, bare) = without_tags(&out);
                assert_eq!((interface, tags), (ETH1, servers()));
                assert_eq!(bare[..12], [SERVER_1, STATION_1].concat());
                assert!(method == Method::Tunnelling || is_sound(&bare));
                if method != Method::Masquerading {
                    continue;
                }
                let answer = frame(STATION_1, endpoint(server, 8080), client(v6), flags.map(|f| f | ACK), b"say");
                let answer = with_tags(&answer, &servers());
                assert_eq!(director.receive(ETH1, &answer), Some(Verdict::Transmit(ETH0)));
                let (_, out) = sent(&mut director);
                let (tags, bare) = without_tags(&out);
                assert_eq!(tags, super::vlan::tags(&[(0x8100, 7)]), "the device has no priority");
                assert!(is_sound(&bare));
            }
        }
    }
}

#[test]
fn what_is_not_ours_goes_on_as_it_came() {
    let mut director = on_vlans(false, Method::Masquerading, "10.2.0.1");
    for frame in [
        frame(STATION_0, client(false), Endpoint::new(vip(false).address, 81), Some(SYN), b""),
        frame(STATION_1, client(false), vip(false), Some(SYN), b""),
        [&STATION_0[..], &ROUTER, &[8, 6], &[0; 28]].concat(),
    ] {
        let tagged = with_tags(&frame, &clients());
        assert_eq!(director.receive(ETH0, &tagged), Some(Verdict::Pass));
        assert_eq!(director.take_passed(), [(ETH0, tagged)]);
    }
    // A server that is the director itself: decided late, and as it came nevertheless.
    let mut director = on_vlans(false, Method::DirectRouting, "10.2.0.254");
    let tagged = with_tags(&frame(STATION_0, client(false), vip(false), Some(SYN), b""), &clients());
    assert_eq!(director.receive(ETH0, &tagged), Some(Verdict::Pass));
    assert_eq!(director.take_passed(), [(ETH0, tagged)]);
}

#[test]
fn answers_and_pieces_of_the_director_are_tagged_too() {
    let mut director = on_vlans(false, Method::Masquerading, "10.2.0.1");
    let mut last = frame(STATION_0, client(false), vip(false), None, b"ask");
    last[22] = 1;
    last[24..26].fill(0);
    let sum = crate::wire::checksum::of(&last[14..34]);
    last[24..26].copy_from_slice(&sum.to_be_bytes());
    let verdict = director.receive(ETH0, &with_tags(&last, &clients()));
    assert_eq!(verdict, Some(Verdict::Drop(DropReason::TimeExceeded)));
    let (interface, out) = sent(&mut director);
    let (tags, bare) = without_tags(&out);
    assert_eq!((interface, tags, bare[23]), (ETH0, super::vlan::tags(&[(0x8100, 7)]), 1));

    let wide = may_fragment(frame(STATION_0, client(false), vip(false), None, &[7; 1472]));
    let verdict = director.receive(ETH0, &with_tags(&wide, &clients()));
    assert_eq!(verdict, Some(Verdict::Transmit(ETH1)));
    let pieces = director.take_transmitted();
    assert_eq!(pieces.len(), 2, "1500 octets by an MTU of 1496");
    assert!(pieces.iter().all(|(interface, piece)| *interface == ETH1 && without_tags(piece).0 == servers()));
}

/// Without a device for them, tags stay on what leaves by the interface that they came in by.
#[test]
fn unknown_vlans_are_the_interfaces() {
    let unknown = tags(&[(0x88a8, 5), (0x8100, 0x2006)]);
    for (v6, server) in [(false, "10.2.0.1"), (true, "fd00:2::1")] {
        let mut director = balancing(v6, Method::Masquerading, server, 8080);
        let request = frame(STATION_0, client(v6), vip(v6), Some(SYN), b"");
        assert_eq!(director.receive(ETH0, &with_tags(&request, &unknown)), Some(Verdict::Transmit(ETH1)));
        let (_, out) = sent(&mut director);
        assert!(Tags::of(&out).is_none() && is_sound(&out), "another interface has no such VLAN");
    }
    // One arm: servers are where the clients are.
    let mut director = balancing(false, Method::Masquerading, "10.0.0.7", 8080);
    let mut database = Database::new(&["eth0".to_owned(), "eth1".to_owned()]);
    let net = format!("{NET}neigh add 10.0.0.7 lladdr 02:00:00:00:02:01 dev eth0\n");
    for line in net_file::parse(&net).unwrap() {
        database.apply(&line).unwrap();
    }
    director.set_routes(database.snapshot());
    let request = frame(STATION_0, client(false), vip(false), Some(SYN), b"");
    assert_eq!(director.receive(ETH0, &with_tags(&request, &unknown)), Some(Verdict::Transmit(ETH0)));
    let (_, out) = sent(&mut director);
    assert_eq!(without_tags(&out).0, unknown);
    let answer = frame(STATION_0, endpoint("10.0.0.7", 8080), client(false), Some(SYN | ACK), b"");
    assert_eq!(director.receive(ETH0, &with_tags(&answer, &unknown)), Some(Verdict::Transmit(ETH0)));
    let (_, out) = sent(&mut director);
    let (tags, bare) = without_tags(&out);
    assert!(tags == unknown && is_sound(&bare));
}

#[test]
fn mangled_tags_neither_panic_nor_leak() {
    let mut director = on_vlans(false, Method::Tunnelling, "10.2.0.1");
    let frames = [
        with_tags(&frame(STATION_0, client(false), vip(false), Some(SYN), b"ask"), &clients()),
        with_tags(&frame(STATION_0, client(false), vip(false), None, b"ask"), &tags(&[(0x8100, 7), (0x8100, 7)])),
    ];
    let mut rng = Rng::new(11);
    for _ in 0..20_000 {
        let mut mangled = frames[rng.below(2) as usize].clone();
        for _ in 0..=rng.below(3) {
            let at = 12 + rng.below(mangled.len() as u32 - 12) as usize;
            mangled[at] =
                if rng.below(2) == 0 { [0x81, 0x88, 0xa8, 0x08][rng.below(4) as usize] } else { rng.next_u32() as u8 };
        }
        if rng.below(2) == 0 {
            mangled.truncate(rng.below(mangled.len() as u32) as usize);
        }
        director.receive(ETH0, &mangled);
        director.take_transmitted();
    }
}

/// Two fragments of a datagram for this link address.
fn fragments(station: [u8; 6], destination: Endpoint) -> [Vec<u8>; 2] {
    let whole = may_fragment(frame(station, client(false), destination, None, &[7; 1000]));
    [(0, 512, true), (512, 1008, false)].map(|(from, to, more)| {
        let mut fragment = [&whole[..34], &whole[34 + from..34 + to]].concat();
        fragment[16..18].copy_from_slice(&((20 + to - from) as u16).to_be_bytes());
        fragment[20..22].copy_from_slice(&(u16::from(more) << 13 | (from / 8) as u16).to_be_bytes());
        fragment[24..26].fill(0);
        let sum = crate::wire::checksum::of(&fragment[14..34]);
        fragment[24..26].copy_from_slice(&sum.to_be_bytes());
        fragment
    })
}

/// A VLAN device may have a link address of its own; what its fragments make is for that one too.
#[test]
fn fragments_for_a_device_with_its_own_address() {
    const OWN: [u8; 6] = [2, 0, 0, 0, 7, 0xfe];
    let own = VLANS.replace("name eth0.7 type", "name eth0.7 address 02:00:00:00:07:fe type");
    let mut director = on_network(&own, false, Method::Masquerading, "10.2.0.1");
    let [first, last] = fragments(OWN, vip(false)).map(|fragment| with_tags(&fragment, &clients()));
    assert_eq!(director.receive(ETH0, &first), Some(Verdict::Hold));
    assert_eq!(director.receive(ETH0, &last), Some(Verdict::Transmit(ETH1)));
    assert_eq!(director.take_transmitted().len(), 2);
    let [other, _] = fragments(STATION_0, vip(false)).map(|fragment| with_tags(&fragment, &clients()));
    assert_eq!(director.receive(ETH0, &other), Some(Verdict::Pass), "another station's");
}

/// Tags with a priority begin as an IP header does: what is told of them must not be read there.
#[test]
fn a_tagged_fragment_is_told_of_as_one() {
    let mut director = on_vlans(false, Method::Masquerading, "10.2.0.1");
    let [first, _] = fragments(STATION_0, vip(false));
    let tagged = with_tags(&first, &tags(&[(0x8100, 0x4007)]));
    let gone = director.receive_foretold(ETH0, &tagged).expect("the interface is there").expect("it comes true");
    assert_eq!(gone.verdict, Verdict::Hold);
    let told: String = gone.steps.iter().map(|step| format!("{} {}\n", step.step, step.text)).collect();
    assert!(told.contains("packet IPv4 10.1.0.1 -> 10.9.0.1, a fragment of UDP, 532 octets, TTL 64\n"), "{told}");
    assert!(told.contains("fragment what workers hold"), "{told}");
}

/// Fragments wait with their tags: they go to the host as they came, or on as the VLAN of their next hop has it.
#[test]
fn fragments_are_tagged_frames_too() {
    for method in [Method::Masquerading, Method::DirectRouting, Method::Tunnelling] {
        let mut director = on_vlans(false, method, "10.2.0.1");
        let [first, last] = fragments(STATION_0, vip(false)).map(|fragment| with_tags(&fragment, &clients()));
        assert_eq!(director.receive(ETH0, &last), Some(Verdict::Hold));
        assert_eq!(director.receive(ETH0, &first), Some(Verdict::Transmit(ETH1)), "{method:?}");
        let pieces = director.take_transmitted();
        // The outer header makes one more piece: none is wider than the widest that came.
        assert_eq!(pieces.len(), if method == Method::Tunnelling { 3 } else { 2 }, "{method:?}");
        for (interface, piece) in &pieces {
            let (tags, bare) = without_tags(piece);
            assert_eq!((*interface, tags), (ETH1, servers()));
            assert_eq!(bare[..14], [&SERVER_1[..], &STATION_1, &[8, 0]].concat());
        }

        let [first, last] = fragments(STATION_0, Endpoint::new(vip(false).address, 81))
            .map(|fragment| with_tags(&fragment, &clients()));
        director.receive(ETH0, &last);
        assert_eq!(director.receive(ETH0, &first), Some(Verdict::Pass));
        assert_eq!(director.take_passed(), [(ETH0, last), (ETH0, first)]);
    }
}

/// A priority tag names no VLAN: what leaves for one has that one's tags alone.
#[test]
fn tags_of_no_vlan_do_not_go_into_one() {
    let mut director = on_vlans(false, Method::Masquerading, "10.2.0.1");
    let bare = frame(STATION_1, client(false), vip(false), Some(SYN), b"");
    let verdict = director.receive(ETH1, &with_tags(&bare, &tags(&[(0x8100, 0xa000)])));
    assert_eq!(verdict, Some(Verdict::Transmit(ETH1)));
    let (_, out) = sent(&mut director);
    let (tags, out) = without_tags(&out);
    assert_eq!(tags, servers());
    assert_eq!(out[12..14], [0x08, 0x00]);
    assert!(is_sound(&out));
}

/// More of them than 16 bits count in steps of a tag.
#[test]
fn malformed_packets_behind_tags_leave_nothing_to_the_next() {
    let mut director = on_vlans(false, Method::Masquerading, "10.2.0.1");
    let mut broken = with_tags(&frame(STATION_0, client(false), vip(false), Some(SYN), b""), &clients());
    broken[18 + 10] ^= 0xff;
    for _ in 0..(1 << 16) / 4 + 1 {
        assert_eq!(director.receive(ETH0, &broken), Some(Verdict::Drop(DropReason::HeaderChecksum)));
    }
}

/// Who sent the first fragment of a datagram that never came hears of it where it is: with its tags, if no device has them.
#[test]
fn fragments_that_wait_in_vain_are_answered_with_their_tags() {
    let unknown = tags(&[(0x8100, 0x2006)]);
    let mut director = balancing(false, Method::Masquerading, "10.2.0.1", 8080);
    let [first, _] = fragments(STATION_0, vip(false)).map(|fragment| with_tags(&fragment, &unknown));
    assert_eq!(director.receive(ETH0, &first), Some(Verdict::Hold));
    let later = director.now() + Duration::from_secs(40);
    director.advance(later);
    let (interface, out) = sent(&mut director);
    let (tags, bare) = without_tags(&out);
    assert_eq!((interface, tags, bare[23], bare[34]), (ETH0, unknown, 1, 11));
}

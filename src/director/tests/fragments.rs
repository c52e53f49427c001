//! Fragments of balanced packets: what waits, what leaves and what the sender is told.

use super::*;
use crate::wire::checksum;

/// Cuts the IPv4 packet of a frame at these offsets of its payload.
fn cut_v4(frame: &[u8], at: &[usize], flags: u16) -> Vec<Vec<u8>> {
    let (header, payload) = (&frame[..34], &frame[34..]);
    pieces(payload.len(), at)
        .map(|(from, to)| {
            let mut piece = [header, &payload[from..to]].concat();
            let more = if to < payload.len() { 0x2000 } else { 0 };
            piece[16..18].copy_from_slice(&((20 + to - from) as u16).to_be_bytes());
            piece[18..20].copy_from_slice(&[0x12, 0x34]);
            piece[20..22].copy_from_slice(&(flags | more | (from / 8) as u16).to_be_bytes());
            piece[24..26].fill(0);
            let sum = checksum::of(&piece[14..34]);
            piece[24..26].copy_from_slice(&sum.to_be_bytes());
            piece
        })
        .collect()
}

fn cut_v6(frame: &[u8], at: &[usize]) -> Vec<Vec<u8>> {
    let payload = &frame[54..];
    pieces(payload.len(), at)
        .map(|(from, to)| {
            let more = u16::from(to < payload.len());
            let mut header = frame[..54].to_vec();
            header[18..20].copy_from_slice(&((8 + to - from) as u16).to_be_bytes());
            let next = std::mem::replace(&mut header[20], 44);
            let fragment = [&[next, 0][..], &(from as u16 | more).to_be_bytes(), &[0, 0, 0, 9]].concat();
            [header, fragment, payload[from..to].to_vec()].concat()
        })
        .collect()
}

fn pieces(octets: usize, at: &[usize]) -> impl Iterator<Item = (usize, usize)> {
    let bounds: Vec<usize> = std::iter::once(0).chain(at.iter().copied()).chain([octets]).collect();
    (1..bounds.len()).map(move |number| (bounds[number - 1], bounds[number]))
}

fn cut(v6: bool, frame: &[u8], at: &[usize]) -> Vec<Vec<u8>> {
    if v6 { cut_v6(frame, at) } else { cut_v4(frame, at, 0) }
}

fn datagram(v6: bool, octets: usize) -> Vec<u8> {
    let payload: Vec<u8> = (0..octets).map(|at| (at % 251) as u8).collect();
    frame(STATION_0, client(v6), vip(v6), None, &payload)
}

/// The payload, behind the transport header, of frames that are fragments in order, and whether each fits the MTU.
fn joined(v6: bool, frames: &[(InterfaceId, Vec<u8>)]) -> Vec<u8> {
    let start = if v6 { 62 } else { 34 };
    assert!(frames.iter().all(|(_, frame)| frame.len() <= 1514));
    frames.iter().flat_map(|(_, frame)| frame[start..].to_vec()).collect()
}

fn free(director: &Director) -> usize {
    director.worker.port().free_chunks()
}

#[test]
fn fragments_in_any_order_leave_as_one_datagram_cut_again() {
    for v6 in [false, true] {
        let server = if v6 { "fd00:2::1" } else { "10.2.0.1" };
        let whole = datagram(v6, 3000);
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let mut director = balancing(v6, Method::Masquerading, server, 8080);
            let parts = cut(v6, &whole, &[1400, 2800]);
            for (count, part) in order.iter().enumerate() {
                let expected = if count == 2 { Verdict::Transmit(ETH1) } else { Verdict::Hold };
                assert_eq!(director.receive(ETH0, &parts[*part]), Some(expected));
            }
            let sent = director.take_transmitted();
            assert_eq!(
                sent.iter().map(|(_, frame)| frame.len()).collect::<Vec<_>>(),
                parts.iter().map(Vec::len).collect::<Vec<_>>()
            );
            let payload = joined(v6, &sent);
            assert_eq!(payload[2..4], 8080u16.to_be_bytes(), "the server's port");
            assert_eq!(payload[8..], whole[if v6 { 62 } else { 42 }..]);
            assert_eq!(free(&director), 64);
            let counters = &director.shared().workers[0].counters;
            assert_eq!((counters.reassembled.get(), counters.fragments_joined.get()), (1, 3));
            assert_eq!(counters.transmitted.get(), 1);
        }
    }
}

/// One packet of the octets that it has as a whole, as in the kernel.
#[test]
fn a_datagram_is_counted_once() {
    let mut director = balancing(false, Method::DirectRouting, "10.2.0.1", 80);
    for part in cut_v4(&datagram(false, 3000), &[1480, 2960], 0) {
        let _ = director.receive(ETH0, &part);
    }
    let counters = &director.shared().workers[0].counters;
    let counted: Vec<_> = (0..8)
        .map(|id| counters.destination(crate::service::DestinationId(id)))
        .map(|of| (of.in_packets.get(), of.in_octets.get()))
        .filter(|of| of.0 > 0)
        .collect();
    assert_eq!(counted, [(1, 3028)]);
}

#[test]
fn answers_in_fragments_return_from_the_service() {
    for v6 in [false, true] {
        let server = if v6 { "fd00:2::1" } else { "10.2.0.1" };
        let mut director = balancing(v6, Method::Masquerading, server, 8080);
        assert_eq!(director.receive(ETH0, &datagram(v6, 10)), Some(Verdict::Transmit(ETH1)));
        let _ = director.take_transmitted();
        let answer = frame(STATION_1, endpoint(server, 8080), client(v6), None, &[7; 2000]);
        let parts = cut(v6, &answer, &[800]);
        assert_eq!(director.receive(ETH1, &parts[1]), Some(Verdict::Hold));
        assert_eq!(director.receive(ETH1, &parts[0]), Some(Verdict::Transmit(ETH0)));
        let sent = director.take_transmitted();
        assert_eq!(sent.iter().map(|(_, frame)| frame.len()).collect::<Vec<_>>(), [parts[0].len(), parts[1].len()]);
        let source = if v6 { 22..38 } else { 26..30 };
        let octets = vip(v6).address.0.to_be_bytes();
        let expected = if v6 { octets.to_vec() } else { vec![10, 9, 0, 1] };
        assert!(sent.iter().all(|(_, frame)| frame[source.clone()] == expected[..]));
        assert_eq!(joined(v6, &sent)[..2], 80u16.to_be_bytes());
    }
}

/// What turns out to be nobody's goes to the host as it came, in order of arrival.
#[test]
fn fragments_of_others_are_the_hosts() {
    let mut director = balancing(false, Method::Masquerading, "10.2.0.1", 80);
    let other = frame(STATION_0, client(false), endpoint("10.9.0.1", 500), None, &[5; 1000]);
    let crossing = frame(STATION_1, endpoint("10.2.0.1", 5000), client(false), None, &[6; 1000]);
    for (interface, whole) in [(ETH0, other), (ETH1, crossing)] {
        let parts = cut_v4(&whole, &[400, 800], 0);
        for part in [2, 0] {
            assert_eq!(director.receive(interface, &parts[part]), Some(Verdict::Hold));
        }
        assert_eq!(director.receive(interface, &parts[1]), Some(Verdict::Pass));
        let passed: Vec<_> = director.worker.port_mut().take_passed().collect();
        assert_eq!(passed, [2, 0, 1].map(|part| (interface, parts[part].clone())));
    }
    // Of a protocol that no service has, nothing waits.
    let mut tunnelled = cut_v4(&datagram(false, 1000), &[400], 0).remove(0);
    tunnelled[23] = 47;
    tunnelled[24..26].fill(0);
    let sum = checksum::of(&tunnelled[14..34]);
    tunnelled[24..26].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(director.receive(ETH0, &tunnelled), Some(Verdict::Pass));
    let _ = director.take_transmitted();
    assert_eq!(free(&director), 64);
}

/// A real server on the director itself gets what the director made of the datagram, in pieces as long as those that came.
#[test]
fn the_director_itself_gets_pieces_of_what_was_rewritten() {
    let mut director = balancing(false, Method::Masquerading, "10.2.0.254", 8080);
    let parts = cut_v4(&datagram(false, 2000), &[1400], 0);
    assert_eq!(director.receive(ETH0, &parts[0]), Some(Verdict::Hold));
    assert_eq!(director.receive(ETH0, &parts[1]), Some(Verdict::Pass));
    let passed: Vec<_> = director.worker.port_mut().take_passed().collect();
    assert_eq!(passed.iter().map(|(_, frame)| frame.len()).collect::<Vec<_>>(), [1434, 642]);
    assert!(passed.iter().all(|(_, frame)| frame[30..34] == [10, 2, 0, 254] && checksum::of(&frame[14..34]) == 0));
    assert_eq!(passed[0].1[36..38], 8080u16.to_be_bytes());
    assert_eq!(free(&director), 64);
}

#[test]
fn overlapping_fragments_are_dropped_with_all_of_their_datagram() {
    for v6 in [false, true] {
        let server = if v6 { "fd00:2::1" } else { "10.2.0.1" };
        let mut director = balancing(v6, Method::DirectRouting, server, 80);
        let whole = datagram(v6, 1000);
        let (parts, others) = (cut(v6, &whole, &[400, 800]), cut(v6, &whole, &[200, 600]));
        assert_eq!(director.receive(ETH0, &parts[0]), Some(Verdict::Hold));
        assert_eq!(director.receive(ETH0, &parts[0]), Some(Verdict::Drop(DropReason::FragmentDuplicate)));
        assert_eq!(director.receive(ETH0, &others[1]), Some(Verdict::Drop(DropReason::FragmentOverlap)));
        assert_eq!(free(&director), 64);
        let counters = &director.shared().workers[0].counters;
        assert_eq!(counters.drops(DropReason::FragmentOverlap), 2, "the one that waited and the one that came");
    }
}

/// As recorded from the kernel: 11/1 or 3/1, quoting the first fragment as it came; without it nobody is told.
#[test]
fn who_sent_a_first_fragment_alone_is_told() {
    for (v6, seconds) in [(false, 30), (true, 60)] {
        let server = if v6 { "fd00:2::1" } else { "10.2.0.1" };
        let mut director = balancing(v6, Method::Masquerading, server, 80);
        let parts = cut(v6, &datagram(v6, 600), &[200]);
        assert_eq!(director.receive(ETH0, &parts[0]), Some(Verdict::Hold));
        director.advance(director.now() + Duration::from_secs(seconds - 1));
        assert!(director.take_transmitted().is_empty());
        director.advance(director.now() + Duration::from_secs(2));
        let sent = director.take_transmitted();
        assert_eq!(sent.len(), 1);
        let (interface, frame) = &sent[0];
        let (message, kind) = if v6 { (54, [3, 1]) } else { (34, [11, 1]) };
        assert_eq!((*interface, &frame[message..message + 2]), (ETH0, &kind[..]));
        assert_eq!(frame[message + 8..], parts[0][14..]);
        // The rest comes too late, and alone.
        assert_eq!(director.receive(ETH0, &parts[1]), Some(Verdict::Hold));
        director.advance(director.now() + Duration::from_secs(61));
        assert!(director.take_transmitted().is_empty());
        let counters = &director.shared().workers[0].counters;
        assert_eq!(counters.drops(DropReason::FragmentTimeout), 2);
        assert_eq!(free(&director), 64);
    }
}

/// RFC 6946: no fragment at all but for its header, which it loses; inside a tunnel the outer packet gets one instead.
#[test]
fn an_atomic_fragment_loses_its_header() {
    let whole = datagram(true, 600);
    let atomic = cut_v6(&whole, &[]).remove(0);
    let mut director = balancing(true, Method::DirectRouting, "fd00:2::1", 80);
    assert_eq!(director.receive(ETH0, &atomic), Some(Verdict::Transmit(ETH1)));
    let sent = director.take_transmitted().remove(0).1;
    assert_eq!((sent.len(), sent[20], &sent[54..]), (whole.len(), 17, &whole[54..]));
    let mut director = balancing(true, Method::Tunnelling, "fd00:2::1", 80);
    assert_eq!(director.receive(ETH0, &atomic), Some(Verdict::Transmit(ETH1)));
    let sent = director.take_transmitted().remove(0).1;
    assert_eq!((sent[20], &sent[54..58]), (44, &[41, 0, 0, 0][..]));
    assert_eq!(sent[62 + 40..], whole[54..]);
}

/// RFC 8200 section 4.5: the first fragment has all headers. IPv4 asks no such thing.
#[test]
fn a_first_fragment_without_its_transport_header() {
    let segment = |v6| frame(STATION_0, client(v6), vip(v6), Some(SYN), &[1; 300]);
    let mut director = balancing(true, Method::DirectRouting, "fd00:2::1", 80);
    let parts = cut_v6(&segment(true), &[8]);
    assert_eq!(director.receive(ETH0, &parts[0]), Some(Verdict::Drop(DropReason::Malformed)));
    let mut director = balancing(false, Method::DirectRouting, "10.2.0.1", 80);
    let parts = cut_v4(&segment(false), &[8], 0);
    assert_eq!(director.receive(ETH0, &parts[0]), Some(Verdict::Hold));
    assert_eq!(director.receive(ETH0, &parts[1]), Some(Verdict::Transmit(ETH1)));
}

/// IPv4 goes by the whole datagram, as the kernel does, IPv6 by its longest fragment.
#[test]
fn what_may_not_be_cut_is_measured() {
    let mut director = balancing(false, Method::Masquerading, "10.2.0.1", 80);
    let parts = cut_v4(&datagram(false, 2000), &[1400], 0x4000);
    assert_eq!(director.receive(ETH0, &parts[0]), Some(Verdict::Hold));
    assert_eq!(director.receive(ETH0, &parts[1]), Some(Verdict::Drop(DropReason::TooBig)));
    let (_, answer) = sent(&mut director);
    assert_eq!((&answer[34..36], &answer[40..42]), (&[3, 4][..], &1500u16.to_be_bytes()[..]));
    let mut director = balancing(true, Method::Tunnelling, "fd00:2::1", 80);
    let whole = datagram(true, 2000);
    for (at, expected) in [(1400, Verdict::Transmit(ETH1)), (1416, Verdict::Drop(DropReason::TooBig))] {
        let parts = cut_v6(&whole, &[at]);
        assert_eq!(director.receive(ETH0, &parts[0]), Some(Verdict::Hold));
        assert_eq!(director.receive(ETH0, &parts[1]), Some(expected), "{at}");
    }
}

/// Mangled fragments of both families and sides: no panic, and no frame lost.
#[test]
fn arbitrary_fragments_lose_no_frame() {
    let mut rng = crate::base::Rng::new(11);
    for v6 in [false, true] {
        let server = if v6 { "fd00:2::1" } else { "10.2.0.1" };
        for method in [Method::Masquerading, Method::Tunnelling] {
            let mut director = balancing(v6, method, server, 8080);
            for round in 0..3000 {
                let whole = match rng.below(3) {
                    0 => frame(STATION_1, endpoint(server, 8080), client(v6), None, &[1; 700]),
                    1 => frame(STATION_0, client(v6), vip(v6), Some(SYN), &[2; 700]),
                    _ => datagram(v6, 700),
                };
                let at = [8 + rng.below(40) as usize * 8, 400];
                for mut part in cut(v6, &whole, &at) {
                    if rng.below(3) == 0 {
                        let position = 14 + rng.below(60.min(part.len() as u32 - 14)) as usize;
                        part[position] = rng.next_u32() as u8;
                    }
                    if !v6 && rng.below(2) == 0 {
                        part[24..26].fill(0);
                        let sum = checksum::of(&part[14..34]);
                        part[24..26].copy_from_slice(&sum.to_be_bytes());
                    }
                    if rng.below(4) > 0 {
                        let _ = director.receive(if whole[..6] == STATION_0 { ETH0 } else { ETH1 }, &part);
                    }
                }
                let _ = director.take_transmitted();
                if round % 16 == 0 {
                    director.advance(director.now() + Duration::from_secs(1));
                    let _ = director.take_transmitted();
                }
            }
            director.advance(director.now() + Duration::from_secs(100));
            let _ = director.take_transmitted();
            assert_eq!(free(&director), 64);
            assert!(director.shared().workers[0].counters.reassembled.get() > 300);
        }
    }
}

/// A datagram that is a fragment itself once it is whole (RFC 8200 knows no such packets) goes to the host as it came.
#[test]
fn a_fragment_within_fragments_is_the_hosts() {
    let mut director = balancing(true, Method::Masquerading, "fd00:2::1", 80);
    let whole = frame(STATION_0, client(true), vip(true), None, &[7; 24]);
    let fragment = |offset_and_more: u16, inner: &[u8]| {
        let mut fragment = whole[..54].to_vec();
        fragment[20] = 44;
        fragment[18..20].copy_from_slice(&(8 + inner.len() as u16).to_be_bytes());
        let [high, low] = offset_and_more.to_be_bytes();
        // The next header is a fragment header again.
        fragment.extend([44, 0, high, low, 0, 0, 0, 9]);
        fragment.extend_from_slice(inner);
        fragment
    };
    let inner = [&[17, 0, 0, 1, 0, 0, 0, 9][..], &whole[54..86]].concat();
    let (first, last) = (fragment(1, &inner[..16]), fragment(16, &inner[16..]));
    director.receive(ETH0, &first);
    assert_eq!(director.receive(ETH0, &last), Some(Verdict::Pass));
    assert_eq!(director.take_passed(), [(ETH0, first), (ETH0, last)]);
}

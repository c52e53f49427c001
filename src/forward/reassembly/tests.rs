use super::*;
use crate::base::{Address, InterfaceId, Rng};

/// Fragments of datagrams whose octets are their own offsets; a frame's start tells which it was.
struct Bench {
    reassembly: Reassembly,
    frames: u64,
    now: Instant,
    /// What comes is in large frames.
    is_large: bool,
}

fn address(v6: bool) -> Address {
    if v6 { "fd00::1".parse().unwrap() } else { "10.0.0.1".parse().unwrap() }
}

fn place(v6: bool, identification: u32, offset: u32, end: u32, is_last: bool) -> Place {
    Place {
        key: Key { source: address(v6), destination: address(v6), identification, protocol: 17 },
        start: 34,
        offset,
        octets: end - offset,
        width: (end - offset) as u16 + 20,
        is_last,
        dont_fragment: false,
        congestion: 1,
    }
}

impl Bench {
    fn new() -> Self {
        Self { reassembly: Reassembly::default(), frames: 0, now: Instant::from_seconds(1), is_large: false }
    }

    fn gather(&mut self, place: &Place) -> Result<Option<Vec<(u32, u32)>>, DropReason> {
        let frame = Frame { start: self.frames, length: 1500, interface: InterfaceId(0) };
        self.frames += 1;
        match self.reassembly.gather(frame, self.is_large, place, self.now) {
            Gathered::Waits => Ok(None),
            Gathered::Refused(_, reason) => Err(reason),
            Gathered::Whole(mut datagram) => {
                let pieces = datagram.pieces.drain(..).map(|piece| (piece.offset, piece.end())).collect();
                self.reassembly.recycle(datagram);
                Ok(Some(pieces))
            }
        }
    }

    /// Fragments of one datagram of 600 octets, in order; what came of the last.
    fn run(&mut self, v6: bool, identification: u32, pieces: &[(u32, u32)]) -> Result<Option<usize>, DropReason> {
        let mut last = Ok(None);
        for (offset, end) in pieces {
            last =
                self.gather(&place(v6, identification, *offset, *end, *end == 600)).map(|whole| whole.map(|w| w.len()));
        }
        last
    }
}

#[test]
fn fragments_make_a_datagram_in_any_order() {
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let pieces = [(0, 200), (200, 400), (400, 600)];
    let mut bench = Bench::new();
    for v6 in [false, true] {
        for (number, order) in orders.iter().enumerate() {
            for (count, piece) in order.iter().enumerate() {
                let (offset, end) = pieces[*piece];
                let made = bench.gather(&place(v6, number as u32, offset, end, end == 600)).unwrap();
                assert_eq!(made, (count == 2).then(|| pieces.to_vec()), "{order:?}");
            }
        }
    }
    assert_eq!((bench.reassembly.held(), bench.reassembly.datagrams.len()), (0, 0));
}

/// Each as the kernel was seen to do it.
#[test]
fn overlaps_end_a_datagram_and_duplicates_do_not() {
    let cases: [(&[(u32, u32)], _); 7] = [
        (&[(0, 200), (0, 200), (200, 600)], Ok(Some(2))),
        // Within two that came one after the other.
        (&[(0, 200), (200, 400), (96, 304), (400, 600)], Ok(Some(3))),
        // The same two in the other order are two runs.
        (&[(200, 400), (0, 200), (96, 304)], Err(DropReason::FragmentOverlap)),
        (&[(0, 200), (96, 304)], Err(DropReason::FragmentOverlap)),
        (&[(200, 304), (0, 600)], Err(DropReason::FragmentOverlap)),
        (&[(0, 200), (400, 504), (200, 600)], Err(DropReason::FragmentOverlap)),
        (&[(0, 200), (400, 600), (400, 600)], Err(DropReason::FragmentDuplicate)),
    ];
    for v6 in [false, true] {
        for (number, (pieces, expected)) in cases.iter().enumerate() {
            let mut bench = Bench::new();
            assert_eq!(bench.run(v6, 7, pieces), *expected, "case {number}, IPv6 {v6}");
            let remains = matches!(expected, Err(DropReason::FragmentDuplicate));
            assert_eq!(bench.reassembly.datagrams.len(), usize::from(remains), "case {number}");
            let gone = bench.reassembly.discarded.len();
            assert_eq!(gone + bench.reassembly.held() > 0, expected.is_err(), "case {number}");
        }
    }
}

#[test]
fn ends_that_contradict_each_other() {
    for (v6, survives) in [(false, false), (true, true)] {
        let mut bench = Bench::new();
        assert_eq!(bench.gather(&place(v6, 1, 400, 600, true)), Ok(None));
        // Another end, and more beyond the end.
        let reason = if v6 { DropReason::Malformed } else { DropReason::FragmentOverlap };
        assert_eq!(bench.gather(&place(v6, 1, 600, 704, true)), Err(reason));
        assert_eq!(bench.reassembly.held(), usize::from(survives));
        assert_eq!(bench.gather(&place(v6, 2, 400, 600, true)), Ok(None));
        assert_eq!(bench.gather(&place(v6, 2, 600, 800, false)), Err(reason));
        // No octets at all.
        assert_eq!(bench.gather(&place(v6, 3, 8, 8, false)), Err(DropReason::Malformed));
        assert_eq!(bench.reassembly.datagrams.len(), if survives { 2 } else { 0 });
    }
}

#[test]
fn what_differs_in_any_part_of_the_key_is_another_datagram() {
    let mut bench = Bench::new();
    let first = place(false, 1, 0, 8, false);
    let others = [
        Key { protocol: 6, ..first.key },
        Key { identification: 2, ..first.key },
        Key { source: "10.0.0.2".parse().unwrap(), ..first.key },
        Key { destination: "10.0.0.2".parse().unwrap(), ..first.key },
    ];
    assert_eq!(bench.gather(&first), Ok(None));
    for key in others {
        assert_eq!(bench.gather(&Place { key, ..place(false, 1, 8, 16, true) }), Ok(None));
    }
    assert_eq!(bench.reassembly.datagrams.len(), 5);
}

#[test]
fn the_oldest_datagram_goes_when_too_many_wait() {
    let mut bench = Bench::new();
    for identification in 0..DATAGRAMS_MAX as u32 {
        assert_eq!(bench.gather(&place(false, identification, 0, 8, false)), Ok(None));
    }
    assert!(bench.reassembly.discarded.is_empty());
    assert_eq!(bench.gather(&place(false, 9999, 0, 8, false)), Ok(None));
    let gone: Vec<_> = bench.reassembly.discarded.drain(..).map(|(frame, reason)| (frame.start, reason)).collect();
    assert_eq!(gone, [(0, DropReason::FragmentsFull)]);
    assert_eq!(bench.gather(&place(false, 1, 8, 16, true)), Ok(Some(vec![(0, 8), (8, 16)])), "the next one is there");
}

#[test]
fn no_more_frames_are_held_than_the_port_can_spare() {
    let mut bench = Bench::new();
    bench.reassembly.limit(40);
    for number in 0..25 {
        assert_eq!(bench.gather(&place(true, number / 5, number % 5 * 8, number % 5 * 8 + 8, false)), Ok(None));
        assert!(bench.reassembly.held() <= 10);
    }
    assert_eq!(bench.reassembly.discarded.len() + bench.reassembly.held(), 25);
}

#[test]
fn a_datagram_of_too_many_fragments_ends() {
    let mut bench = Bench::new();
    for number in 0..FRAGMENTS_MAX as u32 {
        assert_eq!(bench.gather(&place(false, 1, number * 8, number * 8 + 8, false)), Ok(None));
    }
    assert_eq!((bench.reassembly.held(), bench.reassembly.discarded.len()), (0, FRAGMENTS_MAX));
}

#[test]
fn what_is_not_whole_in_time_ends() {
    let mut bench = Bench::new();
    assert_eq!(bench.gather(&place(false, 1, 0, 8, false)), Ok(None));
    bench.now = Instant::from_seconds(11);
    assert_eq!(bench.gather(&place(true, 1, 0, 8, false)), Ok(None));
    assert_eq!(bench.gather(&place(false, 2, 8, 16, false)), Ok(None));
    // Another fragment does not prolong the time.
    assert_eq!(bench.gather(&place(false, 1, 8, 16, false)), Ok(None));
    let mut ended_at = |seconds| {
        let mut ended = Vec::new();
        while let Some(mut datagram) = bench.reassembly.expire(Instant::from_seconds(seconds)) {
            ended.push((datagram.family(), datagram.pieces.drain(..).count()));
            bench.reassembly.recycle(datagram);
        }
        ended
    };
    assert_eq!(ended_at(30), []);
    assert_eq!(ended_at(31), [(Family::V4, 2)]);
    assert_eq!(ended_at(40), []);
    assert_eq!(ended_at(41), [(Family::V4, 1)]);
    assert_eq!(ended_at(71), [(Family::V6, 1)]);
    assert_eq!(bench.reassembly.held(), 0);
}

#[test]
fn congestion_met_by_one_fragment_is_met_by_the_datagram() {
    let marks = |fields: &[u8]| {
        let mut bench = Bench::new();
        for (number, field) in fields.iter().enumerate() {
            let offset = number as u32 * 8;
            let _ = bench.gather(&Place { congestion: 1 << field, ..place(false, 1, offset, offset + 8, false) });
        }
        bench.reassembly.datagrams[0].congestion()
    };
    assert_eq!(marks(&[0, 0]), Ok(0));
    assert_eq!(marks(&[1, 2]), Ok(0));
    assert_eq!(marks(&[2, 3]), Ok(3));
    assert_eq!(marks(&[3, 1, 2]), Ok(3));
    assert_eq!(marks(&[3, 3]), Ok(3));
    assert_eq!(marks(&[0, 2]), Err(DropReason::FragmentsMismatch));
    assert_eq!(marks(&[0, 3]), Err(DropReason::FragmentsMismatch));
}

/// Whatever comes, every frame is held, given back or in a datagram, and pieces neither overlap nor leave gaps.
#[test]
fn arbitrary_fragments_lose_no_frame() {
    let mut rng = Rng::new(3);
    let mut bench = Bench::new();
    bench.reassembly.limit(400);
    let (mut gathered, mut made, mut gone) = (0, 0, 0);
    for round in 0..20_000 {
        let offset = rng.below(12) * 8;
        let end = offset + rng.below(6) * 8;
        let is_last = rng.below(4) == 0;
        gathered += 1;
        match bench.gather(&place(rng.below(2) == 0, rng.below(300), offset, end, is_last)) {
            Ok(None) => {}
            Ok(Some(pieces)) => {
                made += pieces.len();
                assert_eq!(pieces[0].0, 0);
                assert!(pieces.windows(2).all(|pair| pair[0].1 == pair[1].0));
            }
            Err(_) => gone += 1,
        }
        gone += bench.reassembly.discarded.drain(..).count();
        if round % 64 == 0 {
            bench.now = bench.now + Duration::from_millis(700);
            while let Some(mut datagram) = bench.reassembly.expire(bench.now) {
                gone += datagram.pieces.drain(..).count();
                bench.reassembly.recycle(datagram);
            }
        }
        assert_eq!(made + gone + bench.reassembly.held(), gathered);
    }
    assert!(made > 100, "some are made whole: {made}");
}

/// A sender of lone jumbo fragments must not take all of the few buffers that jumbo frames have.
#[test]
fn large_frames_that_wait_are_few() {
    let mut bench = Bench::new();
    // One that began earlier and has no large frame stays.
    assert_eq!(bench.gather(&place(false, 1000, 0, 8, false)), Ok(None));
    bench.is_large = true;
    for number in 0..=HELD_LARGE_MAX as u32 {
        assert!(bench.reassembly.discarded.is_empty(), "{number} are not too many");
        assert_eq!(bench.gather(&place(false, number, 0, 8000, false)), Ok(None));
    }
    let discarded: Vec<_> = bench.reassembly.discarded.drain(..).map(|(frame, reason)| (frame.start, reason)).collect();
    assert_eq!(discarded, [(1, DropReason::FragmentsFull)], "the first large one goes");
    assert_eq!(bench.reassembly.held(), HELD_LARGE_MAX + 1);
    // What gets whole makes room for one more.
    assert!(bench.gather(&place(false, 1, 8000, 8008, true)).unwrap().is_some());
    assert_eq!(bench.gather(&place(false, 2000, 0, 8000, false)), Ok(None));
    assert!(bench.reassembly.discarded.is_empty());
    bench.now = Instant::from_seconds(60);
    while let Some(mut datagram) = bench.reassembly.expire(bench.now) {
        datagram.pieces.clear();
        bench.reassembly.recycle(datagram);
    }
    assert_eq!((bench.reassembly.held(), bench.reassembly.held_large), (0, 0));
}

/// The next-header field that named the fragment header is the last one's in the chain, also behind AH, which counts its
/// length in other units.
#[test]
fn the_fragment_header_leaves_the_chain() {
    let fixed = |next: u8| [&[0x60, 0, 0, 0, 0, 0, next, 64][..], &[0; 32]].concat();
    let ah = [&[60, 4][..], &[0; 22]].concat();
    let options = [44, 0, 1, 4, 0, 0, 0, 0];
    let mut chain = [fixed(AH), ah, options.to_vec()].concat();
    let octets = chain.len();
    finish_v6(&mut chain, octets + 8, 17, 0);
    assert_eq!((chain[6], chain[40], chain[64]), (AH, 60, 17));
    let mut plain = fixed(FRAGMENT);
    finish_v6(&mut plain, 48, 17, 3);
    assert_eq!(plain[..8], [0x60, 0x30, 0, 0, 0, 8, 17, 64]);
}

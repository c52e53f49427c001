use super::*;
use crate::base::{Address, Endpoint, Rng};
use crate::wire::hex;
use crate::wire::sync::Record;

/// Octets of each kind, and the frame that they are.
fn examples() -> Vec<(&'static str, Frame<'static>)> {
    let digest = Digest { records: 2, sum: 3, mix: 4 };
    let span = Span { port: 1, count: 2, first: 0xffff_fffe };
    vec![
        (
            "0100000c 6c767872 01070000 00000000",
            Frame::Hello(Hello { syncid: 7, role: Role::Backup, ports: 0, epoch: 0 }),
        ),
        (
            "0100000c 6c767872 01070100 0004beef",
            Frame::Hello(Hello { syncid: 7, role: Role::Master, ports: 4, epoch: 0xbeef }),
        ),
        ("02000004 03000000", Frame::Refusal(Reason::Busy)),
        ("02000004 09000000", Frame::Refusal(Reason::Other(9))),
        ("03000004 00000005", Frame::Table { number: 5 }),
        ("04000008 00000005 00010000", Frame::Begin { number: 5, entries: 65_536 }),
        ("05000006 00000005 abcd", Frame::Records { number: 5, datagram: &[0xab, 0xcd] }),
        (
            "06000020 00000005 00000000 0000000000000002 0000000000000003 0000000000000004",
            Frame::End { number: 5, digest },
        ),
        ("07000008 00000001 00000002", Frame::Position(Position(&[0, 0, 0, 1, 0, 0, 0, 2]))),
        ("08000008 0001 0002 fffffffe", Frame::Ask(span)),
        ("09000006 0001 0000 abcd", Frame::Again { port: 1, datagram: &[0xab, 0xcd] }),
        ("0a000008 0001 0002 fffffffe", Frame::Gone(span)),
        ("0b000000", Frame::Alive),
    ]
}

fn decoded(decoder: &mut Decoder) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Ok(Some((kind, body))) = decoder.next_frame() {
        frames.push((kind, decoder.body(body).to_vec()));
    }
    frames
}

#[test]
fn each_kind_there_and_back() {
    for (text, frame) in examples() {
        let octets = hex(text);
        let mut emitted = Vec::new();
        frame.emit(&mut emitted);
        assert_eq!(emitted, octets, "{frame:?}");
        assert_eq!(Frame::parse(octets[0], &octets[HEADER_OCTETS..]), Ok(frame));
    }
    let mut octets = Vec::new();
    emit_position(&mut octets, [1, 2].into_iter());
    assert_eq!(octets, hex("07000008 00000001 00000002"));
    let Ok(Frame::Position(position)) = Frame::parse(7, &octets[4..]) else { panic!() };
    assert_eq!(position.numbers().collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn bodies_that_are_too_short_or_too_long() {
    for (text, frame) in examples() {
        let octets = hex(text);
        let (kind, body) = (octets[0], &octets[HEADER_OCTETS..]);
        let is_open = matches!(frame, Frame::Records { .. } | Frame::Again { .. } | Frame::Position(_));
        for length in 0..body.len() {
            let parsed = Frame::parse(kind, &body[..length]);
            let is_whole = match kind {
                kind::RECORDS | kind::AGAIN => length >= 4,
                kind::POSITION => length.is_multiple_of(4),
                _ => false,
            };
            assert_eq!(parsed.is_ok(), is_whole, "{frame:?} {length}");
        }
        if !is_open {
            assert_eq!(Frame::parse(kind, &[body, &[0]].concat()), Err(Error::Malformed), "{frame:?}");
        }
    }
}

#[test]
fn what_is_no_hello() {
    let hello = hex("6c767872 01070100 0004beef");
    for (at, value, error) in
        [(0, b'L', Error::Malformed), (4, 2, Error::Unsupported), (4, 0, Error::Unsupported), (6, 2, Error::Malformed)]
    {
        let mut changed = hello.clone();
        changed[at] = value;
        assert_eq!(Frame::parse(1, &changed), Err(error));
    }
    // A later version may say more; that it is another is what counts.
    assert_eq!(Frame::parse(1, &hex("6c767872 02")), Err(Error::Unsupported));
    for kind in [0, 12, 255] {
        assert_eq!(Frame::parse(kind, &[]), Err(Error::Unsupported));
    }
}

#[test]
fn frames_come_in_any_pieces() {
    let mut stream = Vec::new();
    let mut expected = Vec::new();
    for (text, _) in examples() {
        let octets = hex(text);
        expected.push((octets[0], octets[HEADER_OCTETS..].to_vec()));
        stream.extend(octets);
    }
    for piece in [1, 2, 3, 5, 7, 64, 1000] {
        let mut decoder = Decoder::new(BODY_MAX);
        let mut frames = Vec::new();
        for octets in stream.chunks(piece) {
            decoder.push(octets);
            frames.extend(decoded(&mut decoder));
        }
        assert_eq!(frames, expected, "{piece}");
        assert_eq!(decoder.waiting(), 0);
    }
}

#[test]
fn a_body_longer_than_may_be_ends_the_stream_at_once() {
    for length in BACKUP_BODY_MAX + 1..=BODY_MAX {
        let mut decoder = Decoder::new(BACKUP_BODY_MAX);
        let length = (length as u16).to_be_bytes();
        decoder.push(&[1, 0, length[0], length[1]]);
        assert_eq!(decoder.next_frame(), Err(Error::Malformed));
    }
    let mut decoder = Decoder::new(BODY_MAX);
    decoder.push(&[1, 1, 0, 0]);
    assert_eq!(decoder.next_frame(), Err(Error::Malformed), "the zero is not one");
}

/// Without an end, in whatever pieces: never more waits than one frame and one piece.
#[test]
fn an_endless_stream_needs_no_more_than_a_frame() {
    let mut rng = Rng::new(5);
    let mut decoder = Decoder::new(BACKUP_BODY_MAX);
    let mut frames = 0;
    for _ in 0..200_000 {
        let mut octets = vec![0; 1 + rng.below(200) as usize];
        // Bodies of at most 64 octets, whatever they say.
        octets.iter_mut().step_by(2).for_each(|octet| *octet = rng.below(65) as u8);
        decoder.push(&octets);
        loop {
            match decoder.next_frame() {
                Ok(Some((kind, body))) => {
                    frames += 1;
                    let _ = Frame::parse(kind, decoder.body(body));
                }
                Ok(None) => break,
                Err(_) => decoder = Decoder::new(BACKUP_BODY_MAX),
            }
        }
        assert!(decoder.waiting() < HEADER_OCTETS + BACKUP_BODY_MAX);
        assert!(decoder.octets.capacity() < 4096, "{}", decoder.octets.capacity());
    }
    assert!(frames > 1000, "{frames}");
}

#[test]
fn arbitrary_bodies_do_not_panic() {
    let mut rng = Rng::new(6);
    let mut read = 0;
    for _ in 0..200_000 {
        let body: Vec<u8> = (0..rng.below(40)).map(|_| rng.next_u32() as u8).collect();
        if let Ok(frame) = Frame::parse(rng.below(13) as u8, &body) {
            read += 1;
            let mut octets = Vec::new();
            frame.emit(&mut octets);
            assert!(octets.len() <= body.len() + HEADER_OCTETS);
        }
    }
    assert!(read > 1000, "{read}");
}

fn record(port: u16) -> Record<'static> {
    let endpoint = Endpoint::new(Address::v4(7), port);
    Record { left_ms: Some(5), ..Record::example(endpoint, endpoint, endpoint) }
}

fn digest(records: &[Record<'_>]) -> Digest {
    let mut digest = Digest::default();
    records.iter().for_each(|record| digest.add(record));
    digest
}

#[test]
fn a_digest_knows_no_order_and_each_field() {
    let (a, b) = (record(1), record(2));
    assert_eq!(digest(&[a, b]), digest(&[b, a]));
    assert_ne!(digest(&[a, a]), digest(&[a, b]));
    assert_ne!(digest(&[a]).sum, 0);
    let other = Endpoint::new(Address::v6(1 << 100), 1);
    let changes: [Record<'_>; 11] = [
        Record { protocol: 17, ..a },
        Record { flags: 1, ..a },
        Record { state: 2, ..a },
        Record { client: other, ..a },
        Record { virtual_service: other, ..a },
        Record { destination: other, ..a },
        Record { mark: 1, ..a },
        Record { timeout_s: 901, ..a },
        Record { left_ms: Some(6), ..a },
        Record { engine_name: b"sip", ..a },
        Record { engine_data: b"sip", ..a },
    ];
    let mut sums: Vec<(u64, u64)> =
        changes.iter().map(|change| (digest(&[*change]).sum, digest(&[*change]).mix)).collect();
    sums.push((digest(&[a]).sum, digest(&[a]).mix));
    sums.sort_unstable();
    sums.dedup();
    assert_eq!(sums.len(), 12, "each of them is another");
}

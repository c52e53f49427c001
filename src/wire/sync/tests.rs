use super::*;
use crate::base::{Address, Rng};
use crate::wire::{Error, hex};

fn endpoint(address: &str, port: u16) -> Endpoint {
    Endpoint::new(address.parse().unwrap(), port)
}

fn record() -> Record<'static> {
    Record {
        protocol: 17,
        flags: 0x0183,
        state: 0,
        client: endpoint("10.0.0.50", 40001),
        virtual_service: endpoint("10.0.0.1", 53),
        destination: endpoint("10.0.1.3", 53),
        mark: 0,
        timeout_s: 300,
        sequences: None,
        engine_name: &[],
        engine_data: &[],
        left_ms: None,
    }
}

fn write(version: Version, octets_max: usize, records: &[Record<'_>]) -> Vec<u8> {
    let mut writer = Writer::new(version, 5, octets_max);
    for record in records {
        assert!(writer.push(record));
    }
    writer.finish()
}

fn read(octets: &[u8]) -> Vec<Result<Record<'_>, Flaw>> {
    Message::parse(octets).unwrap().records().collect()
}

/// The entry as the kernel sent it.
const UDP_ENTRY: &str =
    "00 11 00 24 00 00 01 83 00 00 9c 41 00 35 00 35 00 00 00 00 00 00 01 2c 0a 00 00 32 0a 00 00 01 0a 00 01 03";

#[test]
fn one_connection_of_the_reference() {
    let octets = hex(&format!("00 05 00 2c 01 01 00 00 {UDP_ENTRY}"));
    assert_eq!(write(Version::V1, 1472, &[record()]), octets);
    let message = Message::parse(&octets).unwrap();
    assert_eq!((message.version, message.syncid), (Version::V1, 5));
    assert_eq!(read(&octets), [Ok(record())]);
}

/// From a recording: two SIP templates, the entry before the second padded by two octets.
#[test]
fn engine_data_and_padding_of_the_reference() {
    let template = "00110036 00001100 0000 0000 13c4 13c4 00000000 0000003c 0a010001 0a090001 0a020001
        020b 63616c6c2d6140686f7374 0303 736970";
    let octets = hex(&format!("00 05 00 76 02 01 00 00 {template} 0000 {template}"));
    let expected = Record {
        flags: 0x1100,
        client: endpoint("10.1.0.1", 0),
        virtual_service: endpoint("10.9.0.1", 5060),
        destination: endpoint("10.2.0.1", 5060),
        timeout_s: 60,
        engine_name: b"sip",
        engine_data: b"call-a@host",
        ..record()
    };
    assert_eq!(read(&octets), [Ok(expected), Ok(expected)]);
    assert_eq!(write(Version::V1, 1472, &[expected, expected]), octets);
}

#[test]
fn version_0_of_the_reference() {
    let octets = hex("01 05 00 1c 00 06 0401 0050 1f90 0a010001 0a090001 0a020001 0000 0001");
    let expected = Record {
        protocol: 6,
        flags: 0,
        state: 1,
        client: endpoint("10.1.0.1", 1025),
        virtual_service: endpoint("10.9.0.1", 80),
        destination: endpoint("10.2.0.1", 8080),
        timeout_s: 0,
        ..record()
    };
    assert_eq!(read(&octets), [Ok(expected)]);
    assert_eq!(write(Version::V0, 1472, &[expected]), octets);
}

fn arbitrary(rng: &mut Rng, version: Version) -> Record<'static> {
    const TEXT: &[u8] = &[b'x'; ENGINE_DATA_OCTETS_MAX];
    let v6 = version == Version::V1 && rng.below(2) == 0;
    let mut address = || if v6 { Address::v6(u128::from(rng.next_u64())) } else { Address::v4(rng.next_u32()) };
    let addresses = [address(), address(), address()];
    let mut port = || rng.next_u32() as u16;
    let [client, virtual_service, destination] = addresses.map(|address| Endpoint::new(address, port()));
    let moved = rng.below(3) == 0;
    let mut sequence = || Sequence { start: rng.next_u32(), delta: rng.next_u32(), previous_delta: rng.next_u32() };
    let sequences = moved.then(|| [sequence(), sequence()]);
    let mut text = |limit: usize| &TEXT[..rng.below(limit as u32 + 1) as usize];
    let (data, name) = match version {
        Version::V1 => (text(ENGINE_DATA_OCTETS_MAX), text(ENGINE_NAME_OCTETS_MAX)),
        Version::V0 => (&TEXT[..0], &TEXT[..0]),
    };
    let number = |rng: &mut Rng| if version == Version::V1 { rng.next_u32() } else { 0 };
    Record {
        protocol: rng.next_u32() as u8,
        flags: (rng.next_u32() & 0xffff & !SEQUENCE_FLAGS) | if moved { 0x0200 } else { 0 },
        state: rng.next_u32() as u16,
        client,
        virtual_service,
        destination,
        mark: number(rng),
        timeout_s: number(rng),
        sequences,
        engine_name: name,
        engine_data: data,
        left_ms: (version == Version::V1 && rng.below(2) == 0).then(|| rng.next_u32()),
    }
}

#[test]
fn what_is_written_is_read() {
    let mut rng = Rng::new(3);
    for round in 0..500 {
        let version = if round % 3 == 0 { Version::V0 } else { Version::V1 };
        let octets_max = 60 + rng.below(3000) as usize;
        let mut writer = Writer::new(version, 9, octets_max);
        let mut written = Vec::new();
        loop {
            let record = arbitrary(&mut rng, version);
            if !writer.push(&record) {
                break;
            }
            written.push(Ok(record));
        }
        let octets = writer.finish();
        assert!(octets.len() <= octets_max || written.len() == 1);
        assert_eq!(read(&octets), written);
    }
}

#[test]
fn a_datagram_has_no_more_entries_than_it_can_count() {
    let mut writer = Writer::new(Version::V1, 5, 65_507);
    for _ in 0..ENTRIES_MAX {
        assert!(writer.push(&record()));
    }
    assert!(!writer.push(&record()));
    assert_eq!(read(&writer.finish()).len(), 255);
}

/// Cut at every length the size field is wrong; with the size field put right, what was cut off is missed.
#[test]
fn truncated_at_every_length() {
    let long =
        Record { engine_name: b"sip", engine_data: b"call", sequences: Some([Sequence::default(); 2]), ..record() };
    let whole = write(Version::V1, 1472, &[record(), long]);
    for length in 0..whole.len() {
        let mut cut = whole[..length].to_vec();
        let expected = if length < 4 { Error::Truncated } else { Error::Malformed };
        assert_eq!(Message::parse(&cut).err(), Some(expected), "{length}");
        if length < 4 {
            continue;
        }
        cut[2..4].copy_from_slice(&(length as u16).to_be_bytes());
        let records = read(&cut);
        match length {
            // Without the second half of the header it reads as one of version 0 that has no entries.
            4..8 => assert_eq!(records, []),
            8..44 => assert_eq!(records, [Err(Flaw::Fatal)]),
            _ => assert_eq!(records, [Ok(record()), Err(Flaw::Fatal)]),
        }
    }
    let whole = write(Version::V0, 1472, &[record(), record()]);
    for length in 4..whole.len() {
        let mut cut = whole[..length].to_vec();
        cut[2..4].copy_from_slice(&(length as u16).to_be_bytes());
        let read = read(&cut);
        assert_eq!(read.last(), Some(&Err(Flaw::Fatal)));
        assert_eq!(read.len(), if length < 28 { 1 } else { 2 });
    }
}

/// An entry whose size field says any number: no entry is read beyond the datagram, none is longer than it says.
#[test]
fn lying_sizes() {
    let whole = write(Version::V1, 1472, &[record(), record()]);
    for size in 0..=u16::MAX {
        let mut lying = whole.clone();
        lying[10..12].copy_from_slice(&size.to_be_bytes());
        let records = read(&lying);
        match size {
            36 => assert_eq!(records, [Ok(record()), Ok(record())]),
            _ => assert!(records.iter().all(|read| *read != Ok(record())) || records[0].is_err(), "{size}"),
        }
        assert!(records.len() <= 2);
    }
}

fn with_options(options: &[u8]) -> Vec<u8> {
    let mut octets = write(Version::V1, 1472, &[record()]);
    octets.extend_from_slice(options);
    let (size, length) = (36 + options.len() as u16, octets.len() as u16);
    octets[2..4].copy_from_slice(&length.to_be_bytes());
    octets[10..12].copy_from_slice(&size.to_be_bytes());
    octets
}

#[test]
fn options_that_are_refused_and_those_that_are_skipped() {
    let sequences = [&[1u8, 24][..], &[0; 24]].concat();
    let twice = [&sequences[..], &sequences].concat();
    for (options, flaw) in [
        (&[2u8][..], Flaw::Fatal),
        (&[2, 0], Flaw::Fatal),
        (&[2, 2, 0], Flaw::Fatal),
        (&[0x47, 0], Flaw::Fatal),
        (&[1, 4, 0, 0, 0, 0], Flaw::Fatal),
        (&twice, Flaw::Fatal),
        (&[2, 1, b'a', 2, 1, b'b'], Flaw::Fatal),
        (&[3, 1, b'a', 3, 1, b'b'], Flaw::Fatal),
        (&[&[3, 17][..], &[b'a'; 17]].concat(), Flaw::Fatal),
        (&[7, 1, 0], Flaw::Unknown),
        (&[0, 1, 0], Flaw::Unknown),
        // What is malformed behind an unknown option is malformed.
        (&[7, 1, 0, 2, 9], Flaw::Fatal),
    ] {
        assert_eq!(read(&with_options(options)), [Err(flaw)], "{options:?}");
    }
    assert_eq!(read(&with_options(&[0x47, 1, 0])), [Ok(record())]);
    let named = Record { engine_name: b"sip", ..record() };
    assert_eq!(read(&with_options(&[0x43, 3, b's', b'i', b'p'])), [Ok(named)]);
}

#[test]
fn an_unknown_option_costs_its_entry_alone() {
    let mut octets = with_options(&[7, 1, 0]);
    octets.push(0);
    octets.extend(hex(UDP_ENTRY));
    let length = octets.len() as u16;
    octets[2..4].copy_from_slice(&length.to_be_bytes());
    octets[4] = 2;
    assert_eq!(read(&octets), [Err(Flaw::Unknown), Ok(record())]);
}

#[test]
fn types_and_versions_that_are_none() {
    let whole = write(Version::V1, 1472, &[record()]);
    let change = |at: usize, value: u8| {
        let mut octets = whole.clone();
        octets[at] = value;
        octets
    };
    for kind in [2, 4, 0x80] {
        assert_eq!(read(&change(8, kind)), [Err(Flaw::Fatal)]);
    }
    // The addresses of IPv6 would not fit.
    assert_eq!(read(&change(8, 1)), [Err(Flaw::Fatal)]);
    assert_eq!(read(&change(10, 0x10)), [Err(Flaw::Fatal)]);
    for (at, value) in [(5, 0), (5, 7), (6, 1), (7, 1)] {
        assert_eq!(Message::parse(&change(at, value)).unwrap().version, Version::V0);
        assert_eq!(read(&change(at, value)), []);
    }
    assert_eq!(read(&change(4, 9)), [Ok(record()), Err(Flaw::Fatal)]);
}

#[test]
fn arbitrary_octets_neither_panic_nor_read_more_than_there_is() {
    let mut rng = Rng::new(17);
    let mut read_records = 0;
    for round in 0..100_000 {
        let version = if round % 4 == 0 { Version::V0 } else { Version::V1 };
        let mut writer = Writer::new(version, 1, 400);
        while writer.push(&arbitrary(&mut rng, version)) {}
        let mut octets = writer.finish();
        for _ in 0..=rng.below(4) {
            let at = rng.below(octets.len() as u32) as usize;
            octets[at] = rng.next_u32() as u8;
        }
        octets.truncate(octets.len() - rng.below(8) as usize);
        let length = octets.len() as u16;
        octets[2..4].copy_from_slice(&length.to_be_bytes());
        for record in Message::parse(&octets).unwrap().records().flatten() {
            read_records += 1;
            assert!(record.engine_data.len() + record.engine_name.len() < octets.len());
        }
    }
    assert!(read_records > 10_000);
}

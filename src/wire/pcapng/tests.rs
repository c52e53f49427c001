use super::*;
use crate::base::Rng;
use crate::wire::{Error, hex};

fn read_all(bytes: &[u8]) -> Result<(Vec<Packet>, Vec<Interface>), PcapngError> {
    let mut reader = Reader::new(bytes);
    let mut packets = Vec::new();
    while let Some(packet) = reader.next_packet()? {
        packets.push(packet);
    }
    Ok((packets, reader.interfaces().to_vec()))
}

fn sample() -> Vec<u8> {
    let mut writer = Writer::new(Vec::new()).unwrap();
    let clients = writer.interface("eth0").unwrap();
    let servers = writer.interface("servers").unwrap();
    writer.packet(servers, 1_700_000_000_123_456_789, b"abcde").unwrap();
    writer.packet(clients, 5, &[7; 60]).unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn what_is_written_is_read() {
    let (packets, interfaces) = read_all(&sample()).unwrap();
    assert_eq!(interfaces.iter().map(|i| i.name.as_str()).collect::<Vec<_>>(), ["eth0", "servers"]);
    assert_eq!((packets[0].interface, packets[0].timestamp_ns), (1, Some(1_700_000_000_123_456_789)));
    assert_eq!((packets[0].original_octets, packets[0].bytes.as_slice()), (5, &b"abcde"[..]));
    assert_eq!((packets[1].interface, packets[1].timestamp_ns, packets[1].bytes.len()), (0, Some(5), 60));
    assert_eq!(packets.len(), 2);
    let refused = Writer::new(Vec::new()).unwrap().packet(0, 0, b"x").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
}

#[test]
fn the_octets_of_a_small_file() {
    let mut writer = Writer::new(Vec::new()).unwrap();
    writer.interface("e0").unwrap();
    writer.packet(0, 0x1_0000_0002, b"abc").unwrap();
    let expected = "0a0d0d0a 1c000000 4d3c2b1a 0100 0000 ffffffffffffffff 1c000000
        01000000 28000000 0100 0000 00000000 0200 0200 65300000 0900 0100 09000000 0000 0000 28000000
        06000000 24000000 00000000 01000000 02000000 03000000 03000000 61626300 24000000";
    assert_eq!(writer.into_inner().unwrap(), hex(expected));
}

/// Big-endian, microseconds by default, a block to skip, a simple packet cut at the snap length, then a
/// little-endian section whose interface counts from 0 again, with a resolution of 2^-10 s and an offset.
#[test]
fn both_byte_orders_and_other_blocks() {
    let bytes = hex("0a0d0d0a 0000001c 1a2b3c4d 0001 0000 ffffffffffffffff 0000001c
        00000001 00000014 0001 0000 00000004 00000014
        0000000b 00000010 01020304 00000010
        00000006 00000024 00000000 00000000 000f4240 00000003 00000009 61626300 00000024
        00000003 00000014 00000006 61626364 00000014
        0a0d0d0a 1c000000 4d3c2b1a 0100 0000 ffffffffffffffff 1c000000
        01000000 2c000000 0100 0000 00000000 0900 0100 8a000000 0e00 0800 0a00000000000000 0000 0000 2c000000
        06000000 24000000 00000000 00000000 00040000 01000000 01000000 7a000000 24000000");
    let (packets, interfaces) = read_all(&bytes).unwrap();
    assert_eq!(interfaces.len(), 2);
    let shown: Vec<_> =
        packets.iter().map(|p| (p.interface, p.timestamp_ns, p.original_octets, &p.bytes[..])).collect();
    assert_eq!(
        shown,
        [(0, Some(1_000_000_000), 9, &b"abc"[..]), (0, None, 6, &b"abcd"[..]), (1, Some(11_000_000_000), 1, &b"z"[..]),]
    );
}

#[test]
fn faults_name_their_block() {
    let fault = |bytes: &[u8]| match read_all(bytes) {
        Err(PcapngError::Format { offset, error, problem }) => (offset, error, problem),
        other => panic!("{other:?}"),
    };
    assert_eq!(fault(&[0xd4; 24]), (0, Error::Unsupported, "not a pcapng file"));
    let mut bytes = sample();
    bytes[8] = 0;
    assert_eq!(fault(&bytes), (0, Error::Malformed, "unknown byte order"));
    let mut bytes = sample();
    bytes[28 + 4] = 0x29;
    assert_eq!(fault(&bytes), (28, Error::Malformed, "block length"));
    bytes[28 + 4..28 + 8].copy_from_slice(&0x7fff_fffcu32.to_le_bytes());
    assert_eq!(fault(&bytes), (28, Error::Unsupported, "block too long"));
    let mut bytes = sample();
    let last = bytes.len() - 4;
    bytes[last] ^= 4;
    assert!(matches!(fault(&bytes), (_, Error::Malformed, "the two lengths of a block differ")));
    let whole = sample();
    assert!(matches!(fault(&whole[..whole.len() - 1]), (_, Error::Truncated, _)));
    let message = read_all(&whole[..30]).unwrap_err().to_string();
    assert_eq!(message, "capture, block at octet 30: truncated: the file ends within a block");
}

#[test]
fn damaged_files_never_panic() {
    let whole = sample();
    for length in 0..whole.len() {
        let _ = read_all(&whole[..length]);
    }
    let mut rng = Rng::new(3);
    for _ in 0..20_000 {
        let mut bytes = whole.clone();
        for _ in 0..=rng.below(3) {
            let at = rng.below(bytes.len() as u32) as usize;
            bytes[at] = rng.next_u32() as u8;
        }
        let _ = read_all(&bytes);
    }
}

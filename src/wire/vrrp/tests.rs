//! Frames of keepalived taken apart and made again, crafted ones, and octets that are nearly advertisements.

use super::*;
use crate::base::Rng;
use crate::wire::{arp, ethernet, hex, ipv4, ipv6};

const SENT: &str = include_str!("../../../tests/golden/vrrp/sent.txt");
const CRAFTED: &str = include_str!("../../../tests/golden/vrrp/crafted.txt");

/// The password `1111` of the recorded cases.
const KEY: Key = *b"1111\0\0\0\0";

fn lines(text: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| line.split(' ').collect())
}

/// An Ethernet frame as a raw socket would give its packet.
fn received(frame: &[u8]) -> Received<'_> {
    let packet = &frame[ethernet::HEADER_OCTETS..];
    match ethernet::Frame::new_checked(frame).unwrap().ether_type() {
        ethernet::TYPE_IPV4 => Received::V4(packet),
        _ => {
            let ip = ipv6::Packet::new_checked(packet).unwrap();
            let payload = &packet[ipv6::HEADER_OCTETS..ip.total_length()];
            Received::V6 { source: ip.source(), destination: ip.destination(), hop_limit: ip.hop_limit(), payload }
        }
    }
}

/// Every frame that keepalived sent is taken, and made again octet for octet. The flow label is the kernel's, not
/// keepalived's, and stays as it is.
#[test]
fn frames_of_keepalived_are_made_again() {
    let mut seen = [0; 4];
    for line in lines(SENT) {
        let [case, _, kind, text] = line[..] else { panic!("{line:?}") };
        let frame = hex(text);
        let ethernet = ethernet::Frame::new_checked(&frame).unwrap();
        match kind {
            "garp-request" => {
                let message = arp::Message::new_checked(ethernet.payload()).unwrap();
                let (address, mac) = message.sender();
                let mut ours = [0; arp::ANNOUNCEMENT_OCTETS];
                arp::emit_announcement(&mut ours, arp::Operation::Request, address, mac);
                assert_eq!(ours.to_vec(), frame, "{case}");
                seen[0] += 1;
                continue;
            }
            "na-unsolicited" => {
                let (_, message) = ethernet.payload().split_at(ipv6::HEADER_OCTETS);
                let mut ours = [0; neighbour::ADVERTISEMENT_OCTETS];
                let address = neighbour::advertised(message).unwrap();
                neighbour::emit_advertisement(&mut ours, address, ethernet.source(), false);
                assert_eq!(ours.to_vec(), frame, "{case}");
                seen[1] += 1;
                continue;
            }
            _ => {}
        }
        let opened = open(received(&frame)).unwrap();
        let family = opened.source.family();
        let message = Message::new_checked(opened.payload, family).unwrap();
        assert!(message.has_valid_checksum(opened.source, opened.destination), "{case}");
        assert_eq!(message.octets(), message.promised_octets(), "{case}");
        let addresses: Vec<Address> = message.addresses().collect();
        let (version, interval) = match message.version() {
            2 => (Version::V2, message.interval_s().into()),
            3 => (Version::V3, message.interval_cs()),
            other => panic!("version {other}"),
        };
        let authentication = match (version, message.authentication_type()) {
            (Version::V3, _) | (_, 0) => Authentication::None,
            (_, 1) => Authentication::Password(message.authentication_data().unwrap()),
            _ => Authentication::Header,
        };
        let key = opened.sequence().map(|sequence| (KEY, sequence));
        assert_eq!(opened.is_authentic(&KEY), kind == "ah", "{case}");
        let identification = match family {
            Family::V4 => ipv4::Packet::new_unchecked(ethernet.payload()).identification(),
            Family::V6 => 0,
        };
        let envelope = Envelope {
            source: opened.source,
            destination: opened.destination,
            hop_limit: opened.hop_limit,
            identification,
            summed_destination: opened.destination,
            authentication: key,
        };
        let advert = Advert {
            version,
            vrid: message.vrid(),
            priority: message.priority(),
            interval,
            authentication,
            addresses: &addresses,
        };
        let mut packet = [0xee; PACKET_OCTETS_MAX];
        let (octets, header) = emit(&mut packet, &envelope, &advert);
        assert_eq!(octets - header - if key.is_some() { 24 } else { 0 }, advert.octets());
        if family == Family::V6 {
            // The flow label.
            packet[1..4].copy_from_slice(&ethernet.payload()[1..4]);
        }
        let mut ours = vec![0; ethernet::HEADER_OCTETS];
        let mac =
            if opened.destination.is_multicast() { multicast_mac(opened.destination) } else { ethernet.destination() };
        ethernet::emit(&mut ours, mac, ethernet.source(), ethernet.ether_type());
        ours.extend(&packet[..octets]);
        assert_eq!(ours, frame, "{case}");
        seen[if kind == "ah" { 3 } else { 2 }] += 1;
    }
    assert!(seen.iter().all(|&count| count >= 8), "all kinds were there: {seen:?}");
}

/// The crafted frames: which of them are whole, of the right type and sum.
#[test]
fn crafted_frames() {
    let mut seen = 0;
    for line in lines(CRAFTED) {
        let [case, vrid, name, _, _, text] = line[..] else { panic!("{line:?}") };
        let frame = hex(text);
        let opened = open(received(&frame)).unwrap();
        let Ok(message) = Message::new_checked(opened.payload, opened.source.family()) else {
            assert_eq!(name, "cut-to-7");
            continue;
        };
        let is_whole = message.octets() == message.promised_octets();
        let is_cut = ["cut-to-8", "count-too-big", "trailing-bytes", "no-auth-field"].contains(&name)
            || (case == "conformance_v2" && name == "version-wrong");
        assert_eq!(is_whole, !is_cut, "{case} {name}");
        if is_whole {
            let is_summed = !["bad-checksum", "no-pseudo-header"].contains(&name);
            assert_eq!(message.has_valid_checksum(opened.source, opened.destination), is_summed, "{case} {name}");
        }
        assert_eq!(message.vrid().to_string(), vrid);
        seen += 1;
    }
    assert_eq!(seen, 46);
}

#[test]
fn rfc_3768_5_3_8_the_sum_covers_the_authentication_data() {
    let frame = lines(SENT).find(|line| line[0] == "v2_pass").map(|line| hex(line[3])).unwrap();
    let opened = open(received(&frame)).unwrap();
    let mut payload = opened.payload.to_vec();
    let sum = |payload: &[u8]| {
        Message::new_checked(payload, Family::V4).unwrap().has_valid_checksum(opened.source, opened.destination)
    };
    assert!(sum(&payload));
    *payload.last_mut().unwrap() ^= 1;
    assert!(!sum(&payload));
}

#[test]
fn rfc_9568_5_2_8_the_sum_covers_the_addresses_of_the_packet() {
    for case in ["v3_ipv4", "v3_ipv6"] {
        let line = lines(SENT).find(|line| line[0] == case && line[2] == "vrrp3").unwrap();
        let frame = hex(line[3]);
        let opened = open(received(&frame)).unwrap();
        let message = Message::new_checked(opened.payload, opened.source.family()).unwrap();
        assert!(message.has_valid_checksum(opened.source, opened.destination));
        let other = Address(opened.source.0 ^ 4);
        assert!(!message.has_valid_checksum(other, opened.destination), "{case}");
        assert!(!message.has_valid_checksum(opened.source, other), "{case}");
    }
}

/// Any octet of the packet that is changed on the way spoils the value, but for those that may change.
#[test]
fn rfc_2402_the_value_covers_the_packet() {
    let frame = lines(SENT).find(|line| line[2] == "ah").map(|line| hex(line[3])).unwrap();
    let packet = &frame[ethernet::HEADER_OCTETS..];
    assert!(!open(Received::V4(packet)).unwrap().is_authentic(b"1112\0\0\0\0"));
    for at in 0..packet.len() {
        let mut changed = packet.to_vec();
        changed[at] ^= 0x01;
        let is_free = [1, 7, 10, 11].contains(&at);
        let is_authentic = open(Received::V4(&changed)).is_ok_and(|opened| opened.is_authentic(&KEY));
        assert_eq!(is_authentic, is_free && open(Received::V4(&changed)).is_ok(), "octet {at}");
    }
}

#[test]
fn lists_that_are_too_long_are_cut() {
    let addresses = vec![Address::v4(1); 300];
    let advert = Advert {
        version: Version::V2,
        vrid: 1,
        priority: 100,
        interval: 1,
        authentication: Authentication::None,
        addresses: &addresses,
    };
    let mut buffer = [0; PACKET_OCTETS_MAX];
    advert.emit(&mut buffer, Address::v4(1), GROUP_V4);
    let message = Message::new_checked(&buffer[..advert.octets()], Family::V4).unwrap();
    assert_eq!((message.count(), message.octets()), (255, message.promised_octets()));
}

#[test]
fn addresses_of_virtual_routers_and_groups() {
    assert_eq!(virtual_mac(Family::V4, 51).to_string(), "00:00:5e:00:01:33");
    assert_eq!(virtual_mac(Family::V6, 51).to_string(), "00:00:5e:00:02:33");
    assert_eq!(multicast_mac(group(Family::V4)).to_string(), "01:00:5e:00:00:12");
    assert_eq!(multicast_mac(group(Family::V6)).to_string(), "33:33:00:00:00:12");
}

/// Every door and what is behind it.
#[test]
fn arbitrary_octets_never_panic() {
    let mut rng = Rng::new(112);
    let mut passed = [0; 4];
    let (source, destination) = (Address::v6(1), GROUP_V6);
    let good: Vec<Vec<u8>> = lines(SENT).filter(|line| line[2] != "na-unsolicited").map(|line| hex(line[3])).collect();
    for round in 0..60_000 {
        let mut bytes: Vec<u8> = if round % 2 == 0 {
            (0..rng.below(90)).map(|_| rng.next_u32() as u8).collect()
        } else {
            good[rng.below(good.len() as u32) as usize][ethernet::HEADER_OCTETS..].to_vec()
        };
        for _ in 0..rng.below(4) {
            let length = bytes.len() as u32;
            if length > 0 {
                bytes[rng.below(length) as usize] = rng.next_u32() as u8;
                bytes.truncate((length - rng.below(2) * rng.below(length)) as usize);
            }
        }
        if let Ok(message) = arp::Message::new_checked(&bytes) {
            passed[3] += 1;
            let _ = (message.operation(), message.is_announcement());
        }
        let _ = neighbour::advertised(&bytes);
        for received in [Received::V4(&bytes), Received::V6 { source, destination, hop_limit: 1, payload: &bytes }] {
            let Ok(opened) = open(received) else { continue };
            passed[0] += 1;
            passed[1] += usize::from(opened.sequence().is_some());
            assert!(opened.sequence().is_some() || !opened.is_authentic(&KEY));
            let _ = opened.is_authentic(&KEY);
            let Ok(message) = Message::new_checked(opened.payload, opened.source.family()) else { continue };
            passed[2] += 1;
            assert!(message.addresses().count() <= usize::from(message.count()));
            let _ = (message.version(), message.message_type(), message.vrid(), message.priority());
            let _ = (message.authentication_type(), message.interval_s(), message.interval_cs());
            let _ = (message.authentication_data(), message.has_valid_checksum(opened.source, opened.destination));
        }
    }
    assert!(passed.iter().all(|&count| count > 100), "the doors let some through: {passed:?}");
}

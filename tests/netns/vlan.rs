//! Tagged frames through the real XDP program and AF_XDP.

use etherparse::PacketBuilder;

use crate::lab::{Lab, Shape, wait_for};

/// A UDP frame of the client to a virtual address, with these tags.
fn tagged(tags: &[(u16, u16)], port: u16) -> String {
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 1, 0xfd], [2, 0, 0, 0, 1, 0xfe]);
    let builder = builder.ipv4([10, 1, 0, 2], [10, 9, 0, 2], 64).udp(port, 53);
    let mut frame = Vec::new();
    builder.write(&mut frame, b"ask").expect("a frame");
    let tags: Vec<u8> =
        tags.iter().flat_map(|(protocol, control)| [*protocol, *control]).flat_map(u16::to_be_bytes).collect();
    frame.splice(12..12, tags);
    frame.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// What comes with tags to a director of one arm leaves with them, for services; and what is no service's is the host's.
#[test]
fn tags_stay_on_what_leaves_by_the_same_interface() {
    let Some(lab) = Lab::build(Shape::OneArm, &["tshark", "ethtool"]) else { return };
    let _director = lab.director(&[]);
    lab.adm_all(&["-A -u 10.9.0.2:53 -s rr", "-a -u 10.9.0.2:53 -r 10.2.0.1:53 -g"]);
    // Where tags go beside the frame, as in the memory of a socket buffer, XDP does not see them.
    lab.check("switch", &["ethtool", "-K", "director", "txvlan", "off", "tx-vlan-stag-hw-insert", "off"]);
    // The neighbour is asked for by what comes first.
    lab.check("director", &["ping", "-c", "1", "-W", "5", "10.2.0.1"]);

    let words = [
        "tshark",
        "-l",
        "-i",
        "eth0",
        "-f",
        "vlan",
        "-T",
        "fields",
        "-e",
        "ieee8021ad.id",
        "-e",
        "vlan.id",
        "-e",
        "udp.srcport",
    ];
    let mut tshark = lab.start("rs1", &words, "tshark.log");
    tshark.wait_until_log_has("Capturing");
    let send = "import socket, sys\n\
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\n\
        wire.bind(('servers', 0))\n\
        [wire.send(bytes.fromhex(frame)) for frame in sys.argv[1:]]\n";
    let (one, two, other) = (tagged(&[(0x8100, 0x6007)], 4001), tagged(&[(0x88a8, 9), (0x8100, 8)], 4002), "ffff");
    wait_for("the tagged packets at the server", || {
        lab.check(
            "router",
            &["/usr/bin/python3", "-c", send, &one, &two, &format!("{}{other}", tagged(&[(0x8100, 5)], 4003))],
        );
        let log = tshark.log();
        ["\t7\t4001", "9\t8\t4002", "\t5\t4003"].iter().all(|line| log.contains(line)).then_some(())
    });
    let status = String::from_utf8(lab.lvx("status").stdout).expect("text");
    assert!(!status.contains("malformed"), "{status}");
}

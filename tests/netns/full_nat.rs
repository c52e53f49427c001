//! Full NAT with real servers that neither have the director as their gateway nor know their clients.

use std::fs;

use crate::lab::{Lab, Shape, wait_for};
use crate::traffic::{Load, bracketed, curl, download, servers_in_turn, short_load, tally, upload};

const SERVICES: [(&str, &str); 2] = [("10.9.0.1", "10.2.0."), ("fd00:9::1", "fd00:2::")];

/// Real servers that send nothing to the director unless it is addressed to it: their way to the clients leads past it.
fn turn_servers_away(lab: &Lab) {
    for number in 1..=3 {
        let node = format!("rs{number}");
        lab.check(&node, &["ip", "route", "replace", "default", "via", "10.2.0.253"]);
        lab.check(&node, &["ip", "-6", "route", "replace", "default", "via", "fd00:2::253"]);
    }
    for address in ["10.2.0.200/16", "10.2.0.201/16", "fd00:2::200/64"] {
        lab.check("director", &["ip", "address", "add", address, "dev", "eth1"]);
    }
    lab.check(
        "director",
        &["sh", "-c", "sleep 0.1; until ip -6 address show dev eth1 | grep -q fd00:2::200; do sleep 0.1; done"],
    );
}

#[test]
fn servers_with_another_gateway_answer_through_the_director() {
    let Some(lab) = Lab::build(Shape::TwoArms, &[]) else { return };
    turn_servers_away(&lab);
    let _director = lab.director(&["--local-address", "10.2.0.200,fd00:2::200"]);
    assert!(lab.lvx("local-address add 10.2.0.201").status.success());
    for (service, network) in SERVICES {
        let service = bracketed(service);
        lab.adm(&format!("-A -t {service}:80 -s rr"));
        for number in 1..=3 {
            lab.adm(&format!("-a -t {service}:80 -r {}:80 --fullnat", bracketed(&format!("{network}{number}"))));
        }
    }
    for (service, network) in SERVICES {
        assert_eq!(tally(&servers_in_turn(&lab, service, 6)).into_values().collect::<Vec<_>>(), [2, 2, 2], "{service}");
        let seen = curl(&lab, service, "/client").expect("an answer");
        assert!(seen.starts_with(&format!("{network}20")), "{service}: the server sees {seen}");
        download(&lab, service);
        upload(&lab, service);
        short_load(&lab, service, 500).expect_clean();
    }
    let listing = lab.adm("-Ln");
    assert_eq!(listing.lines().filter(|line| line.contains(" FullNAT ")).count(), 6, "{listing}");
    assert!(!lab.adm("-Lnc").contains("10.2.0.200"), "aliases are not listed");
    let saved = lab.adm("-Sn");
    assert_eq!(saved.matches(" -m -w 1 --fullnat").count(), 6, "{saved}");
    lab.adm("-C");
    lab.restore(&saved);
    assert_eq!(lab.adm("-Sn"), saved);

    // A pool that is being drained serves those that it has.
    let load = Load::start_long(&lab, "10.9.0.1", 20);
    assert!(lab.lvx("local-address delete 10.2.0.200 10.2.0.201").status.success());
    let listed = String::from_utf8(lab.lvx("local-address list").stdout).expect("text");
    assert_eq!(listed, "10.2.0.200 draining\n10.2.0.201 draining\nfd00:2::200\n");
    assert!(curl(&lab, "10.9.0.1", "/").is_err(), "no address for another");
    load.end().expect_clean();
}

/// nginx reads the header that names the client, and says who it is.
#[test]
fn servers_learn_of_clients_by_the_proxy_protocol() {
    let Some(lab) = Lab::build(Shape::TwoArms, &[]) else { return };
    turn_servers_away(&lab);
    let dir = lab.dir().join("proxy");
    fs::create_dir(&dir).expect("a directory");
    let configuration = dir.join("nginx.conf");
    let dir_text = dir.display();
    let text = format!(
        "user root;\ndaemon off;\nworker_processes 1;\npid {dir_text}/pid;\nerror_log stderr;\nevents {{ worker_connections 1024; }}\n\
         http {{ access_log off;\n client_max_body_size 1g;\n client_body_temp_path {dir_text}/body;\n\
         proxy_temp_path {dir_text}/p; fastcgi_temp_path {dir_text}/f; uwsgi_temp_path {dir_text}/u; scgi_temp_path {dir_text}/s;\n\
         server {{ listen 8090 proxy_protocol; listen [::]:8090 ipv6only=on proxy_protocol; root {};\n\
         location = /client {{ default_type text/plain; return 200 \"$proxy_protocol_addr\\n\"; }} }} }}\n",
        lab.dir().join("www").display()
    );
    fs::write(&configuration, text).expect("a file");
    let words = ["nginx", "-p", dir.to_str().expect("a path"), "-c", configuration.to_str().expect("a path")];
    let _server = lab.start("rs1", &words, "nginx-proxy.log");
    wait_for("nginx", || lab.run("rs1", &["sh", "-c", "ss -ltn | grep -q :8090"]).status.success().then_some(()));

    let _director = lab.director(&["--local-address", "10.2.0.200,fd00:2::200"]);
    for (service, network) in SERVICES {
        let (service, server) = (bracketed(service), bracketed(&format!("{network}1")));
        lab.adm(&format!("-A -t {service}:80 -s rr"));
        lab.adm(&format!("-a -t {service}:80 -r {server}:8090 --fullnat --client-address proxy"));
    }
    for (service, client) in [("10.9.0.1", "10.1.0.2"), ("fd00:9::1", "fd00:1::2")] {
        assert_eq!(curl(&lab, service, "/client"), Ok(client.to_owned()));
        download(&lab, service);
    }
}

/// The option that names the client is in the segments that a real server receives, and nothing is lost by it.
#[test]
fn servers_are_told_of_clients_by_an_option() {
    let Some(lab) = Lab::build(Shape::TwoArms, &["tshark"]) else { return };
    turn_servers_away(&lab);
    let _director = lab.director(&["--local-address", "10.2.0.200,fd00:2::200"]);
    for (service, network) in SERVICES {
        let (service, server) = (bracketed(service), bracketed(&format!("{network}1")));
        lab.adm(&format!("-A -t {service}:80 -s rr"));
        lab.adm(&format!("-a -t {service}:80 -r {server}:80 --fullnat --client-address toa"));
    }
    let capture = lab.dir().join("toa.pcap");
    let capture = capture.to_str().expect("a path");
    let words = ["tshark", "-q", "-i", "eth0", "-w", capture, "-f", "tcp dst port 80"];
    let mut tshark = lab.start("rs1", &words, "tshark.log");
    tshark.wait_until_log_has("Capturing");
    for (service, _) in SERVICES {
        short_load(&lab, service, 20).expect_clean();
    }
    let words = ["tshark", "-r", capture, "-T", "fields", "-e", "tcp.flags.syn", "-e", "tcp.options"];
    let named = |options: &str, option: &str, address: &str| {
        options.lines().filter(|line| line.contains(option) && line.contains(address)).count()
    };
    // Twice twenty, the handshakes' last segments and the requests; the capture is written in its own time.
    let options = wait_for("the options in the capture", || {
        let options = String::from_utf8_lossy(&lab.run("rs1", &words).stdout).into_owned();
        let v4 = named(&options, "fe08", "0a010002");
        let v6 = named(&options, "fe14", "fd000001000000000000000000000002");
        (v4 >= 40 && v6 >= 40).then_some(options)
    });
    assert!(tshark.stop().success());
    assert!(options.lines().filter(|line| line.starts_with('1')).all(|line| !line.contains("fe08")), "not in a SYN");
    for (service, _) in SERVICES {
        upload(&lab, service);
    }
}

//! Real servers on the director itself, and virtual addresses that are on none of its interfaces.

use crate::lab::{Background, Lab, Shape, wait_for};
use crate::traffic::{bracketed, curl, servers_in_turn, tally};

/// A web server of the director itself, on every address, which says `director`.
fn own_server(lab: &Lab) -> Background {
    let program = "import http.server, socket\n\
        class Handler(http.server.BaseHTTPRequestHandler):\n\
        \x20   protocol_version = 'HTTP/1.1'\n\
        \x20   def do_GET(self):\n\
        \x20       self.send_response(200)\n\
        \x20       self.send_header('Content-Length', '9')\n\
        \x20       self.end_headers()\n\
        \x20       self.wfile.write(b'director\\n')\n\
        class Server(http.server.ThreadingHTTPServer):\n\
        \x20   address_family = socket.AF_INET6\n\
        Server(('::', 80), Handler).serve_forever()\n";
    let server = lab.start("director", &["/usr/bin/python3", "-c", program], "own.log");
    wait_for("the director's own server", || {
        lab.run("director", &["curl", "-sf", "-m", "5", "http://127.0.0.1/"]).status.success().then_some(())
    });
    server
}

/// The director as one of its own real servers, or as the last that is left, as `sorry_server 127.0.0.1` has it.
#[test]
fn the_director_itself_is_a_real_server() {
    let Some(lab) = Lab::build(Shape::TwoArms, &[]) else { return };
    let _own = own_server(&lab);
    let _director = lab.director(&[]);
    for (service, own, other, method) in [
        ("10.9.0.1", "10.2.0.254", "10.2.0.1", "-m"),
        ("10.9.0.2", "10.2.0.254", "10.2.0.1", "-g"),
        ("[fd00:9::1]", "[fd00:2::254]", "[fd00:2::1]", "-m"),
        ("[fd00:9::2]", "[fd00:2::254]", "[fd00:2::1]", "-g"),
    ] {
        lab.adm_all(&[
            &format!("-A -t {service}:80 -s rr"),
            &format!("-a -t {service}:80 -r {own}:80 {method}"),
            &format!("-a -t {service}:80 -r {other}:80 {method}"),
        ]);
        let names = servers_in_turn(&lab, service.trim_matches(['[', ']']), 6);
        assert_eq!(tally(&names).into_iter().collect::<Vec<_>>(), [("director", 3), ("rs1", 3)], "{service} {method}");
        lab.adm(&format!("-d -t {service}:80 -r {other}:80"));
        assert_eq!(curl(&lab, service.trim_matches(['[', ']']), "/"), Ok("director".into()), "{service} {method}");
    }
    lab.adm_all(&["-A -t 10.9.0.4:80 -s rr", "-a -t 10.9.0.4:80 -r 127.0.0.1:80 -g"]);
    assert_eq!(curl(&lab, "10.9.0.4", "/"), Ok("director".into()), "sorry server");
}

/// A whole range is the director's by a local route, no address of it on any interface; and a range that is only routed
/// there is balanced by a mark.
#[test]
fn virtual_addresses_need_not_be_on_an_interface() {
    let Some(lab) = Lab::build(Shape::TwoArms, &[]) else { return };
    let _director = lab.director(&[]);
    lab.check("director", &["ip", "route", "add", "local", "10.9.8.0/24", "dev", "lo"]);
    lab.check("director", &["ip", "-6", "route", "add", "local", "fd00:9::8:0/112", "dev", "lo"]);
    for (service, network) in [("10.9.8.77", "10.2.0."), ("fd00:9::8:77", "fd00:2::")] {
        lab.adm(&format!("-A -t {}:80 -s rr", bracketed(service)));
        for number in 1..=3 {
            let server = bracketed(&format!("{network}{number}"));
            lab.adm(&format!("-a -t {}:80 -r {server}:80 -m", bracketed(service)));
        }
        assert_eq!(tally(&servers_in_turn(&lab, service, 6)).len(), 3, "{service}");
    }
    let rules = lab.dir().join("marks");
    let text = "*mangle\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -d 10.9.64.0/18 -p tcp -j MARK --set-mark 7\nCOMMIT\n";
    std::fs::write(&rules, text).expect("a file");
    assert!(lab.lvx(&format!("mark load {}", rules.display())).status.success());
    lab.adm_all(&["-A -f 7 -s rr", "-a -f 7 -r 10.2.0.1:0 -m", "-a -f 7 -r 10.2.0.2:0 -m"]);
    for address in ["10.9.64.1", "10.9.77.3", "10.9.127.254"] {
        assert_eq!(tally(&servers_in_turn(&lab, address, 4)).len(), 2, "{address}");
    }
}

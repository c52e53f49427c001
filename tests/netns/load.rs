//! Many connections: weights, counts and more than one queue.

use std::collections::BTreeMap;

use crate::lab::{Lab, Shape, wait_for};
use crate::traffic::{Load, download, short_load, upload};

const SHORT_CONNECTIONS: usize = 2000;
const LONG_CONNECTIONS: usize = 600;

/// Weighted round robin serves 3:1 to the connection, however many clients ask at once.
#[test]
fn short_connections_follow_the_weights() {
    let Some(lab) = Lab::build(Shape::TwoArms, &[]) else { return };
    let _director = lab.director(&[]);
    weighted_service(&lab, "10.9.0.1:80", "10.2.0.1:80", "10.2.0.2:80");
    weighted_service(&lab, "[fd00:9::1]:80", "[fd00:2::1]:80", "[fd00:2::2]:80");
    for address in ["10.9.0.1", "fd00:9::1"] {
        let outcome = short_load(&lab, address, SHORT_CONNECTIONS);
        outcome.expect_clean();
        assert_eq!(outcome.by_server, three_to_one(SHORT_CONNECTIONS), "{address}");
    }
    // Counters are published every two seconds.
    let connections = || {
        let statistics = lab.adm("-Ln --stats --exact -t 10.9.0.1:80");
        let service = statistics.lines().find(|line| line.starts_with("TCP"))?;
        service.split_whitespace().nth(2)?.parse::<usize>().ok()
    };
    let counted = wait_for("the counters", || connections().filter(|count| *count > 0));
    assert_eq!(counted, SHORT_CONNECTIONS);
}

/// The same with a worker for each of two queues, which share the scheduler.
#[test]
fn two_workers_on_two_queues_serve_as_one() {
    let Some(lab) = Lab::build(Shape::TwoQueues, &["ethtool"]) else { return };
    let _director = lab.director(&["--workers", "2"]);
    weighted_service(&lab, "10.9.0.1:80", "10.2.0.1:80", "10.2.0.2:80");
    let outcome = short_load(&lab, "10.9.0.1", SHORT_CONNECTIONS);
    outcome.expect_clean();
    assert_eq!(outcome.by_server, three_to_one(SHORT_CONNECTIONS));
    download(&lab, "10.9.0.1");
    upload(&lab, "10.9.0.1");

    let statistics = lab.check("director", &["ethtool", "-S", "eth0"]);
    for queue in 0..2 {
        let name = format!("rx_queue_{queue}_xdp_packets:");
        let line = statistics.lines().find_map(|line| line.trim().strip_prefix(&name)).expect("a counter of the queue");
        assert_ne!(line.trim(), "0", "queue {queue} had no packet:\n{statistics}");
    }
}

/// Long connections stay with their servers, and each is counted and listed.
#[test]
fn long_connections_are_counted_and_stay() {
    let Some(lab) = Lab::build(Shape::TwoArms, &[]) else { return };
    let _director = lab.director(&[]);
    lab.adm_all(&[
        "-A -t 10.9.0.1:80 -s lc",
        "-a -t 10.9.0.1:80 -r 10.2.0.1:80 -m",
        "-a -t 10.9.0.1:80 -r 10.2.0.2:80 -m",
        "-a -t 10.9.0.1:80 -r 10.2.0.3:80 -m",
    ]);
    let load = Load::start_long(&lab, "10.9.0.1", LONG_CONNECTIONS);
    for number in 1..=3 {
        let server = format!("10.2.0.{number}:80");
        let [_, active, inactive] = lab.server_numbers("10.9.0.1:80", &server).expect("the server's line");
        assert_eq!(active as usize, LONG_CONNECTIONS / 3, "{server}: least connection shares evenly");
        assert_eq!(inactive, 0, "{server}");
    }
    let listing = lab.adm("-Lnc");
    let established = listing.lines().filter(|line| line.starts_with("TCP") && line.contains(" ESTABLISHED "));
    assert_eq!(established.count(), LONG_CONNECTIONS, "rows of -Lnc");
    load.end().expect_clean();
    wait_for("active connections to go", || {
        (1..=3)
            .all(|number| {
                lab.server_numbers("10.9.0.1:80", &format!("10.2.0.{number}:80"))
                    .is_some_and(|[_, active, _]| active == 0)
            })
            .then_some(())
    });
}

/// Least connection sees the connections that are open, weighted or not.
#[test]
fn weighted_least_connection_fills_by_weight() {
    let Some(lab) = Lab::build(Shape::TwoArms, &[]) else { return };
    let _director = lab.director(&[]);
    lab.adm_all(&[
        "-A -t 10.9.0.2:80 -s wlc",
        "-a -t 10.9.0.2:80 -r 10.2.0.1:80 -g -w 3",
        "-a -t 10.9.0.2:80 -r 10.2.0.2:80 -g -w 1",
    ]);
    let load = Load::start_long(&lab, "10.9.0.2", 200);
    let [_, first, _] = lab.server_numbers("10.9.0.2:80", "10.2.0.1:80").expect("the server's line");
    let [_, second, _] = lab.server_numbers("10.9.0.2:80", "10.2.0.2:80").expect("the server's line");
    assert_eq!(first + second, 200);
    // Connections still in the handshake weigh less than active ones, which shifts a few.
    assert!((140..=160).contains(&first), "{first} of 200 at weight 3 of 4");
    load.end().expect_clean();
}

fn weighted_service(lab: &Lab, service: &str, heavy: &str, light: &str) {
    lab.adm_all(&[
        &format!("-A -t {service} -s wrr"),
        &format!("-a -t {service} -r {heavy} -m -w 3"),
        &format!("-a -t {service} -r {light} -m -w 1"),
    ]);
}

fn three_to_one(count: usize) -> BTreeMap<String, usize> {
    BTreeMap::from([("rs1".into(), count / 4 * 3), ("rs2".into(), count / 4)])
}

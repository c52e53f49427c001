//! Changes of the configuration while clients are busy.

use std::fs;

use crate::lab::{Lab, Shape, wait_for};
use crate::traffic::{Load, curl, servers_in_turn, short_load, tally};

const SERVICE: &str = "10.9.0.1:80";
/// Requests at once of the load that runs during changes.
const CONCURRENCY: usize = 8;

fn three_servers(lab: &Lab) {
    lab.adm_all(&[
        "-A -t 10.9.0.1:80 -s wrr",
        "-a -t 10.9.0.1:80 -r 10.2.0.1:80 -m -w 1",
        "-a -t 10.9.0.1:80 -r 10.2.0.2:80 -m -w 1",
        "-a -t 10.9.0.1:80 -r 10.2.0.3:80 -m -w 1",
    ]);
}

fn busy_clients(lab: &Lab) -> Load {
    Load::start(lab, &format!("short 10.9.0.1 80 --concurrency {CONCURRENCY} --pause 0.01"))
}

/// Weight 0 keeps what is connected and takes nothing new; then the server can go. No request fails.
#[test]
fn draining_and_removing_a_server_loses_nothing() {
    let Some(lab) = Lab::build(Shape::TwoArms, &[]) else { return };
    let _director = lab.director(&[]);
    three_servers(&lab);
    let busy = busy_clients(&lab);
    let open = Load::start_long(&lab, "10.9.0.1", 30);

    lab.adm("-e -t 10.9.0.1:80 -r 10.2.0.1:80 -m -w 0");
    let after = short_load(&lab, "10.9.0.1", 300);
    after.expect_clean();
    assert!(!after.by_server.contains_key("rs1"), "{after:?}: a quiesced server got a new connection");
    let [weight, active, _] = lab.server_numbers(SERVICE, "10.2.0.1:80").expect("the server's line");
    assert_eq!(weight, 0);
    assert!(active > 0, "the open connections were not kept");
    let outcome = open.end();
    outcome.expect_clean();
    assert!(outcome.by_server.contains_key("rs1"), "{outcome:?}: the test had no connection to the quiesced server");

    wait_for("the quiesced server to be idle", || {
        lab.server_numbers(SERVICE, "10.2.0.1:80").filter(|&[_, active, _]| active == 0)
    });
    lab.adm("-d -t 10.9.0.1:80 -r 10.2.0.1:80");
    short_load(&lab, "10.9.0.1", 300).expect_clean();
    busy.end().expect_clean();
}

/// Taking a server out at once costs at most the requests that it was just serving.
#[test]
fn removing_a_busy_server_costs_only_its_own_requests() {
    let Some(lab) = Lab::build(Shape::TwoArms, &[]) else { return };
    let _director = lab.director(&[]);
    three_servers(&lab);
    let busy = busy_clients(&lab);
    short_load(&lab, "10.9.0.1", 300).expect_clean();
    lab.adm("-d -t 10.9.0.1:80 -r 10.2.0.2:80");
    let after = short_load(&lab, "10.9.0.1", 300);
    after.expect_clean();
    assert!(!after.by_server.contains_key("rs2"), "{after:?}: a removed server got a new connection");
    let outcome = busy.end();
    assert!(outcome.ok > 0 && outcome.failed <= CONCURRENCY, "{outcome:?}");
}

/// A server that comes in gets its share at once.
#[test]
fn a_server_added_under_load_is_used() {
    let Some(lab) = Lab::build(Shape::TwoArms, &[]) else { return };
    let _director = lab.director(&[]);
    lab.adm_all(&["-A -t 10.9.0.1:80 -s rr", "-a -t 10.9.0.1:80 -r 10.2.0.1:80 -m"]);
    let busy = busy_clients(&lab);
    short_load(&lab, "10.9.0.1", 100).expect_clean();
    lab.adm("-a -t 10.9.0.1:80 -r 10.2.0.2:80 -m");
    let after = short_load(&lab, "10.9.0.1", 300);
    after.expect_clean();
    assert!(after.by_server.contains_key("rs2"), "{after:?}");
    busy.end().expect_clean();
}

/// `-C` takes everything away: the kernel refuses the client. `-S` and `-R` bring it back.
#[test]
fn clear_and_restore() {
    let Some(lab) = Lab::build(Shape::TwoArms, &[]) else { return };
    let _director = lab.director(&[]);
    three_servers(&lab);
    assert_eq!(tally(&servers_in_turn(&lab, "10.9.0.1", 3)).len(), 3);
    let (rules, listing) = (lab.adm("-S -n"), lab.adm("-Ln -t 10.9.0.1:80"));

    lab.adm("-C");
    assert!(!lab.adm("-Ln").contains("10.9.0.1"), "a service is still listed");
    assert_eq!(curl(&lab, "10.9.0.1", "/"), Err(7), "curl's status for a refused connection");

    lab.restore(&rules);
    assert_eq!(lab.adm("-S -n"), rules);
    let first_lines = |text: &str| text.lines().take(3).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(first_lines(&lab.adm("-Ln -t 10.9.0.1:80"))[..2], first_lines(&listing)[..2]);
    assert_eq!(tally(&servers_in_turn(&lab, "10.9.0.1", 3)).len(), 3);
}

/// The rules that `-S` printed bring a new director into the same state.
#[test]
fn rules_survive_a_restart() {
    let Some(lab) = Lab::build(Shape::TwoArms, &[]) else { return };
    let director = lab.director(&[]);
    three_servers(&lab);
    let rules = lab.adm("-S -n");
    let path = lab.dir().join("rules");
    fs::write(&path, &rules).expect("rules");
    assert!(director.stop().success(), "lvxd ends cleanly");
    assert_eq!(curl(&lab, "10.9.0.1", "/"), Err(7), "without a director the kernel refuses");

    let _director = lab.director(&["--rules", path.to_str().expect("a plain path")]);
    assert_eq!(lab.adm("-S -n"), rules);
    assert_eq!(tally(&servers_in_turn(&lab, "10.9.0.1", 3)).len(), 3);
}

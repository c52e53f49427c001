//! The language, from files to what instances have.

use super::*;
use crate::config::Verdict;

/// Addresses of the first instance of a file whose `virtual_ipaddress` has these lines.
fn addresses(before: &str, lines: &str) -> Vec<String> {
    let reading = read_text(&instance(before, lines));
    let first = reading.configuration.vrrp.instances.first().expect("an instance");
    first.addresses.iter().map(|it| it.address.to_string()).collect()
}

fn instance(before: &str, lines: &str) -> String {
    format!(
        "{before}\nvrrp_instance V {{\n interface eth0\n virtual_router_id 5\n virtual_ipaddress {{\n{lines}\n}}\n}}\n"
    )
}

#[test]
fn definitions_are_replaced() {
    assert_eq!(addresses("$A=1", "10.0.${A}.7"), ["10.0.1.7"]);
    assert_eq!(addresses("$A=1\n$A=2", "10.0.0.$A"), ["10.0.0.2"]);
    assert_eq!(addresses("$A=\\\n10.0.0.7\\\n 10.0.0.8", "$A"), ["10.0.0.7", "10.0.0.8"]);
    assert_eq!(addresses("$A=10.0.0.7 \\\n10.0.0.8\\\n\n", "$A"), ["10.0.0.7", "10.0.0.8"]);
    assert_eq!(addresses("$B=10.0.0\n$A= \\\n ${B}.1 \\\n ${B}.2", "$A"), ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(addresses("$A=5 # five", "10.0.0.$A"), ["10.0.0.5"]);
    assert_eq!(addresses("", "10.0.0.${_RANDOM 3 3}"), ["10.0.0.3"]);
    assert_eq!(addresses("@vm $A=1\n@^vm $A=2", "10.0.0.$A"), ["10.0.0.1"]);
}

#[test]
fn sequences_repeat() {
    assert_eq!(addresses("$N=3", "~SEQ(A,1,${N}) 10.0.0.${A}").len(), 3);
    assert_eq!(addresses("", "~SEQ(A,1,2) ~LST(B,3,4) 10.0.${A}.$B"), ["10.0.1.3", "10.0.1.4", "10.0.2.3", "10.0.2.4"]);
}

#[test]
fn files_include_files() {
    let table = Table::new()
        .with("/etc/k/main", &instance("", "include sub/*.inc\ninclude sub/{x,y}"))
        .with("/etc/k/sub/a.inc", "10.0.0.1\ninclude deep")
        .with("/etc/k/sub/deep", "10.0.0.2")
        .with("/etc/k/sub/x", "10.0.0.3");
    let reading = read(&table, &invocation("/etc/k/main", None));
    let addresses = &reading.configuration.vrrp.instances[0].addresses;
    let last: Vec<String> = addresses.iter().map(|it| it.address.to_string()).collect();
    assert_eq!(last, ["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    assert_eq!(reading.verdict, Verdict::Clean);
    assert_eq!(texts(&reading), ["Some config files missing: \"sub/{x,y}\"."]);
    assert_eq!(reading.files.len(), 4);
}

/// **Deviation**: keepalived does not come to an end.
#[test]
fn deviation_definitions_of_themselves_are_refused() {
    for text in ["$A=$A\nx $A", "$A=$B\n$B=$A\nx $A", "$A=${A}${A}\nx $A", "$A= \\\n $A \\\n $A\n$A"] {
        assert_eq!(read_text(text).verdict, Verdict::Unusable, "{text}");
    }
}

#[test]
fn nothing_grows_without_end() {
    let doubling = "$A0=xxxxxxxxxxxxxxxx\n".to_owned()
        + &(1..60).map(|n| format!("$A{n}=${{A{0}}}${{A{0}}}\n", n - 1)).collect::<String>()
        + "y ${A59}\n";
    assert_eq!(read_text(&doubling).verdict, Verdict::Unusable);
    let lines = "$A= \\\n a \\\n b\n".to_owned()
        + &(0..40).map(|n| format!("$B{n}= \\\n ${} \\\n ${}\n", b(n), b(n))).collect::<String>()
        + "$B39\n";
    assert_eq!(read_text(&lines).verdict, Verdict::Unusable);
    assert_eq!(read_text("~SEQ(A,1,4000000000) x $A").verdict, Verdict::Unusable);
    let table = Table::new().with("/f", "include f\ninclude f");
    assert_eq!(read(&table, &invocation("/f", None)).verdict, Verdict::Unusable);
}

/// The definition before the n-th.
fn b(n: usize) -> String {
    if n == 0 { "A".to_owned() } else { format!("B{}", n - 1) }
}

/// **Deviation**: keepalived runs with an empty configuration.
#[test]
fn deviation_without_its_file_a_configuration_is_unusable() {
    let reading = read(&Table::new(), &invocation("/nowhere", None));
    assert_eq!(reading.verdict, Verdict::Unusable);
    assert_eq!(texts(&reading), ["Config files missing '/nowhere'."]);
}

#[test]
fn messages_know_their_place_and_help() {
    let reading = read_text("vrrp_instance V {\n  interface eth0\n  virtualRouterID 5\n  priority x\n}\n");
    let of = |text: &str| reading.messages.iter().find(|message| message.text.contains(text)).expect("the message");
    let unknown = of("Unknown keyword 'virtualRouterID'");
    assert_eq!(unknown.help.as_deref(), Some("did you mean virtual_router_id?"));
    assert_eq!(unknown.excerpt.as_deref(), Some("  virtualRouterID 5"));
    let place = unknown.place.as_ref().expect("a place");
    assert_eq!((place.line, place.column), (3, 3));
    let number = of("invalid number 'x'");
    assert_eq!(number.place.as_ref().map(|place| (place.line, place.column)), Some((4, 12)));
    assert_eq!(number.to_string(), "(/bench/test.conf: Line 4) invalid number 'x'");
}

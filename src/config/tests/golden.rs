//! What keepalived 2.2.7 said of small files of our own, and what it understood.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Case {
    files: BTreeMap<String, String>,
    runs: Vec<Run>,
}

#[derive(Deserialize)]
struct Run {
    identity: String,
    status: u8,
    messages: BTreeSet<String>,
    dump: Vec<String>,
}

fn cases() -> BTreeMap<String, Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/keepalived_conf/cases.json");
    let text = std::fs::read_to_string(path).expect("the cases are there");
    serde_json::from_str(&text).expect("the cases are JSON")
}

fn read_case(name: &str, case: &Case, run: &Run) -> (Table, Reading) {
    let mut table = Table::new();
    for (file, text) in &case.files {
        table = table.with(&format!("/bench/{file}"), text);
    }
    let identity = Some(run.identity.as_str()).filter(|identity| !identity.is_empty());
    let reading = read(&table, &invocation(&format!("/bench/{name}.conf"), identity));
    (table, reading)
}

#[test]
fn verdicts_and_messages_are_those_of_keepalived() {
    let mut faults = Vec::new();
    let mut count = 0;
    for (name, case) in &cases() {
        for run in &case.runs {
            count += 1;
            let (_, reading) = read_case(name, case, run);
            let said: BTreeSet<String> = texts(&reading).into_iter().map(str::to_owned).collect();
            let status = reading.verdict.exit_status();
            if said != run.messages || status != run.status {
                let missing: Vec<_> = run.messages.difference(&said).collect();
                let extra: Vec<_> = said.difference(&run.messages).collect();
                let identity = &run.identity;
                faults.push(format!(
                    "{name} {identity}: status {status}, not {}; missing {missing:#?}, extra {extra:#?}",
                    run.status
                ));
            }
        }
    }
    assert!(count >= 23, "{count} runs");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The dump, line by line. **Deviation**: who yields sends one last advertisement unless it is told not to.
#[test]
fn dumps_are_those_of_keepalived() {
    let mut faults = Vec::new();
    let mut count = 0;
    for (name, case) in &cases() {
        for run in case.runs.iter().filter(|run| !run.dump.is_empty()) {
            count += 1;
            let (table, reading) = read_case(name, case, run);
            let dump = crate::config::dump::dump(&reading.configuration, &table);
            // Lines with times were not recorded.
            let is_compared = |line: &&str| !line.contains("higher priority advert") && !line.contains("Timeout = ");
            let own: Vec<&str> = dump.lines().filter(is_compared).collect();
            let theirs: Vec<&str> = run.dump.iter().map(String::as_str).filter(is_compared).collect();
            if own != theirs {
                let at = own.iter().zip(&theirs).take_while(|(own, theirs)| own == theirs).count();
                faults.push(format!("{name} {}: {:?}, not {:?}", run.identity, own.get(at), theirs.get(at)));
            }
        }
    }
    assert!(count >= 15, "{count} dumps");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

//! Sample files of others, with keepalived's verdicts: only where they are at hand, as they are no part of lvx.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Verdicts {
    verdicts: BTreeMap<String, BTreeMap<String, Expected>>,
}

#[derive(Deserialize)]
struct Expected {
    rc: u8,
    messages: Vec<String>,
}

/// The text without the place before it.
fn without_place(message: &str) -> &str {
    let rest = message.strip_prefix('(').and_then(|rest| rest.split_once(") "));
    rest.filter(|(place, _)| place.contains("Line ")).map_or(message, |(_, text)| text)
}

#[test]
fn samples_have_the_verdicts_of_keepalived() {
    let Ok(folder) = std::env::var("LVX_KEEPALIVED") else {
        println!("skipped: LVX_KEEPALIVED names no folder with samples");
        return;
    };
    let samples = Path::new(&folder).join("samples");
    let text = std::fs::read_to_string(samples.join("verdicts.json")).expect("the verdicts are there");
    let verdicts: Verdicts = serde_json::from_str(&text).expect("the verdicts are JSON");
    let mut faults = Vec::new();
    for (file, expected) in &verdicts.verdicts {
        let text = std::fs::read_to_string(samples.join(file)).expect("the sample is there");
        for (machine, expected) in expected {
            let mut table = Table::new().with("/bench/sample.conf", &text);
            let interfaces = ["eth0", "eth1", "eth2", "eth3", "eth0.1"];
            table.interfaces = if machine == "bare" {
                BTreeMap::new()
            } else {
                interfaces.into_iter().map(|name| (name.to_owned(), Address::v4(1))).collect()
            };
            let reading = read(&table, &invocation("/bench/sample.conf", None));
            let said: BTreeSet<&str> = texts(&reading).into_iter().collect();
            let wanted: BTreeSet<&str> = expected.messages.iter().map(|message| without_place(message)).collect();
            if said != wanted || reading.verdict.exit_status() != expected.rc {
                let missing: Vec<_> = wanted.difference(&said).collect();
                let extra: Vec<_> = said.difference(&wanted).collect();
                let status = reading.verdict.exit_status();
                faults.push(format!(
                    "{file} {machine}: status {status}, not {}; missing {missing:?}, extra {extra:?}",
                    expected.rc
                ));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

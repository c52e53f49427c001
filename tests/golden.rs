//! The cases recorded from the real kernel, replayed through the built program (see `tests/golden/README.md`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Unpacks a family and runs the judge over it, `lvx replay` with `option`; gives each case's result.
fn judge(family: &str, option: &str) -> Option<BTreeMap<String, (String, String)>> {
    if Command::new("python3").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "the recorded cases need python3");
        println!("skipped: golden cases need python3");
        return None;
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let directory =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("golden-{family}{option}-{}", std::process::id()));
    // Left over by a process of the same number, if it is there at all.
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    let archive = source.join(format!("{family}.tar.gz"));
    let unpacked = Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(&directory).status().unwrap();
    assert!(unpacked.success(), "{} cannot be unpacked", archive.display());
    fs::copy(source.join("check"), directory.join("check")).unwrap();
    let report = directory.join("report.json");
    let output = Command::new("python3")
        .arg(directory.join("check"))
        .args(["--lvx", &format!("{} replay {option}", env!("CARGO_BIN_EXE_lvx")), "--family", family, "-v"])
        // Patience for busy machines; a case that hangs still ends.
        .args(["--timeout", "900"])
        .arg("--json")
        .arg(&report)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{}", text.lines().rev().take(20).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n"));
    let report: serde_json::Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
    fs::remove_dir_all(&directory).unwrap();
    let word = |case: &serde_json::Value, key: &str| case[key].as_str().unwrap_or_default().to_owned();
    let results = report["cases"].as_array().unwrap().iter().map(|case| {
        let first = &case["first"];
        let why = format!("{} {}: {}", word(case, "reason"), word(first, "what"), word(first, "difference"));
        (format!("{family}/{}", word(case, "name")), (word(case, "result"), why))
    });
    Some(results.collect())
}

/// The cases of a family that a list of `tests/golden` names, with the reason.
fn listed(list: &str, family: &str) -> BTreeMap<String, String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(list)).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let pairs = lines.map(|line| {
        let (name, reason) = line.split_once(char::is_whitespace).expect("a reason");
        (name.to_owned(), reason.trim().to_owned())
    });
    pairs.filter(|(name, _)| name.starts_with(&format!("{family}/"))).collect()
}

fn hold(family: &str) {
    let Some(results) = judge(family, "") else { return };
    assert!(!results.is_empty());
    let (pending, deviations) = (listed("pending", family), listed("deviations", family));
    let mut faults = Vec::new();
    for (name, (result, why)) in &results {
        match (result.as_str(), pending.contains_key(name) || deviations.contains_key(name)) {
            ("failed", false) => faults.push(format!("{name} fails: {why}")),
            ("passed", true) => {
                faults.push(format!("{name} passes: take it out of tests/golden/pending or deviations"))
            }
            ("passed", false) | ("failed", true) => {}
            (other, _) => faults.push(format!("{name} is {other}: {why}")),
        }
    }
    for name in pending.keys().chain(deviations.keys()).filter(|name| !results.contains_key(*name)) {
        faults.push(format!("{name} is listed and no case"));
    }
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
    let passed = results.values().filter(|(result, _)| result == "passed").count();
    let (cases, pending, deviations) = (results.len(), pending.len(), deviations.len());
    println!("{family}: {passed} of {cases} cases pass, {pending} pending, {deviations} deviate on purpose");
}

#[test]
fn cli() {
    hold("cli");
}

#[test]
fn sched() {
    hold("sched");
}

#[test]
fn packets() {
    hold("packets");
}

#[test]
fn states() {
    hold("states");
}

#[test]
fn sync() {
    hold("sync");
}

/// Every packet of a family is told of before it goes its way, and goes it as told: the cases pass or fail as without.
#[test]
fn what_is_told_comes_true() {
    for family in ["packets", "sched", "states", "sync"] {
        let (Some(told), Some(plain)) = (judge(family, "--trace"), judge(family, "")) else { return };
        let faults: Vec<String> = told
            .iter()
            .filter(|(name, (result, _))| plain.get(*name).is_none_or(|(without, _)| without != result))
            .map(|(name, (_, why))| format!("{name}: {why}"))
            .collect();
        assert!(faults.is_empty() && told.len() == plain.len(), "{}", faults.join("\n"));
    }
}

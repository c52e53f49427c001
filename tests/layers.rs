//! The architecture as a test: who may know whom, where `unsafe` may stand, and that no scheduler is forgotten.
//!
//! The ranks are read from the table at the head of `src/lib.rs`; the sources are read as text, without comments.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Files and directories that may hold `unsafe`. In `host` each file with `unsafe` explains itself by `// SAFETY:`.
const UNSAFE_ALLOWED: [&str; 4] = ["base/lock.rs", "base/memory.rs", "port/xsk", "host"];

/// Lines above an `unsafe` in which its reason stands.
const REASON_LINES: usize = 6;

/// Files of `sched` that are no scheduler.
const NO_SCHEDULER: [&str; 5] = ["cache.rs", "hash.rs", "mod.rs", "testing.rs", "tournament.rs"];

fn source_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// All source files with their path below `src`, with `/` between names.
fn sources() -> BTreeMap<String, String> {
    let root = source_directory();
    let mut files = BTreeMap::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("src can be listed") {
            let path = entry.expect("src can be listed").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let below = path.strip_prefix(&root).expect("found below src").to_str().expect("names are UTF-8");
                files.insert(below.replace('\\', "/"), fs::read_to_string(&path).expect("sources can be read"));
            }
        }
    }
    files
}

/// Module and rank from the rows `| rank | [`module`] | ...` of the table.
fn ranks(lib: &str) -> BTreeMap<String, u32> {
    let rows = lib.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("//! |")?.split('|');
        let rank = cells.next()?.trim().parse().ok()?;
        let name = cells.next()?.trim().trim_matches(['[', ']', '`']);
        Some((name.to_owned(), rank))
    });
    rows.collect()
}

/// The text without line comments, so that documentation may name what code may not.
fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The first names of all paths from the crate's root: of `crate::a::b` it is `a`, of `crate::{a, b::c}` both.
/// Paths by `super` count where they name a module of the table.
fn crate_paths(text: &str, modules: &BTreeMap<String, u32>) -> BTreeSet<String> {
    let text = without_comments(text);
    let mut names = BTreeSet::new();
    for (position, found) in text.match_indices("crate::") {
        if !text[..position].ends_with(is_name) {
            names.extend(heads(&text[position + found.len()..]));
        }
    }
    for (position, found) in text.match_indices("super::") {
        let after = heads(&text[position + found.len()..]);
        names.extend(after.into_iter().filter(|name| modules.contains_key(name)));
    }
    names
}

fn is_name(character: char) -> bool {
    character.is_alphanumeric() || character == '_' || character == '$'
}

/// The names that a path, or a group of paths in braces, begins with.
fn heads(text: &str) -> Vec<String> {
    let name = |text: &str| text.chars().take_while(|&character| is_name(character)).collect::<String>();
    let Some(group) = text.strip_prefix('{') else { return vec![name(text)] };
    let mut depth = 0;
    let mut names = Vec::new();
    let mut item = String::new();
    for character in group.chars() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(name(std::mem::take(&mut item).trim())),
            _ => {}
        }
        if character != ',' || depth != 0 {
            item.push(character);
        }
    }
    names.push(name(item.trim()));
    names.retain(|name| !name.is_empty());
    names
}

/// The top-level module that a file belongs to; `None` for `lib.rs` and the programs.
fn module_of(file: &str) -> Option<&str> {
    let first = file.split('/').next()?;
    match first.strip_suffix(".rs").unwrap_or(first) {
        "lib" | "bin" => None,
        module => Some(module),
    }
}

/// What the table forbids in one file, in words.
fn forbidden(file: &str, text: &str, ranks: &BTreeMap<String, u32>) -> Vec<String> {
    let Some(module) = module_of(file) else { return Vec::new() };
    let Some(&rank) = ranks.get(module) else { return vec![format!("{file}: `{module}' has no rank in src/lib.rs")] };
    let mut faults = Vec::new();
    for used in crate_paths(text, ranks) {
        match ranks.get(&used) {
            _ if used == module => {}
            Some(&other) if other < rank => {}
            Some(other) => faults.push(format!("{file}: rank {rank} must not use `{used}' of rank {other}")),
            None => faults.push(format!("{file}: `crate::{used}' is no module of the table")),
        }
    }
    faults
}

#[test]
fn modules_use_lower_ranks_only() {
    let sources = sources();
    let ranks = ranks(&sources["lib.rs"]);
    assert!(ranks.len() >= 10, "the table of src/lib.rs was found: {ranks:?}");
    let faults: Vec<String> = sources.iter().flat_map(|(file, text)| forbidden(file, text, &ranks)).collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn every_module_has_a_rank() {
    let lib = &sources()["lib.rs"];
    let ranks = ranks(lib);
    for line in lib.lines() {
        if let Some(module) = line.strip_prefix("pub mod ").or(line.strip_prefix("mod ")) {
            let module = module.trim_end_matches([';', ' ', '{']);
            assert!(ranks.contains_key(module), "`{module}' has no rank in src/lib.rs");
        }
    }
}

/// Whether a line of code (without its comment) holds the keyword or lifts the ban.
fn has_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let is_word = |(position, _): (usize, &str)| {
        !code[..position].ends_with(is_name) && !code[position + "unsafe".len()..].starts_with(is_name)
    };
    code.match_indices("unsafe").any(is_word) || code.contains("allow(unsafe_code")
}

/// What is wrong with the `unsafe` of one file, in words.
fn unsafe_faults(file: &str, text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let is_allowed = UNSAFE_ALLOWED
        .iter()
        .any(|allowed| file.strip_prefix(allowed).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '.'])));
    let mut faults = Vec::new();
    for (index, line) in lines.iter().enumerate().filter(|(_, line)| has_unsafe(line)) {
        let number = index + 1;
        if !is_allowed {
            faults.push(format!("{file}:{number}: unsafe is not allowed here"));
        }
        let above = &lines[index.saturating_sub(REASON_LINES)..=index];
        let has_reason = above.iter().any(|line| line.contains("// SAFETY:") || line.contains("/// # Safety"));
        if !line.contains("allow(unsafe_code") && !has_reason {
            faults.push(format!("{file}:{number}: unsafe without a SAFETY comment above it"));
        }
    }
    faults
}

#[test]
fn unsafe_stands_in_its_modules_with_a_reason() {
    let sources = sources();
    let faults: Vec<String> = sources.iter().flat_map(|(file, text)| unsafe_faults(file, text)).collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    assert!(sources["lib.rs"].contains("\n#![deny(unsafe_code)]\n"), "the crate denies unsafe");
}

#[test]
fn every_scheduler_is_registered() {
    let sources = sources();
    let registry = &sources["sched/mod.rs"];
    let files: Vec<&str> = sources.keys().filter_map(|file| file.strip_prefix("sched/")).collect();
    let schedulers = files.iter().filter(|file| !file.contains('/') && !NO_SCHEDULER.contains(file));
    let names: Vec<&str> = schedulers.filter_map(|file| file.strip_suffix(".rs")).collect();
    assert!(names.contains(&"rr") && names.contains(&"wlc"), "schedulers were found: {names:?}");
    for name in names {
        assert!(registry.contains(&format!("\nmod {name};\n")), "sched/{name}.rs is no module");
        assert!(registry.contains(&format!("(\"{name}\", ")), "sched/{name}.rs is not in the table");
        assert!(lvx::sched::by_name(name, &lvx::sched::Context::default()).is_some(), "`{name}' cannot be made");
    }
}

/// The checks themselves, on sources that break the rules.
#[test]
fn broken_rules_are_found() {
    let table =
        "//! | 0 | [`base`] | x |\n//! | 2 | [`route`] | x |\n//! | 2 | [`port`] | x |\n//! | 8 | [`host`] | x |";
    let ranks = ranks(table);
    let faults = |file: &str, text: &str| forbidden(file, text, &ranks).len();
    assert_eq!(faults("route/mod.rs", "use crate::base::Address;\nuse crate::route::Hop;"), 0);
    assert_eq!(faults("route/mod.rs", "/// As [`crate::host`] says.\nfn f() {} // crate::host"), 0);
    assert_eq!(faults("route/mod.rs", "use crate::host::Clock;"), 1);
    assert_eq!(faults("route/a/b.rs", "use crate::{base::{self, Address}, port::{Port, memory}, host};"), 2);
    assert_eq!(faults("route/mod.rs", "fn f() -> crate::port::Frame {}"), 1);
    assert_eq!(faults("route/mod.rs", "use super::port::Port;\nuse super::hidden;"), 1);
    assert_eq!(faults("route/mod.rs", "use crate::unknown::X;"), 1);
    assert_eq!(faults("other/mod.rs", ""), 1);
    assert_eq!(faults("bin/lvxd.rs", "use lvx::host;"), 0);

    let faults = |file: &str, text: &str| unsafe_faults(file, text).len();
    assert_eq!(faults("route/mod.rs", "let unsafe_name = 1; // unsafe { }"), 0);
    assert_eq!(faults("route/mod.rs", "// SAFETY: no.\nunsafe { f() }"), 1);
    assert_eq!(faults("route/mod.rs", "#![allow(unsafe_code)]"), 1);
    assert_eq!(faults("port/xsk/ring.rs", "// SAFETY: so.\nunsafe { f() }"), 0);
    assert_eq!(faults("port/xsk.rs", "unsafe { f() }"), 1);
    assert_eq!(faults("port/xskish.rs", "// SAFETY: so.\nunsafe { f() }"), 1);
}

//! The tools around lvx that are written in other languages: their own tests, run here so that `cargo test` has them.

use std::path::Path;
use std::process::Command;

#[path = "../bench/veth/profile.rs"]
#[allow(dead_code, reason = "the benchmark on veth uses the rest")]
mod profile;

use profile::{Direction, Maker, Profile};

/// Runs a test program in Python; its failures are ours.
fn python(file: &str) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(file);
    let Ok(output) = Command::new("python3").arg(&script).output() else {
        assert!(std::env::var_os("CI").is_none(), "{file} needs python3");
        println!("skipped: {file} needs python3");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn nic_setup_sets_and_undoes_every_knob() {
    python("nic_setup/test_nic_setup.py");
}

#[test]
fn profiles_are_read_and_refused() {
    python("bench_tools/test_profiles.py");
}

#[test]
fn trex_sends_what_the_profiles_say() {
    python("bench_tools/test_trex.py");
}

#[test]
fn pktgen_is_told_what_the_profiles_say() {
    python("bench_tools/test_pktgen.py");
}

#[test]
fn rfc2544_searches_and_refuses() {
    python("bench_tools/test_rfc2544.py");
}

#[test]
fn benchmarks_are_run_and_drawn() {
    python("bench_tools/test_bench.py");
}

/// The first frames that `profiles.py` makes of a profile.
fn reference(path: &Path, count: usize, direction: &str) -> Option<Vec<String>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/profiles/profiles.py");
    let output =
        Command::new("python3").arg(script).arg("frames").arg(path).args([&count.to_string(), direction]).output();
    let output = output.ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

fn made(mut maker: Maker, count: usize) -> Vec<String> {
    let mut frame = || {
        let mut out = vec![0; maker.octets()];
        maker.write(&mut out);
        out.iter().map(|octet| format!("{octet:02x}")).collect()
    };
    (0..count).map(|_| frame()).collect()
}

/// The benchmark on veth sends, octet by octet, what the reference says.
#[test]
fn both_readers_of_profiles_make_the_same_frames() {
    const COUNT: usize = 500;
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/profiles");
    let mut tried = 0;
    for entry in std::fs::read_dir(&directory).expect("profiles") {
        let path = entry.expect("profiles").path();
        if path.extension().is_none_or(|end| end != "json") || path.ends_with("network.json") {
            continue;
        }
        let profile = Profile::load(&path, None).expect("a profile that can be used");
        let Some(inbound) = reference(&path, COUNT, "inbound") else {
            assert!(std::env::var_os("CI").is_none(), "the reference needs python3");
            return println!("skipped: the reference needs python3");
        };
        let opening = reference(&path, COUNT, "opening").expect("python3 is there");
        assert_eq!(made(profile.maker(Direction::Inbound), COUNT), inbound, "{}", path.display());
        match profile.opening_maker() {
            Some(maker) => assert_eq!(made(maker, COUNT), opening, "{}", path.display()),
            None => assert!(opening.is_empty(), "{}", path.display()),
        }
        if profile.has_replies {
            let outbound = reference(&path, COUNT, "outbound").expect("python3 is there");
            assert_eq!(made(profile.maker(Direction::Outbound), COUNT), outbound, "{}", path.display());
        }
        tried += 1;
    }
    assert!(tried >= 9, "profiles were found: {tried}");
}

/// Stamps leave a frame right: other checksums, another identification, the moment.
#[test]
fn stamps_can_be_read_and_leave_checksums_right() {
    for name in ["udp64", "tcp64", "imix"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("bench/profiles/{name}.json"));
        let mut maker = Profile::load(&path, None).expect("a profile that can be used").maker(Direction::Inbound);
        let mut frame = vec![0; maker.octets()];
        maker.write(&mut frame);
        profile::stamp(&mut frame, 0x0102_0304_0506_0708);
        assert_eq!(profile::stamped(&frame, 14), Some(0x0102_0304_0506_0708));
        assert_eq!(frame[18..20], profile::STAMPED.to_be_bytes());
        let ip_end = 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]));
        assert_eq!(lvx::wire::checksum::of(&frame[14..34]), 0, "{name}: IP header");
        let mut pseudo = frame[26..34].to_vec();
        pseudo.extend([0, frame[23]]);
        pseudo.extend(((ip_end - 34) as u16).to_be_bytes());
        pseudo.extend(&frame[34..ip_end]);
        assert_eq!(lvx::wire::checksum::of(&pseudo), 0, "{name}: segment");
    }
}

/// Both readers refuse the same descriptions.
#[test]
fn descriptions_that_make_no_sense_are_refused() {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("profiles");
    std::fs::create_dir_all(&place).expect("a directory");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/profiles");
    std::fs::copy(source.join("network.json"), place.join("network.json")).expect("the network");
    let good = std::fs::read_to_string(source.join("tcp64.json")).expect("a profile");
    let path = place.join("bad.json");
    for (from, to) in [
        ("\"tcp\"", "\"sctp\""),
        ("\"A\"", "\"AA\""),
        ("\"A\"", "\"S\\u0000\""),
        ("\"octets\": 64", "\"octets\": 63"),
        ("\"octets\": 64", "\"octets\": 1519"),
        ("\"weight\": 1", "\"weight\": 0"),
        ("\"clients\": 64", "\"clients\": 65537"),
        ("\"ports\": 16", "\"ports\": 0"),
        ("\"syn\"", "\"slow\""),
        ("[\"inbound\"]", "[\"outbound\"]"),
        ("[\"inbound\"]", "[]"),
        ("\"clients\": 64", "\"clients\": 64, \"extra\": 1"),
        ("{", ""),
    ] {
        assert!(good.contains(from), "{from}");
        std::fs::write(&path, good.replacen(from, to, 1)).expect("a file");
        assert!(Profile::load(&path, None).is_err(), "{from} -> {to}");
        if let Ok(output) =
            Command::new("python3").arg(source.join("profiles.py")).arg("frames").arg(&path).arg("1").output()
        {
            assert!(!output.status.success(), "{from} -> {to}");
        }
    }
    std::fs::write(&path, &good).expect("a file");
    assert!(Profile::load(&path, None).is_ok());
    assert!(Profile::load(&path, Some(1518)).is_ok());
    assert!(Profile::load(&path, Some(20)).is_err());
    assert!(Profile::load(&source.join("tcp-syn.json"), Some(128)).is_err(), "a SYN has no data");
}

//! The tools around lvx that are written in other languages: their own tests, run here so that `cargo test` has them.

use std::path::Path;
use std::process::Command;

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

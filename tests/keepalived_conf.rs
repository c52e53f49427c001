//! Tests of keepalived.conf by the program itself: exit status, what goes where, and keepalived's own command line.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// A directory that goes with the test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("lvx-conf-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory can be made");
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).expect("a file can be written");
        path.to_str().expect("names are UTF-8").to_owned()
    }

    /// A link to lvxd of keepalived's name.
    fn keepalived(&self) -> PathBuf {
        let link = self.0.join("keepalived");
        symlink(env!("CARGO_BIN_EXE_lvxd"), &link).expect("a link can be made");
        link
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run(program: impl AsRef<std::ffi::OsStr>, words: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = Command::new(program).args(words).output().expect("the program runs");
    let text = |octets: Vec<u8>| String::from_utf8(octets).expect("what is said is UTF-8");
    (status.code(), text(stdout), text(stderr))
}

const GOOD: &str = "\
vrrp_instance V {
    interface lo
    virtual_router_id 5
    @two priority 120
    include sub/*.inc
}
";

#[test]
fn a_good_file_is_dumped() {
    let directory = Directory::new("good");
    let conf = directory.file("a.conf", GOOD);
    fs::create_dir(directory.0.join("sub")).expect("a directory can be made");
    directory.file("sub/a.inc", "virtual_ipaddress {\n 10.0.0.1\n}\n");
    let lvxd = env!("CARGO_BIN_EXE_lvxd");
    assert_eq!(run(lvxd, &["-t", "-f", &conf]), (Some(0), String::new(), String::new()));
    let (status, dump, said) = run(lvxd, &["--dump-conf", "--config", &conf, "--config-id", "two"]);
    assert_eq!((status, said.as_str()), (Some(0), ""));
    assert!(dump.contains("   Priority = 120\n") && dump.contains("     10.0.0.1 dev lo scope global\n"), "{dump}");
    let (status, dump, _) = run(directory.keepalived(), &["-d", "-i", "two", "-f", &conf]);
    assert_eq!(status, Some(0));
    assert!(dump.contains("   Priority = 120\n"), "{dump}");
}

/// `lvxd --dump-conf -f FILE | head -1`.
#[test]
fn a_reader_that_has_gone_is_no_error() {
    let directory = Directory::new("pipe");
    let instance = |number: u32| {
        let lines = "interface lo\nvirtual_ipaddress {\n10.0.0.1\n}\n}\n";
        format!("vrrp_instance V{number} {{\nvirtual_router_id {number}\n{lines}")
    };
    // Several times what a pipe holds.
    let conf = directory.file("a.conf", &(1..=250).map(instance).collect::<String>());
    let mut lvxd = Command::new(env!("CARGO_BIN_EXE_lvxd"));
    lvxd.args(["--dump-conf", "-f", &conf]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = lvxd.spawn().expect("the program runs");
    drop(child.stdout.take());
    let Output { status, stderr, .. } = child.wait_with_output().expect("the program ends");
    assert_eq!((status.code(), String::from_utf8_lossy(&stderr).into_owned()), (Some(0), String::new()));
}

#[test]
fn errors_are_said_with_help() {
    let directory = Directory::new("bad");
    let text = "vrrp_instance V {\n    interface lo\n    virtualRouterID 5\n    priority 300\n}\n";
    let conf = directory.file("b.conf", text);
    let (status, _, said) = run(env!("CARGO_BIN_EXE_lvxd"), &["-t", "-f", &conf]);
    assert_eq!(status, Some(5));
    let expected = format!(
        "({conf}: Line 3) Unknown keyword 'virtualRouterID'\n    3:5 |     virtualRouterID 5\n        |     ^ did you mean virtual_router_id?\n"
    );
    assert!(said.contains(&expected), "{said}");
    assert!(said.contains("\n(V) the virtual router id must be set\n"), "{said}");
    let (status, _, plain) = run(directory.keepalived(), &["-t", "-f", &conf]);
    assert_eq!(status, Some(5));
    assert_eq!(
        plain,
        format!(
            "({conf}: Line 3) Unknown keyword 'virtualRouterID'\n({conf}: Line 4) number '300' outside range [1, 255]\n\
             ({conf}: Line 4) (V) Priority not valid! must be between 1 & 255. Using default 100\n\
             (V) the virtual router id must be set\n"
        )
    );
}

#[test]
fn what_cannot_run_has_a_status_of_its_own() {
    let directory = Directory::new("fatal");
    let lvxd = env!("CARGO_BIN_EXE_lvxd");
    let missing = directory.0.join("none").to_str().expect("names are UTF-8").to_owned();
    assert_eq!(run(lvxd, &["-t", "-f", &missing]).0, Some(2));
    let conf = directory.file("c.conf", "vrrp_instance V {\n priority\n}\n");
    assert_eq!(run(lvxd, &["-t", "-f", &conf]).0, Some(2));
    assert_eq!(run(directory.keepalived(), &["-Z"]).0, Some(1));
    assert_eq!(run(lvxd, &[]).0, Some(2), "an interface is wanted");
}

//! What is run and written, in which words.

use super::track::{Streak, first_number, matches};
use super::*;
use crate::config::model::track::{ArgumentMatch, TrackProcess};

fn script(words: &[&str]) -> Script {
    Script {
        words: words.iter().map(|&word| word.into()).collect(),
        identity: Default::default(),
        is_shell_line: false,
    }
}

#[test]
fn scripts_have_the_words_of_keepalived() {
    let notifications = Notifications {
        master: Some(script(&["/m", "own"])),
        stop: Some(script(&["/s"])),
        master_rx_lower_pri: Some(script(&["/l"])),
        any: Some(script(&["/n", "a"])),
        ..Notifications::default()
    };
    let told = |subject: &Subject, word| -> Vec<String> {
        scripts_of(&notifications, subject, word).iter().map(|it| it.words.join(" ")).collect()
    };
    let instance = Subject::Instance("VI_1".into(), 150);
    let group = Subject::Group("VG".into());
    assert_eq!(told(&instance, Word::Master), ["/m own", "/n a INSTANCE VI_1 MASTER 150"]);
    assert_eq!(told(&instance, Word::Backup), ["/n a INSTANCE VI_1 BACKUP 150"]);
    assert_eq!(told(&instance, Word::MasterReceivedLowerPriority), ["/l"]);
    assert_eq!(told(&group, Word::Stop), ["/s", "/n a GROUP VG STOP 0"]);
    assert_eq!(instance.fifo_line(Word::Master), "INSTANCE \"VI_1\" MASTER 150\n");
    assert_eq!(group.fifo_line(Word::Fault), "GROUP \"VG\" FAULT 0\n");
}

#[test]
fn rise_and_fall_count_in_a_row() {
    let mut streak = Streak::new(2, 3, false);
    let said: Vec<Option<bool>> =
        [true, false, false, true, false, false, false, true, true].map(|good| streak.take(good)).to_vec();
    assert_eq!(
        said,
        [Some(true), None, None, None, None, None, Some(false), None, Some(true)],
        "the first counts at once, three bad ones in a row, two good ones"
    );
    let mut failed = Streak::new(2, 1, true);
    assert_eq!([true, true].map(|good| failed.take(good)), [None, Some(true)]);
}

#[test]
fn files_begin_with_a_number() {
    for (text, number) in [
        ("", 0),
        ("12\n", 12),
        ("  -7 and more", -7),
        ("none", 0),
        ("-", 0),
        ("99999999999999999999", i32::MAX),
        ("-99999999999999999999", i32::MIN),
        ("4294967296", i32::MAX),
    ] {
        assert_eq!(first_number(text), number, "{text}");
    }
}

#[test]
fn command_lines_are_compared_as_wished() {
    let mut definition = TrackProcess { program: "/usr/sbin/named".into(), ..TrackProcess::new("p".into()) };
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    assert!(matches(&definition, &words("named -u bind")));
    definition.arguments = Some(vec!["-u".into(), "bi".into()]);
    let line = words("/usr/sbin/named -u bind -4");
    assert!(!matches(&definition, &line));
    definition.matching = ArgumentMatch::Partial;
    assert!(matches(&definition, &line));
    definition.matching = ArgumentMatch::Initial;
    assert!(!matches(&definition, &line));
    definition.arguments = Some(vec!["-u".into()]);
    assert!(matches(&definition, &line));
    definition.compares_command = true;
    assert!(!matches(&definition, &words("named -u")));
    assert!(!matches(&definition, &[]));
}

/// Scripts of one instance run one after the other, whatever they take, and all of them are waited for at the end.
#[test]
fn scripts_run_in_order_and_one_at_a_time() {
    let directory = std::env::temp_dir().join(format!("lvx-notify-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let out = directory.join("out");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let mut lanes = Lanes::default();
        for (number, wait) in [(1, "0.2"), (2, "0"), (3, "0.1"), (4, "0")] {
            let line = format!("sleep {wait}; echo {number} >> {}", out.display());
            lanes.run(&Subject::Instance("A".into(), 1), vec![Rc::new(script(&["/bin/sh", "-c", &line]))]);
        }
        lanes.end().await;
    });
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "1\n2\n3\n4\n");
    std::fs::remove_dir_all(&directory).unwrap();
}

/// One that does not end is ended, with all that it started.
#[test]
fn a_script_that_hangs_is_ended() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = runtime.block_on(async {
        let hanging = script(&["/bin/sh", "-c", "trap '' TERM; sleep 60 & wait; sleep 60"]);
        run::run_for(&hanging, Duration::from_millis(50)).await
    });
    assert_eq!(outcome, run::Outcome::TimedOut);
    let line = Script { is_shell_line: true, ..script(&["</dev/null exit 3"]) };
    assert_eq!(runtime.block_on(run::run_for(&line, Duration::from_secs(9))), run::Outcome::Exited(3));
    let missing = runtime.block_on(run::run_for(&script(&["/nowhere/to/be/found"]), Duration::from_secs(1)));
    assert_eq!(missing, run::Outcome::NotStarted);
}

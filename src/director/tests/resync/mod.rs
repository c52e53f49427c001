//! Two directors on a network that loses, delays, doubles and reorders datagrams, and breaks connections; daemons that
//! stop and start, directors that lose all they had. A seed is a run; `LVX_SEEDS=n` says how many, `LVX_SEED=n` which one.
//!
//! Time is virtual. A run takes turns of disorder and calm; after each calm the backup has every connection that its
//! master told of, in the same state.

mod pair;

use pair::{BACKUP, MASTER, Pair};

use super::*;
use crate::control::sync::resync::Warm;

/// Seeds of an ordinary run of the tests.
const SEEDS: u64 = 60;
/// Turns of disorder and calm in a run.
const TURNS: u32 = 3;
/// The longest that anything takes to come right: a silent connection is noticed, the longest pauses pass.
const SETTLING: Duration = Duration::from_secs(150);

impl Pair {
    /// Some seconds in which anything may happen.
    fn disorder(&mut self) {
        self.is_calm = false;
        for _ in 0..4 + self.rng.below(12) {
            for _ in 0..self.rng.below(40) {
                self.open_connection();
            }
            for _ in 0..self.rng.below(6) {
                self.close_connection();
            }
            match self.rng.below(16) {
                0 => self.restart(BACKUP),
                1 if self.rng.below(3) == 0 => self.restart(MASTER),
                2 => {
                    self.stop_daemon(BACKUP);
                    self.start_daemon(BACKUP);
                }
                3 => {
                    self.stop_daemon(MASTER);
                    self.start_daemon(MASTER);
                }
                4 | 5 => self.break_wires(true),
                6 => self.break_wires(false),
                7 => self.is_apart = true,
                8 => {
                    let most = ["1", "4096"][self.rng.below(2) as usize];
                    self.nodes[MASTER].director.shared().sysctls.write("sync_qlen_max", most).unwrap();
                }
                9 => {
                    let director = &mut self.nodes[BACKUP].director;
                    director.link(|control, now| control.sync_command(&["resync".into()], now)).unwrap();
                    self.carry_out(BACKUP);
                }
                _ => {}
            }
            let time = Duration::from_millis(self.rng.below(1500).into());
            self.pass(time);
            self.is_apart = false;
        }
    }
}

fn run(seed: u64) -> (u64, u64, u64) {
    let mut pair = Pair::new(seed, true);
    pair.start_daemon(MASTER);
    pair.start_daemon(BACKUP);
    for _ in 0..TURNS {
        pair.disorder();
        pair.is_calm = true;
        pair.nodes[MASTER].director.shared().sysctls.write("sync_qlen_max", "4096").unwrap();
        pair.pass(SETTLING);
        pair.check();
        if pair.warm() != Warm::Yes {
            pair.fail("the backup is not warm");
        }
    }
    let status = pair.nodes[BACKUP].director.control().sync_status(pair.now);
    (status.resync.repaired, status.resync.not_repaired, status.resync.resyncs_whole)
}

#[test]
fn nothing_that_was_told_is_forgotten() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    if let Some(seed) = number("LVX_SEED") {
        println!("{:?}", run(seed));
        return;
    }
    let mut all = (0, 0, 0);
    for seed in 0..number("LVX_SEEDS").unwrap_or(SEEDS) {
        let (repaired, not_repaired, whole) = run(seed);
        all = (all.0 + repaired, all.1 + not_repaired, all.2 + whole);
    }
    println!("repaired {}, not {}, tables {}", all.0, all.1, all.2);
    assert!(all.0 > 0 && all.1 > 0 && all.2 > 0, "everything happened: {all:?}");
}

#[test]
fn a_backup_that_starts_late_gets_all() {
    let mut pair = Pair::new(1, true);
    pair.start_daemon(MASTER);
    for _ in 0..500 {
        pair.open_connection();
    }
    pair.pass(Duration::from_secs(10));
    assert_eq!(pair.warm(), Warm::NoPeer, "no daemon runs");
    pair.start_daemon(BACKUP);
    assert_eq!(pair.warm(), Warm::Listening);
    let under_way = (0..300).find_map(|_| {
        pair.pass(Duration::from_millis(10));
        match pair.warm() {
            Warm::Resyncing { records, of } if of > 0 => Some((records, of)),
            _ => None,
        }
    });
    assert!(under_way.is_some_and(|(records, of)| records < 501 && of == 501), "{under_way:?}");
    pair.pass(Duration::from_secs(2));
    pair.check();
    assert_eq!(pair.rows(BACKUP).len(), 501);
    let kinds = &pair.nodes[BACKUP].warm;
    assert!(matches!(kinds[..], [Warm::Listening, Warm::Resyncing { .. }, Warm::Yes]), "{kinds:?}");
    // What is left of the timeout is the master's.
    let (ours, theirs) = (pair.rows(MASTER), pair.rows(BACKUP));
    assert!(ours.iter().all(|(key, row)| theirs[key].expires_s.abs_diff(row.expires_s) <= 1));
}

#[test]
fn a_master_that_cannot_is_told_from_nobody() {
    let mut pair = Pair::new(2, false);
    pair.start_daemon(BACKUP);
    pair.pass(Duration::from_secs(4));
    assert_eq!(pair.warm(), Warm::NoPeer);
    pair.start_daemon(MASTER);
    pair.open_connection();
    pair.pass(Duration::from_secs(4));
    assert_eq!(pair.warm(), Warm::PeerCannot);
    pair.check();
    let sent = pair.nodes[MASTER].director.control().sync_status(pair.now);
    assert_eq!((sent.numbered, sent.hails), (false, 0), "as the kernel");
}

/// The backup leaves with what the master said last, even when the datagrams are lost.
#[test]
fn a_master_that_stops_tells_the_last_for_sure() {
    let mut pair = Pair::new(3, true);
    pair.start_daemon(MASTER);
    pair.start_daemon(BACKUP);
    pair.pass(Duration::from_secs(5));
    for _ in 0..30 {
        pair.open_connection();
    }
    // From here on no datagram arrives.
    pair.loses_datagrams = true;
    pair.stop_daemon(MASTER);
    pair.pass(Duration::from_secs(1));
    pair.check();
    assert_eq!(pair.rows(BACKUP).len(), 31);
}

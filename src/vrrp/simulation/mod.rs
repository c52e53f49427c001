//! Two and three routers on a LAN that loses, delays, doubles and reorders packets, that falls apart and heals; hosts that
//! pause, crash, stop, start again, lose their link and reload. A seed is a run: `LVX_SEED=n` replays one
//! and tells it, `LVX_SEEDS=n` takes so many.
//!
//! Time is virtual. A run takes turns: some seconds of disorder, then calm, in which everything must come right within
//! known times, and an orderly stop, a crash or a start, each with its own bound. What always holds is checked after each
//! step: a host has the addresses exactly while it is Active, and members of a sync group are Active together.

mod lan;

use lan::{DELIVERY_DISORDER_MAX_MS, DELIVERY_MAX, Lan, link};

use super::timing::{down_interval, skew_time};
use super::*;
use crate::base::Duration;
use crate::wire::vrrp::{PRIORITY_OWNER, Version};

/// Seeds of an ordinary run of the tests.
const SEEDS: u64 = 2000;
/// Turns of disorder and calm in a run.
const TURNS: u32 = 4;
/// Until a second burst of announcements has come.
const ANNOUNCED: Duration = Duration::from_secs(6);

impl Lan {
    /// The longest that anything takes to come right: everybody's down interval, with the slowest router's interval.
    fn settling(&self) -> Duration {
        let slowest = self.hosts.iter().map(|host| host.config.instances[0].interval).max().unwrap();
        down_interval(Version::V2, 1, slowest, 3).max(down_interval(Version::V3, 1, slowest, 3)) * 2 + DELIVERY_MAX * 4
    }

    /// Some seconds in which anything may happen.
    fn disorder(&mut self) {
        self.is_calm = false;
        self.settled = None;
        for _ in 0..3 + self.rng.below(12) {
            let number = self.rng.below(self.hosts.len() as u32) as usize;
            match self.rng.below(if self.is_rough { 10 } else { 2 }) {
                0 | 1 => {
                    for host in 0..self.hosts.len() {
                        self.hosts[host].segment = self.rng.below(2);
                    }
                }
                2 | 3 if self.hosts[number].routers.is_some() => {
                    let pause = Duration::from_millis(self.rng.below(6000).into());
                    self.hosts[number].paused_until = Some(self.now + pause);
                }
                4 => self.crash(number),
                5 if self.hosts[number].is_well() => self.stop(number),
                6 if self.hosts[number].routers.is_none() => self.start(number),
                7 if self.hosts[number].paused_until.is_none() => {
                    let is_up = !self.hosts[number].link_is_up;
                    self.hosts[number].link_is_up = is_up;
                    self.event(number, Event::Link { interface: "eth0".into(), link: link(number, is_up) });
                }
                8 if self.hosts[number].paused_until.is_none() => {
                    let reading = [Reading::Up, Reading::Down][self.rng.below(2) as usize];
                    self.event(number, Event::Tracked { tracker: Tracker::Script("chk".into()), reading });
                }
                9 if self.hosts[number].paused_until.is_none() => {
                    let (now, config) = (self.now, self.hosts[number].config.clone());
                    if let Some(routers) = &mut self.hosts[number].routers {
                        routers.reconfigure(now, config).expect("no flaws");
                    }
                    self.carry_out(number);
                }
                _ => {}
            }
            let time = Duration::from_millis(self.rng.below(2500).into());
            // Partitions alone last: whoever is cut off gets an Active router that announces itself. (In shorter ones
            // announcements pass clients by, and nobody could know.)
            self.pass(if self.is_rough { time } else { self.settling() + time });
        }
    }

    /// The network is whole and everybody is well, but for those that do not run.
    fn calm(&mut self) {
        for number in 0..self.hosts.len() {
            self.hosts[number].segment = 0;
            if self.hosts[number].paused_until.take().is_some() {
                self.wake(number);
            }
            if !self.hosts[number].link_is_up {
                self.hosts[number].link_is_up = true;
                self.event(number, Event::Link { interface: "eth0".into(), link: link(number, true) });
            }
        }
        // What was sent in the disorder still comes, late.
        self.pass(Duration::from_millis(DELIVERY_DISORDER_MAX_MS.into()));
        self.is_calm = true;
        let settling = self.settling();
        self.settled = Some(self.now + settling);
        self.pass(settling);
    }

    /// One is Active, and rightly.
    fn check_settled(&mut self) -> Option<usize> {
        let running: Vec<usize> =
            (0..self.hosts.len()).filter(|&number| self.hosts[number].routers.is_some()).collect();
        if running.is_empty() {
            return None;
        }
        let active = self.active(0);
        let [active] = active[..] else { self.fail(&format!("{} are Active, not one", active.len())) };
        let priority = self.hosts[active].instances()[0].priority();
        for number in running {
            let instance = &self.hosts[number].instances()[0];
            let preempts = instance.config().preempts || instance.priority() == PRIORITY_OWNER;
            if preempts && instance.priority() > priority {
                self.fail("a better one does not preempt");
            }
        }
        for host in &self.hosts {
            for (address, &at) in &host.client {
                if !self.is_rough && at != active {
                    self.fail(&format!("a client on {} believes {address} at host {at}", host.segment));
                }
            }
        }
        Some(active)
    }

    /// The shortest time in which one of those left is to take over, after a resignation or after a silence.
    fn takeover(&self, without: usize, is_resigned: bool) -> Option<Duration> {
        let hosts = self.hosts.iter().enumerate().filter(|&(number, _)| number != without);
        let times = hosts.filter_map(|(_, host)| {
            let instance = host.instances().first()?;
            let (version, priority) = (instance.config().version, instance.priority());
            Some(match is_resigned {
                true => skew_time(version, priority, instance.active_interval()),
                false => down_interval(version, priority, instance.active_interval(), 3),
            })
        });
        times.min()
    }

    /// One that is Active goes, and another takes over in time; then it comes back.
    fn succession(&mut self, active: usize) {
        let is_resigned = self.rng.below(2) == 0;
        let takeover = self.takeover(active, is_resigned);
        // Somewhere between two advertisements.
        let moment = Duration::from_millis(self.rng.below(1000).into());
        self.pass(moment);
        // An advertisement that comes after its sender's resignation undoes that; nobody could know better.
        while !self.flying.is_empty() {
            self.pass(Duration::from_millis(1));
        }
        if self.active(0) != [active] {
            self.fail("the Active router changed without a reason");
        }
        if is_resigned {
            self.stop(active)
        } else {
            self.crash(active)
        }
        let Some(takeover) = takeover else { return };
        self.pass(takeover + DELIVERY_MAX * 2);
        for position in self.positions() {
            if self.active(position).is_empty() {
                self.fail("nobody took over in time");
            }
        }
        self.pass(self.settling());
        let successor = self.check_successor();
        self.start(active);
        self.pass(self.settling());
        let now = self.check_settled().expect("some run");
        let back = &self.hosts[active].instances()[0];
        let preempts = back.config().preempts || back.priority() == PRIORITY_OWNER;
        let is_better = back.priority() > self.hosts[successor].instances()[0].priority();
        let expected = if preempts && is_better { active } else { successor };
        // RFC 9568 section 6.4.1: it begins with its own interval, and may not hear one that is slower in time.
        let config = back.config();
        let patience = down_interval(config.version, back.priority(), config.interval, 3);
        let is_heard = patience > self.hosts[successor].config.instances[0].interval + DELIVERY_MAX * 2;
        if now != expected && is_heard {
            self.fail(&format!("host {now} is Active, not {expected}"));
        }
    }

    /// Announcements of a takeover come in two bursts; before the second one clients may be wrong.
    fn check_successor(&mut self) -> usize {
        self.pass(ANNOUNCED);
        self.check_settled().expect("some run")
    }

    fn run(&mut self) {
        for number in 0..self.hosts.len() {
            let time = Duration::from_millis(self.rng.below(5000).into());
            self.pass(time);
            self.start(number);
        }
        for _ in 0..TURNS {
            self.disorder();
            self.calm();
            self.pass(ANNOUNCED);
            if let Some(active) = self.check_settled() {
                self.succession(active);
            }
        }
        for number in 0..self.hosts.len() {
            if self.hosts[number].routers.is_some() {
                self.stop(number);
            }
        }
    }
}

#[test]
fn routers_on_a_lan_that_falls_apart() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let (only, count) = (number("LVX_SEED"), number("LVX_SEEDS").unwrap_or(SEEDS));
    let seeds = only.map_or(0..count, |seed| seed..seed + 1);
    let mut packets = 0;
    for seed in seeds {
        let mut lan = Lan::new(seed, only.is_some());
        lan.run();
        packets += lan.sent;
    }
    assert!(packets > 100, "{packets} packets were sent");
}

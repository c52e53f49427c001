//! Tracked scripts, files and processes: what they say is sent to the VRRP thread, when it changes.
//!
//! # Limits
//! Files are looked at every [`FILE_PERIOD`], processes every [`PROCESS_PERIOD`].
//!
//! - **Deviation**: BFD is not spoken; a `track_bfd` counts as up, and is said so.

use std::collections::BTreeSet;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::base::Duration;
use crate::config::Configuration;
use crate::config::model::track::ArgumentMatch;
use crate::config::model::{TrackFile, TrackProcess, TrackScript};
use crate::host::vrrp::helper::Tasks;
use crate::host::vrrp::helper::run::{Outcome, run_for};
use crate::host::vrrp::{Command, Commands};
use crate::vrrp::{Name, Reading, Tracker};

/// How often tracked files are read.
pub const FILE_PERIOD: Duration = Duration::from_millis(100);
/// How often processes are counted.
pub const PROCESS_PERIOD: Duration = Duration::from_millis(500);
/// Octets of a tracked file that are read.
const FILE_OCTETS: usize = 128;

/// Everything that is watched.
pub struct Trackers {
    commands: Commands,
    scripts: Tasks<TrackScript>,
    files: Tasks<TrackFile>,
    processes: Tasks<TrackProcess>,
    bfd: BTreeSet<Name>,
}

impl Trackers {
    pub fn new(commands: Commands) -> Self {
        let (scripts, files, processes) = (Tasks::new(), Tasks::new(), Tasks::new());
        Self { commands, scripts, files, processes, bfd: BTreeSet::new() }
    }

    /// Watches what instances and groups track.
    pub fn reconfigure(&mut self, configuration: &Configuration) {
        let vrrp = &configuration.vrrp;
        let tracks = vrrp.instances.iter().flat_map(|it| &it.tracks);
        let tracks = tracks.chain(vrrp.groups.iter().flat_map(|it| &it.tracks));
        let tracked: BTreeSet<Tracker> = tracks.map(|track| track.tracker.clone()).collect();
        let is_tracked = |tracker: Tracker| tracked.contains(&tracker);
        let scripts = configuration.scripts.iter().filter(|it| is_tracked(Tracker::Script(it.name.clone())));
        let commands = self.commands.clone();
        self.scripts.level(scripts.map(|it| (&it.name, it)), |script| {
            tokio::task::spawn_local(watch_script(script, commands.clone()))
        });
        let files = configuration.files.iter().filter(|it| is_tracked(Tracker::File(it.name.clone())));
        self.files
            .level(files.map(|it| (&it.name, it)), |file| tokio::task::spawn_local(watch_file(file, commands.clone())));
        let processes = configuration.processes.iter().filter(|it| is_tracked(Tracker::Process(it.name.clone())));
        self.processes.level(processes.map(|it| (&it.name, it)), |process| {
            tokio::task::spawn_local(watch_process(process, commands.clone()))
        });
        for tracker in tracked {
            if let Tracker::Bfd(name) = tracker
                && self.bfd.insert(name.clone())
            {
                tracing::warn!("BFD is not supported: track_bfd {name} counts as up");
                self.commands.send(Command::Reading(Tracker::Bfd(name), Reading::Up));
            }
        }
    }

    /// Watches nothing any more.
    pub fn end(&mut self) {
        self.scripts.end();
        self.files.end();
        self.processes.end();
    }
}

/// Good and bad results in a row, as `rise` and `fall` have them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Streak {
    rise: u32,
    fall: u32,
    /// Nothing is said before the first result.
    is_up: Option<bool>,
    /// Results in a row that speak against what was said.
    against: u32,
}

impl Streak {
    pub fn new(rise: u32, fall: u32, starts_failed: bool) -> Self {
        Self { rise: rise.max(1), fall: fall.max(1), is_up: starts_failed.then_some(false), against: 0 }
    }

    /// Takes a result; what is to be said because of it.
    pub fn take(&mut self, is_good: bool) -> Option<bool> {
        let is_news = match self.is_up {
            // The first one counts for itself.
            None => true,
            Some(is_up) if is_up == is_good => {
                self.against = 0;
                false
            }
            Some(_) => {
                self.against += 1;
                self.against >= if is_good { self.rise } else { self.fall }
            }
        };
        if is_news {
            (self.is_up, self.against) = (Some(is_good), 0);
        }
        is_news.then_some(is_good)
    }
}

async fn watch_script(definition: TrackScript, commands: Commands) {
    let name = &definition.name;
    let tracker = || Tracker::Script(name.clone());
    let reading = |is_up| if is_up { Reading::Up } else { Reading::Down };
    let period = definition.interval.max(Duration::from_millis(1));
    let timeout = if definition.timeout.is_zero() { period } else { definition.timeout };
    let mut streak = Streak::new(definition.rise, definition.fall, definition.starts_failed);
    if definition.starts_failed {
        commands.send(Command::Reading(tracker(), Reading::Down));
    }
    let mut last = Outcome::Exited(0);
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let start = Instant::now();
        let outcome = run_for(&definition.script, timeout).await;
        let took = start.elapsed();
        let is_good = outcome == Outcome::Exited(0);
        if outcome != last {
            match outcome {
                Outcome::Exited(code) => tracing::info!("Script `{name}` now returning {code}"),
                Outcome::TimedOut => tracing::warn!("Script `{name}` now timing out after {timeout:?}"),
                other => tracing::warn!("Script `{name}`: {other:?}"),
            }
            last = outcome;
        }
        let Some(is_up) = streak.take(is_good) else { continue };
        if is_up {
            tracing::info!("VRRP_Script({name}) succeeded");
        } else {
            let how = match outcome {
                Outcome::Exited(code) => format!("exited with status {code}"),
                Outcome::Killed(signal) => format!("ended by signal {signal}"),
                Outcome::TimedOut => "timed out".to_owned(),
                Outcome::NotStarted => "could not be run".to_owned(),
            };
            tracing::warn!("VRRP_Script({name}) failed ({how}), after {} ms", took.as_millis());
        }
        commands.send(Command::Reading(tracker(), reading(is_up)));
    }
}

async fn watch_file(definition: TrackFile, commands: Commands) {
    let path = &*definition.path;
    if let Some(number) = definition.initial
        && (definition.overwrites || !std::path::Path::new(path).exists())
        && let Err(error) = std::fs::write(path, format!("{number}\n"))
    {
        tracing::warn!("track_file {path}: {error}");
    }
    let mut last = None;
    let mut ticks = interval(FILE_PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let value = read_start(path).map_or(0, |text| first_number(&text));
        if last != Some(value) {
            if last.is_some() {
                tracing::info!("File {} now has {value}", definition.name);
            }
            last = Some(value);
            commands.send(Command::Reading(Tracker::File(definition.name.clone()), Reading::Value(value)));
        }
    }
}

fn read_start(path: &str) -> Option<String> {
    let mut octets = Vec::new();
    let file = std::fs::File::open(path).ok()?;
    std::io::Read::read_to_end(&mut std::io::Read::take(file, FILE_OCTETS as u64), &mut octets).ok()?;
    Some(String::from_utf8_lossy(&octets).into_owned())
}

/// The number that a text begins with; 0 where there is none. What is beyond 32 bits is the nearest that is not.
pub(super) fn first_number(text: &str) -> i32 {
    let text = text.trim_start();
    let sign = usize::from(text.starts_with(['-', '+']));
    let digits = text[sign..].bytes().take_while(u8::is_ascii_digit).count();
    let number = &text[..sign + digits];
    match number.parse::<i64>() {
        Ok(number) => number.clamp(i32::MIN.into(), i32::MAX.into()) as i32,
        Err(_) if digits == 0 => 0,
        Err(_) if number.starts_with('-') => i32::MIN,
        Err(_) => i32::MAX,
    }
}

async fn watch_process(definition: TrackProcess, commands: Commands) {
    let mut said = None;
    // A change that is to be said when its delay is over.
    let mut pending: Option<(bool, Instant)> = None;
    let mut ticks = interval(PROCESS_PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        match pending {
            Some((_, at)) => tokio::select! {
                _ = ticks.tick() => {}
                () = sleep_until(at) => {}
            },
            None => {
                ticks.tick().await;
            }
        }
        let count = count(&definition);
        let is_up = count >= definition.quorum && definition.quorum_max.is_none_or(|most| count <= most);
        if said == Some(is_up) {
            pending = None;
            continue;
        }
        let delay = match said {
            None => Duration::ZERO,
            Some(_) if is_up => definition.fork_delay,
            Some(_) => definition.terminate_delay,
        };
        let at = match pending {
            Some((wanted, at)) if wanted == is_up => at,
            _ => Instant::now() + delay,
        };
        if Instant::now() < at {
            pending = Some((is_up, at));
            continue;
        }
        (said, pending) = (Some(is_up), None);
        let word = if is_up { "has" } else { "has not" };
        tracing::info!("Process {} {word} its quorum: {count} of {}", definition.name, definition.quorum);
        let reading = if is_up { Reading::Up } else { Reading::Down };
        commands.send(Command::Reading(Tracker::Process(definition.name.clone()), reading));
    }
}

fn count(definition: &TrackProcess) -> u32 {
    let Ok(entries) = std::fs::read_dir("/proc") else { return 0 };
    let processes = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok());
    let is_one = |entry: &std::fs::DirEntry| {
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { return false };
        let words: Vec<String> = line
            .split(|&octet| octet == 0)
            .filter(|word| !word.is_empty())
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect();
        if definition.compares_command || definition.arguments.is_some() {
            return matches(definition, &words);
        }
        // The kernel cuts the name; the command line has all of it, unless the process has changed that.
        let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        let program = definition.program.rsplit('/').next().unwrap_or_default();
        name.trim_end() == program.chars().take(15).collect::<String>()
    };
    u32::try_from(processes.filter(is_one).count()).unwrap_or(u32::MAX)
}

/// Whether a command line is the one that is looked for.
pub(super) fn matches(definition: &TrackProcess, words: &[String]) -> bool {
    let Some((program, arguments)) = words.split_first() else { return false };
    let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let is_program = if definition.compares_command {
        *program == *definition.program
    } else {
        last(program) == last(&definition.program)
    };
    let Some(wanted) = definition.arguments.as_ref().filter(|_| is_program) else { return is_program };
    let same = |count: usize| wanted[..count].iter().zip(arguments).all(|(wanted, word)| **wanted == **word);
    match definition.matching {
        ArgumentMatch::Exact => wanted.len() == arguments.len() && same(wanted.len()),
        ArgumentMatch::Initial => wanted.len() <= arguments.len() && same(wanted.len()),
        ArgumentMatch::Partial => match wanted.split_last() {
            None => true,
            Some((end, start)) => {
                let at = start.len();
                same(at) && arguments.get(at).is_some_and(|word| word.starts_with(&**end))
            }
        },
    }
}

//! `vrrp_script`, `vrrp_track_process`, `track_file`: what may be watched.

use crate::base::Duration;
use crate::config::blocks::{Node, Value};
use crate::config::language::escaped_words;
use crate::config::meaning::script::Found;
use crate::config::meaning::{Context, name};
use crate::config::model::track::ArgumentMatch;
use crate::config::model::{Identity, Script, TrackFile, TrackProcess, TrackScript};

/// The longest interval of a script, seconds.
const INTERVAL_MAX_S: u32 = 4294;
/// The longest delay of a process, microseconds.
const DELAY_MAX_US: u64 = 3_600_000_000;

impl Context<'_> {
    /// A `vrrp_script`. keepalived's last definition of a name counts for all.
    pub fn read_script(&mut self, node: &Node<'_>) {
        let own = node.word(0);
        let mut track = TrackScript {
            name: name(own),
            script: Script { words: Vec::new(), identity: Identity::default(), is_shell_line: false },
            interval: Duration::from_secs(1),
            timeout: Duration::ZERO,
            weight: 0,
            is_reversed: false,
            rise: 1,
            fall: 1,
            starts_failed: false,
        };
        let mut line = None;
        let mut user = None;
        for child in &node.children {
            let value = child.value(0);
            match child.name() {
                "script" => {
                    line = (!child.word(0).is_empty()).then(|| child.value(0));
                    user = if child.words.len() > 1 { Some(child) } else { user };
                }
                "user" => user = Some(child),
                "interval" => {
                    if let Some(seconds) = self.script_seconds(own, "interval", &value, " must be between 1 and 4294") {
                        track.interval = seconds;
                    }
                }
                "timeout" => {
                    track.timeout = Duration::from_secs(1);
                    if let Some(seconds) = self.script_seconds(own, "timeout", &value, " invalid") {
                        track.timeout = seconds;
                    }
                }
                "weight" => {
                    let text = format!("vrrp_script {own} weight {} must be in [-253, 253]", value.text);
                    let unknown = format!("vrrp_script {own} unknown weight option {}", child.word(1));
                    (track.weight, track.is_reversed) = self.weight(child, 253, 0, text, unknown);
                }
                word @ ("rise" | "fall") => {
                    let number = self.unsigned(&value, 1, i32::MAX as u32);
                    if number.is_none() {
                        let text =
                            format!("({own}): vrrp script {word} value '{}' invalid, defaulting to 1", value.text);
                        self.messages.flaw_at(value.at, text);
                    }
                    *(if word == "rise" { &mut track.rise } else { &mut track.fall }) = number.unwrap_or(1);
                }
                _ => track.starts_failed = true,
            }
        }
        let Some(line) = line else {
            let text = format!("No script set for vrrp_script {own} - removing");
            return self.messages.flaw_at(node.at_end(), text);
        };
        let identity = match user {
            Some(child) => {
                let shift = usize::from(child.name() == "script");
                let group = child.words.get(shift + 1).map(|word| word.text.as_str());
                let identity = self.identity(child.word(shift), group);
                if identity.is_none() {
                    let text = format!("Unable to set uid/gid for script '{}'", line.text);
                    self.messages.flaw_at(child.at_word(shift), text);
                }
                identity
            }
            None => {
                let identity = self.default_identity(node.at_end());
                if identity.is_none() {
                    let text = format!("Unable to set default user for vrrp script {own} - removing");
                    self.messages.flaw_at(node.at_end(), text);
                }
                identity
            }
        };
        let Some(identity) = identity else { return };
        match self.find(line.text, identity) {
            Found::Runnable(script) => {
                track.script = script;
                self.configuration.scripts.retain(|other| other.name != track.name);
                self.configuration.scripts.push(track);
            }
            found => self.refuse_script(own, &found, &line),
        }
    }

    fn refuse_script(&mut self, own: &str, found: &Found, line: &Value<'_>) {
        self.hint_not_run(found, line.at.clone(), line.text);
        self.refused_scripts.insert(name(own));
        let why = match found {
            Found::Insecure => "due to insecure",
            Found::Missing => "since not found/accessible",
            Found::Runnable(_) | Found::NotExecutable => return,
        };
        self.messages.flaw(format!("Disabling track script {own} {why}"));
    }

    fn script_seconds(&mut self, own: &str, what: &str, value: &Value<'_>, must: &str) -> Option<Duration> {
        let Some(seconds) = self.unsigned(value, 0, INTERVAL_MAX_S) else {
            let text = format!("({own}): vrrp script {what} '{}'{must} - ignoring", value.text);
            self.messages.flaw_at(value.at.clone(), text);
            return None;
        };
        if seconds == 0 {
            let text = format!("({own}): vrrp script {what} must be greater than 0, setting to 1");
            self.messages.flaw_at(value.at.clone(), text);
        }
        Some(Duration::from_secs(u64::from(seconds.max(1))))
    }

    /// `weight N [reverse]`; `usual` where it is none.
    fn weight(&mut self, node: &Node<'_>, most: i32, usual: i32, refused: String, unknown: String) -> (i32, bool) {
        let weight = self.signed(&node.value(0), -most, most);
        if weight.is_none() {
            self.messages.flaw_at(node.at_word(0), refused);
        }
        match node.word(1) {
            "" => (weight.unwrap_or(usual), false),
            "reverse" => (weight.unwrap_or(usual), true),
            _ => {
                self.messages.flaw_at(node.at_word(1), unknown);
                (weight.unwrap_or(usual), false)
            }
        }
    }

    /// A `vrrp_track_process`.
    pub fn read_process(&mut self, node: &Node<'_>) {
        let own = node.word(0);
        let mut track = TrackProcess::new(name(own));
        let mut is_given = false;
        for child in &node.children {
            let value = child.value(0);
            match child.name() {
                "process" if is_given => {
                    let text = format!("Process already set for track process {own} - ignoring {}", value.text);
                    self.messages.flaw_at(value.at, text);
                }
                "process" => {
                    is_given = true;
                    track.program = name(value.text);
                    let arguments: Vec<_> = child.words.iter().skip(1).map(|word| name(&word.text)).collect();
                    track.compares_command |= !arguments.is_empty();
                    track.arguments = (!arguments.is_empty()).then_some(arguments);
                }
                "param_match" => match value.text {
                    "" | "exact" => {}
                    "initial" => track.matching = ArgumentMatch::Initial,
                    "partial" => track.matching = ArgumentMatch::Partial,
                    other => {
                        let text = format!("Invalid param_match type {other} - ignoring");
                        self.messages.flaw_at(value.at, text);
                    }
                },
                "weight" => {
                    let text = format!(
                        "Weight ({}) for vrrp_track_process {own} must be between [-254..254] inclusive. Ignoring...",
                        value.text
                    );
                    let unknown = format!("vrrp_track_process {own} unknown weight option {}", child.word(1));
                    (track.weight, track.is_reversed) = self.weight(child, 254, 0, text, unknown);
                }
                "quorum" => match self.unsigned(&value, 1, 65_535) {
                    Some(quorum) => track.quorum = quorum,
                    None => {
                        let text = format!(
                            "Quorum ({}) for vrrp_track_process {own} must be between [1..65535] inclusive. Ignoring...",
                            value.text
                        );
                        self.messages.flaw_at(value.at, text);
                    }
                },
                "quorum_max" => match self.unsigned(&value, 0, 65_535) {
                    Some(most) if most > 0 && most < track.quorum => {
                        self.messages.flaw_at(value.at, "quorum_max is less than quorum - ignoring");
                    }
                    Some(most) => track.quorum_max = Some(most),
                    None => {
                        let text = format!(
                            "quorum_max ({}) for vrrp_track_process {own} must be between [0..65535] inclusive. Ignoring...",
                            value.text
                        );
                        self.messages.flaw_at(value.at, text);
                    }
                },
                word @ ("delay" | "fork_delay" | "terminate_delay") => {
                    let Some(delay) = self.process_delay(own, word, &value) else { continue };
                    if word != "terminate_delay" {
                        track.fork_delay = delay;
                    }
                    if word != "fork_delay" {
                        track.terminate_delay = delay;
                    }
                }
                _ => track.compares_command = true,
            }
        }
        if !is_given {
            let text = format!("track process '{own}' process name not specified");
            return self.messages.flaw_at(node.at_end(), text);
        }
        self.configuration.processes.retain(|other| other.name != track.name);
        self.configuration.processes.push(track);
    }

    fn process_delay(&mut self, own: &str, word: &str, value: &Value<'_>) -> Option<Duration> {
        let delay = self.seconds(value, 1, DELAY_MAX_US);
        if delay.is_none() {
            let text = format!(
                "{word} ({}) for vrrp_track_process {own} must be between [0.000001..3600] inclusive. Ignoring...",
                value.text
            );
            self.messages.flaw_at(value.at.clone(), text);
        }
        delay
    }

    /// A `track_file`.
    pub fn read_file(&mut self, node: &Node<'_>) {
        let own = node.word(0);
        let mut track = TrackFile {
            name: name(own),
            path: name(""),
            weight: 1,
            is_reversed: false,
            initial: None,
            overwrites: false,
        };
        for child in &node.children {
            match child.name() {
                "file" => match escaped_words(child.rest()).ok().and_then(|words| words.into_iter().next()) {
                    Some(path) => track.path = name(&path.text),
                    None => self.messages.flaw_at(child.at(), "track file file name missing"),
                },
                "weight" => {
                    let text = format!(
                        "Weight ({}) for track_file {own} must be between [-254..254] inclusive. Ignoring...",
                        child.word(0)
                    );
                    let unknown = format!("unknown track file weight option {} - ignoring", child.word(1));
                    (track.weight, track.is_reversed) = self.weight(child, 254, 1, text, unknown);
                }
                _ => {
                    track.initial = Some(track.initial.unwrap_or(0));
                    for index in 0..child.words.len() {
                        let value = child.value(index);
                        match (value.text, value.text.parse::<i64>()) {
                            ("overwrite", _) => track.overwrites = true,
                            (_, Ok(number)) => track.initial = Some(number),
                            (other, Err(_)) => {
                                let text = format!("Unknown track file init option {other}");
                                self.messages.flaw_at(value.at, text);
                            }
                        }
                    }
                }
            }
        }
        if track.path.is_empty() {
            let text = format!("No file set for track_file {own} - ignoring");
            return self.messages.flaw_at(node.at_end(), text);
        }
        self.configuration.files.retain(|other| other.name != track.name);
        self.configuration.files.push(track);
    }
}

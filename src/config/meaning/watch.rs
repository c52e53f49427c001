//! `track_interface`, `track_script`, `track_file`, `track_process`, `track_bfd` of instances and groups.

use crate::config::blocks::{Entry, Node, Value};
use crate::config::meaning::{Context, name};
use crate::vrrp::{Track, Tracker};

impl Context<'_> {
    /// Reads the lines of a block of trackers of `owner` into `tracks`.
    pub fn read_tracks(&mut self, owner: &str, node: &Node<'_>, tracks: &mut Vec<Track>) {
        for entry in &node.entries {
            let first = node.entry_value(entry, 0);
            let Some((tracker, weight, is_reversed)) = self.tracker(owner, node.name(), &first) else { continue };
            if tracks.iter().any(|track| track.tracker == tracker) {
                let text = format!("({owner}) duplicate {} {} - ignoring", node.name(), first.text);
                self.messages.flaw_at(first.at, text);
                continue;
            }
            let mut track = Track { tracker, weight, is_reversed };
            if self.track_options(owner, node, entry, &mut track) {
                tracks.push(track);
            }
        }
    }

    /// What a line watches, with the weight of its definition.
    fn tracker(&mut self, owner: &str, keyword: &str, first: &Value<'_>) -> Option<(Tracker, i32, bool)> {
        let wanted = first.text;
        let configuration = &self.configuration;
        let (what, found) = match keyword {
            "track_interface" => {
                if !self.has_interface(wanted) {
                    let text = format!("({owner}) tracked interface {wanted} doesn't exist");
                    self.messages.flaw_at(first.at.clone(), text);
                    self.miss_interface();
                }
                return Some((Tracker::Interface(name(wanted)), 0, false));
            }
            "track_script" => {
                let found = configuration.scripts.iter().find(|it| &*it.name == wanted);
                ("script", found.map(|it| (Tracker::Script(it.name.clone()), it.weight, it.is_reversed)))
            }
            "track_file" => {
                let found = configuration.files.iter().find(|it| &*it.name == wanted);
                ("file", found.map(|it| (Tracker::File(it.name.clone()), it.weight, it.is_reversed)))
            }
            "track_process" => {
                let found = configuration.processes.iter().find(|it| &*it.name == wanted);
                ("process", found.map(|it| (Tracker::Process(it.name.clone()), it.weight, it.is_reversed)))
            }
            _ => {
                let found = configuration.bfd_instances.iter().find(|it| &*it.name == wanted);
                ("bfd", found.map(|it| (Tracker::Bfd(it.name.clone()), it.weight, it.is_reversed)))
            }
        };
        // A script whose program is not there is known, and watches nothing.
        if found.is_none() && !(keyword == "track_script" && self.refused_scripts.contains(wanted)) {
            let text = format!("({owner}) track {what} {wanted} not found, ignoring...");
            self.messages.flaw_at(first.at.clone(), text);
        }
        found
    }

    /// The words after the name; false when the line is left out.
    fn track_options(&mut self, owner: &str, node: &Node<'_>, entry: &Entry, track: &mut Track) -> bool {
        let wanted = entry.word(0);
        let keyword = node.name();
        let what = keyword.replace('_', " ");
        let mut index = 1;
        while index < entry.words.len() {
            let word = node.entry_value(entry, index);
            index += 1;
            match word.text {
                "weight" if index >= entry.words.len() => {
                    let what = if keyword == "track_interface" { keyword } else { &what };
                    let text = format!("({owner}) weight without value specified for {what} {wanted} - ignoring");
                    self.messages.flaw_at(word.at, text);
                    return true;
                }
                "weight" => {
                    let value = node.entry_value(entry, index);
                    index += 1;
                    let most = if keyword == "track_bfd" { 253 } else { 254 };
                    match self.signed(&value, -most, most) {
                        Some(weight) => track.weight = weight,
                        None => {
                            let text = weight_text(owner, keyword, wanted, value.text);
                            self.messages.flaw_at(value.at, text);
                        }
                    }
                }
                "reverse" => track.is_reversed = true,
                "noreverse" => track.is_reversed = false,
                other => {
                    let text = match keyword {
                        "track_interface" | "track_bfd" => {
                            let what = if keyword == "track_bfd" { "track bfd" } else { keyword };
                            format!("({owner}) unknown {what} {wanted} option {other} - ignoring")
                        }
                        _ => format!("({owner}) unknown {what} option {other} - ignoring"),
                    };
                    self.messages.flaw_at(word.at, text);
                }
            }
        }
        true
    }
}

/// keepalived's words for a weight that is none.
fn weight_text(owner: &str, keyword: &str, wanted: &str, weight: &str) -> String {
    match keyword {
        "track_interface" => {
            format!("({owner}) weight {weight} for {wanted} must be between [-253..253] inclusive. Ignoring...")
        }
        "track_script" => {
            format!("({owner}) track script {wanted}: weight must be between [-253..253] inclusive, ignoring...")
        }
        "track_bfd" => format!("({owner}) weight for track bfd {wanted} must be in [-253..253] inclusive. Ignoring..."),
        _ => {
            let what = keyword.replace('_', " ");
            format!("({owner}) weight for {what} {wanted} must be in [-254..254] inclusive. Ignoring...")
        }
    }
}

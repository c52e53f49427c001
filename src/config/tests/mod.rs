//! Whole configurations: recorded verdicts, limits, random files.

mod documented;
mod golden;
mod language;
mod random;
mod refused;
mod samples;

use std::collections::BTreeMap;

use crate::base::Address;
use crate::config::language::matches_glob;
use crate::config::model::Identity;
use crate::config::source::{FileFacts, InterfaceFacts, ReadFailure, Source};
use crate::config::{Invocation, Reading, read};

/// A machine made of tables.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Texts by path.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Programs by path: owner and mode.
    pub programs: BTreeMap<String, (u32, u32)>,
    /// Interfaces with an address.
    pub interfaces: BTreeMap<String, Address>,
}

impl Table {
    /// A machine like the one of the recordings: eth0 and eth1, and a few programs.
    pub fn new() -> Self {
        let mut table = Self::default();
        for (index, name) in ["eth0", "eth1"].into_iter().enumerate() {
            table.interfaces.insert(name.to_owned(), Address::v4(0x0afa_0001 + ((index as u32) << 8)));
        }
        table.interfaces.insert("lo".to_owned(), Address::v4(0x7f00_0001));
        for program in ["echo", "true", "false", "killall"] {
            table.programs.insert(format!("/usr/bin/{program}"), (0, 0o755));
        }
        table
    }

    /// The same with a text.
    pub fn with(mut self, path: &str, text: &str) -> Self {
        self.files.insert(path.to_owned(), text.as_bytes().to_vec());
        self
    }
}

impl Source for Table {
    fn read(&self, path: &str) -> Result<Vec<u8>, ReadFailure> {
        self.files.get(path).cloned().ok_or(ReadFailure::Missing)
    }

    fn glob(&self, pattern: &str) -> Vec<String> {
        self.files.keys().filter(|path| matches_glob(pattern, path)).cloned().collect()
    }

    fn file(&self, path: &str) -> Option<(String, FileFacts)> {
        let facts = |user, mode, is_file| FileFacts { user, group: 0, mode, is_file, is_directory: !is_file };
        if self.files.contains_key(path) {
            return Some((path.to_owned(), facts(0, 0o644, true)));
        }
        let real = path.strip_prefix("/bin/").map_or_else(|| path.to_owned(), |name| format!("/usr/bin/{name}"));
        if let Some(&(user, mode)) = self.programs.get(&real) {
            return Some((real, facts(user, mode, true)));
        }
        let below = format!("{}/", path.trim_end_matches('/'));
        let is_directory = self.files.keys().chain(self.programs.keys()).any(|other| other.starts_with(&below));
        is_directory.then(|| (path.to_owned(), facts(0, 0o755, false)))
    }

    fn interface(&self, name: &str) -> Option<InterfaceFacts> {
        let address = self.interfaces.get(name)?;
        Some(InterfaceFacts { index: 2, addresses: vec![*address] })
    }

    fn user(&self, name: &str) -> Option<Identity> {
        match name {
            "root" | "0" => Some(Identity { user: 0, group: 0 }),
            "daemon" => Some(Identity { user: 1, group: 1 }),
            _ => None,
        }
    }

    fn group(&self, name: &str) -> Option<u32> {
        match name {
            "root" => Some(0),
            "bin" => Some(2),
            _ => None,
        }
    }

    fn address_of_host(&self, _name: &str) -> Option<Address> {
        None
    }

    fn host_name(&self) -> String {
        "vm.example".to_owned()
    }

    fn command_path(&self) -> Vec<String> {
        vec!["/usr/bin".to_owned()]
    }

    fn seed(&self) -> u64 {
        7
    }
}

/// Reads a text with the usual machine.
pub fn read_text(text: &str) -> Reading {
    read(&Table::new().with("/bench/test.conf", text), &invocation("/bench/test.conf", None))
}

/// How a file is read.
pub fn invocation(file: &str, identity: Option<&str>) -> Invocation {
    Invocation { file: file.to_owned(), identity: identity.map(str::to_owned) }
}

/// keepalived's words of all messages.
pub fn texts(reading: &Reading) -> Vec<&str> {
    reading.messages.iter().map(|message| message.text.as_str()).filter(|text| !text.is_empty()).collect()
}

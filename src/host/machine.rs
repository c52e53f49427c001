//! The machine that a keepalived.conf is for: files, users, interfaces.
//!
//! # Limits
//! Users and groups are those of `/etc/passwd` and `/etc/group`, not those of a directory service.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::net::ToSocketAddrs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use crate::base::Address;
use crate::config::language::matches_glob;
use crate::config::model::Identity;
use crate::config::source::{FILE_OCTETS_MAX, FileFacts, InterfaceFacts, ReadFailure, Source};
use crate::host::sys;

/// Paths that a pattern may match.
const MATCHES_MAX: usize = 8192;

/// The machine, its interfaces as they were when this was made.
pub struct Machine {
    interfaces: BTreeMap<String, InterfaceFacts>,
    users: Vec<(String, Identity)>,
    groups: Vec<(String, u32)>,
}

impl Machine {
    /// Asks the kernel for interfaces, and the files for users and groups.
    pub fn now() -> Self {
        let mut interfaces: BTreeMap<String, InterfaceFacts> = BTreeMap::new();
        for (name, address) in sys::interface_addresses() {
            let facts = interfaces.entry(name).or_default();
            facts.addresses.extend(address.map(Address::from));
        }
        for (position, facts) in interfaces.values_mut().enumerate() {
            facts.index = position as u32 + 1;
        }
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self { interfaces, users: users(&text("/etc/passwd")), groups: groups(&text("/etc/group")) }
    }
}

/// Lines `name:x:UID:GID:…`.
fn users(text: &str) -> Vec<(String, Identity)> {
    let lines = text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        let (user, group) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        Some((name, Identity { user, group }))
    });
    lines.collect()
}

/// Lines `name:x:GID:…`.
fn groups(text: &str) -> Vec<(String, u32)> {
    let lines = text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        Some((name, fields.nth(1)?.parse().ok()?))
    });
    lines.collect()
}

impl Source for Machine {
    fn read(&self, path: &str) -> Result<Vec<u8>, ReadFailure> {
        let failure = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => ReadFailure::Missing,
            _ => ReadFailure::Other(error.to_string()),
        };
        let metadata = fs::metadata(path).map_err(failure)?;
        let kind = metadata.file_type();
        if kind.is_dir() {
            return Err(ReadFailure::Directory);
        }
        // A pipe is fine (a shell's `<(…)`); a device is not.
        if !kind.is_file() && !kind.is_fifo() {
            return Err(ReadFailure::NotAFile);
        }
        let mut octets = Vec::new();
        let file = fs::File::open(path).map_err(failure)?;
        file.take(FILE_OCTETS_MAX as u64 + 1).read_to_end(&mut octets).map_err(failure)?;
        if octets.len() > FILE_OCTETS_MAX { Err(ReadFailure::TooLarge) } else { Ok(octets) }
    }

    fn glob(&self, pattern: &str) -> Vec<String> {
        let mut found = vec![if pattern.starts_with('/') { "/".to_owned() } else { String::new() }];
        for part in pattern.split('/').filter(|part| !part.is_empty()) {
            let mut next = Vec::new();
            for directory in &found {
                next.extend(entries(directory, part));
                next.truncate(MATCHES_MAX);
            }
            found = next;
        }
        found.sort_unstable();
        found
    }

    fn file(&self, path: &str) -> Option<(String, FileFacts)> {
        let metadata = fs::metadata(path).ok()?;
        let real = fs::canonicalize(path).ok()?.to_str()?.to_owned();
        let facts = FileFacts {
            user: metadata.uid(),
            group: metadata.gid(),
            mode: metadata.mode() & 0o7777,
            is_file: metadata.is_file(),
            is_directory: metadata.is_dir(),
        };
        Some((real, facts))
    }

    fn interface(&self, name: &str) -> Option<InterfaceFacts> {
        self.interfaces.get(name).cloned()
    }

    fn user(&self, name: &str) -> Option<Identity> {
        let number = name.parse::<u32>().ok();
        let is_meant = |(own, identity): &&(String, Identity)| own == name || number == Some(identity.user);
        self.users.iter().find(is_meant).map(|(_, identity)| *identity)
    }

    fn group(&self, name: &str) -> Option<u32> {
        let number = name.parse::<u32>().ok();
        self.groups.iter().find(|(own, group)| own == name || number == Some(*group)).map(|(_, group)| *group)
    }

    fn address_of_host(&self, name: &str) -> Option<Address> {
        (name, 0).to_socket_addrs().ok()?.next().map(|address| address.ip().into())
    }

    fn host_name(&self) -> String {
        fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
    }

    fn command_path(&self) -> Vec<String> {
        let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
        path.split(':').filter(|directory| !directory.is_empty()).map(str::to_owned).collect()
    }

    fn seed(&self) -> u64 {
        u64::from(std::process::id()) ^ std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0)
    }
}

/// What in a directory matches a part of a pattern.
fn entries(directory: &str, part: &str) -> Vec<String> {
    let join = |name: &str| match directory {
        "" => name.to_owned(),
        _ if directory.ends_with('/') => format!("{directory}{name}"),
        _ => format!("{directory}/{name}"),
    };
    if !part.contains(['*', '?', '[']) {
        let path = join(part);
        return if Path::new(&path).exists() { vec![path] } else { Vec::new() };
    }
    let listed = fs::read_dir(if directory.is_empty() { "." } else { directory });
    let names = listed.into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let is_hidden_asked = part.starts_with('.');
    names
        .filter(|name| (is_hidden_asked || !name.starts_with('.')) && matches_glob(part, name))
        .map(|name| join(&name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_known() {
        let machine = Machine::now();
        assert_eq!(machine.user("root"), Some(Identity { user: 0, group: 0 }));
        assert_eq!(machine.user("0"), machine.user("root"));
        assert!(machine.interface("lo").is_some() && machine.interface("no such").is_none());
        let (path, facts) = machine.file("/etc/passwd").expect("it is there");
        assert!(facts.is_file && path.ends_with("passwd"));
        assert_eq!(machine.glob("/etc/pass[w]?"), ["/etc/passwd"]);
        assert_eq!(machine.read("/"), Err(ReadFailure::Directory));
        assert_eq!(machine.read("/dev/null"), Err(ReadFailure::NotAFile));
        assert_eq!(machine.read("/no/such"), Err(ReadFailure::Missing));
    }

    #[test]
    fn users_and_groups_are_lines() {
        assert_eq!(users("a:x:1:2:A:/:/bin/sh\nbroken\n"), [("a".to_owned(), Identity { user: 1, group: 2 })]);
        assert_eq!(groups("g:x:7:a,b\n:\n"), [("g".to_owned(), 7)]);
    }
}

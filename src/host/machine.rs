//! What a configuration asks of this machine: files, users, interfaces, names.

use std::fs;
use std::io::Read;
use std::net::ToSocketAddrs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::base::Address;
use crate::config::model::Identity;
use crate::config::source::{FILE_OCTETS_MAX, FileFacts, InterfaceFacts, ReadFailure, Source};
use crate::host::sys;
use crate::host::vrrp::interfaces;

/// Where users and groups are.
const USERS: &str = "/etc/passwd";
const GROUPS: &str = "/etc/group";
/// Where commands are looked for when `PATH` says nothing.
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The machine that we run on, its interfaces as they were when this was made.
pub struct Machine {
    interfaces: Vec<(String, InterfaceFacts)>,
    seed: u64,
}

impl Machine {
    /// Asks for the interfaces. Without them, as where netlink is refused, there are none.
    pub fn new(seed: u64) -> Self {
        Self { interfaces: interfaces().unwrap_or_default(), seed }
    }
}

/// A line of a file with fields: by its name, or by the number in the third field.
fn find_line(path: &str, name: &str) -> Option<Vec<String>> {
    let text = fs::read_to_string(path).ok()?;
    let mut lines = text.lines().map(|line| line.split(':').map(str::to_owned).collect::<Vec<_>>());
    lines.find(|fields| fields.len() > 2 && (fields[0] == name || fields[2] == name))
}

impl Source for Machine {
    fn read(&self, path: &str) -> Result<Vec<u8>, ReadFailure> {
        let other = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => ReadFailure::Missing,
            _ => ReadFailure::Other(error.to_string()),
        };
        let found = fs::metadata(path).map_err(other)?;
        if found.is_dir() {
            return Err(ReadFailure::Directory);
        }
        if !found.is_file() || found.permissions().mode() & 0o111 != 0 {
            return Err(ReadFailure::NotAFile);
        }
        let mut octets = Vec::new();
        let file = fs::File::open(path).map_err(other)?;
        file.take(FILE_OCTETS_MAX as u64 + 1).read_to_end(&mut octets).map_err(other)?;
        if octets.len() > FILE_OCTETS_MAX { Err(ReadFailure::TooLarge) } else { Ok(octets) }
    }

    fn glob(&self, pattern: &str) -> Vec<String> {
        sys::glob(pattern)
    }

    fn file(&self, path: &str) -> Option<(String, FileFacts)> {
        let whole = fs::canonicalize(Path::new(path)).ok()?;
        let found = fs::metadata(&whole).ok()?;
        let facts = FileFacts {
            user: found.uid(),
            group: found.gid(),
            mode: found.permissions().mode() & 0o7777,
            is_file: found.is_file(),
            is_directory: found.is_dir(),
        };
        Some((whole.to_string_lossy().into_owned(), facts))
    }

    fn interface(&self, name: &str) -> Option<InterfaceFacts> {
        self.interfaces.iter().find(|(known, _)| known == name).map(|(_, facts)| facts.clone())
    }

    fn user(&self, name: &str) -> Option<Identity> {
        match find_line(USERS, name) {
            Some(fields) => Some(Identity { user: fields[2].parse().ok()?, group: fields.get(3)?.parse().ok()? }),
            // A number needs no name.
            None => name.parse().ok().map(|user| Identity { user, group: user }),
        }
    }

    fn group(&self, name: &str) -> Option<u32> {
        match find_line(GROUPS, name) {
            Some(fields) => fields[2].parse().ok(),
            None => name.parse().ok(),
        }
    }

    fn address_of_host(&self, name: &str) -> Option<Address> {
        (name, 0).to_socket_addrs().ok()?.next().map(|socket| socket.ip().into())
    }

    fn host_name(&self) -> String {
        rustix::system::uname().nodename().to_string_lossy().into_owned()
    }

    fn command_path(&self) -> Vec<String> {
        let path = std::env::var("PATH").unwrap_or_else(|_| PATH_DEFAULT.to_owned());
        path.split(':').filter(|directory| !directory.is_empty()).map(str::to_owned).collect()
    }

    fn seed(&self) -> u64 {
        self.seed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_root_and_a_name() {
        let machine = Machine::new(7);
        assert_eq!(machine.user("root"), Some(Identity { user: 0, group: 0 }));
        assert_eq!(machine.user("0"), Some(Identity { user: 0, group: 0 }));
        assert_eq!((machine.group("root"), machine.group("no such group")), (Some(0), None));
        assert!(!machine.host_name().is_empty());
        assert_eq!(machine.address_of_host("127.0.0.1"), Some(Address::v4(0x7f00_0001)));
    }

    #[test]
    fn files_are_read_found_and_refused() {
        let directory = std::env::temp_dir().join(format!("lvx-machine-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        for name in ["b.conf", "a.conf", "c.txt"] {
            fs::write(directory.join(name), name).unwrap();
        }
        let path = |name: &str| directory.join(name).to_string_lossy().into_owned();
        let machine = Machine::new(7);
        assert_eq!(machine.read(&path("a.conf")), Ok(b"a.conf".to_vec()));
        assert_eq!(machine.read(&path("none")), Err(ReadFailure::Missing));
        assert_eq!(machine.read(&path("")), Err(ReadFailure::Directory));
        assert_eq!(machine.glob(&path("*.conf")), [path("a.conf"), path("b.conf")]);
        assert_eq!(machine.glob(&path("{c.txt,a.conf}")), [path("a.conf"), path("c.txt")]);
        assert!(machine.glob(&path("*.none")).is_empty());
        let (whole, facts) = machine.file(&path("./a.conf")).unwrap();
        assert!(whole.ends_with("/a.conf") && facts.is_file && !facts.is_directory);
        fs::remove_dir_all(&directory).unwrap();
    }
}

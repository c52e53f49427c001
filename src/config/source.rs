//! What a configuration needs to know of the machine that it is for.

use crate::base::Address;
use crate::config::model::Identity;

/// How a configuration is to be read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Invocation {
    /// The file, as it was named.
    pub file: String,
    /// `-i`, `--config-id`; else the first label of the host's name.
    pub identity: Option<String>,
}

/// Why a file has no text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReadFailure {
    /// There is none of this name.
    Missing,
    /// A directory.
    Directory,
    /// Not an ordinary file, or one that can be executed.
    NotAFile,
    /// More octets than [`crate::config::source::FILE_OCTETS_MAX`].
    TooLarge,
    /// Anything else, in the system's words.
    Other(String),
}

/// Octets of one file.
pub const FILE_OCTETS_MAX: usize = 16 << 20;

/// What kind of thing a path leads to, and who may change it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileFacts {
    /// User who owns it.
    pub user: u32,
    /// Its group.
    pub group: u32,
    /// Permissions: the low 12 bits of `st_mode`.
    pub mode: u32,
    /// An ordinary file.
    pub is_file: bool,
    /// A directory.
    pub is_directory: bool,
}

/// An interface of the machine.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct InterfaceFacts {
    /// The kernel's number.
    pub index: u32,
    /// Its addresses, the kernel's order.
    pub addresses: Vec<Address>,
}

/// The machine. `host` has the real one, tests have tables.
pub trait Source {
    /// The octets of a file.
    ///
    /// # Errors
    /// Why there are none.
    fn read(&self, path: &str) -> Result<Vec<u8>, ReadFailure>;

    /// The paths that match a glob(7) pattern, braces included, sorted; none when nothing matches.
    fn glob(&self, pattern: &str) -> Vec<String>;

    /// The path without symbolic links, `.` and `..`, and what is there.
    fn file(&self, path: &str) -> Option<(String, FileFacts)>;

    /// An interface by name.
    fn interface(&self, name: &str) -> Option<InterfaceFacts>;

    /// A user of the machine, by name or number, with its first group.
    fn user(&self, name: &str) -> Option<Identity>;

    /// The number of a group of the machine, by name or number.
    fn group(&self, name: &str) -> Option<u32>;

    /// The first address of a host, `AF_UNSPEC`.
    fn address_of_host(&self, name: &str) -> Option<Address>;

    /// The machine's name, as `uname -n` has it.
    fn host_name(&self) -> String;

    /// The directories that commands without a slash are looked for in (`PATH`).
    fn command_path(&self) -> Vec<String>;

    /// A seed for `${_RANDOM}` where no `random_seed` gives one.
    fn seed(&self) -> u64;
}

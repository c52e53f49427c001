//! Programs that are run, and when.

use std::fmt;

use crate::vrrp::Name;

/// A user and a group of the machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Identity {
    /// Number of the user; 0 is root.
    pub user: u32,
    /// Number of the group.
    pub group: u32,
}

/// A program with its arguments. Run with `execve(2)`, not by a shell unless [`Script::is_shell_line`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Script {
    /// The program's path without symbolic links, and its arguments; at least one word.
    pub words: Vec<Name>,
    /// As whom it runs.
    pub identity: Identity,
    /// `words[0]` is a line for `/bin/sh -c`, and there are no other words: it begins with `<` or `>`, as in
    /// `</dev/tcp/127.0.0.1/80`.
    pub is_shell_line: bool,
}

impl Script {
    /// The program.
    pub fn program(&self) -> &str {
        self.words.first().map_or("", |word| word)
    }
}

/// As keepalived's dumps have it: each word in quotes.
impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_shell_line {
            return f.write_str(self.program());
        }
        for (index, word) in self.words.iter().enumerate() {
            let gap = if index == 0 { "" } else { " " };
            write!(f, "{gap}'{word}'")?;
        }
        Ok(())
    }
}

/// Whom an instance or a sync group tells of its changes. `notify` is told `INSTANCE|GROUP "name" STATE priority` after
/// its words, the others their own words alone.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Notifications {
    /// `notify_master`.
    pub master: Option<Script>,
    /// `notify_backup`.
    pub backup: Option<Script>,
    /// `notify_fault`.
    pub fault: Option<Script>,
    /// `notify_stop`: the daemon ends.
    pub stop: Option<Script>,
    /// `notify_deleted`: a reload removed the instance. Without it `notify_fault` is run unless
    /// [`crate::vrrp::InstanceConfig::tells_deleted`].
    pub deleted: Option<Script>,
    /// `notify_master_rx_lower_pri`: as Active, it heard one of lower priority.
    pub master_rx_lower_pri: Option<Script>,
    /// `notify`: every change.
    pub any: Option<Script>,
    /// `smtp_alert`: mails too; the defaults of `global_defs` are merged in.
    pub smtp_alert: bool,
    /// `notify_priority_changes`, of a group.
    pub tells_priority: bool,
}

//! Why a master cannot be asked for its table: the kernel, an older lvx, or one that has no room.

/// Why a master cannot be asked for its table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cannot {
    /// It takes no connections: the kernel, or an older lvx.
    Refuses,
    /// It does not answer.
    NoAnswer,
    /// What answers is no lvx.
    NotLvx,
    /// It speaks another version.
    Version,
    /// It is of another syncid.
    Syncid,
    /// It has as many backups as it may have.
    Busy,
    /// Its table came broken or different again and again.
    Failed,
}

impl Cannot {
    /// What it means, for the operator.
    pub const fn meaning(self) -> &'static str {
        match self {
            Cannot::Refuses => "it takes no connections (Linux, or an older lvx)",
            Cannot::NoAnswer => "it does not answer",
            Cannot::NotLvx => "what answers is no lvx",
            Cannot::Version => "it speaks another version",
            Cannot::Syncid => "it is of another syncid",
            Cannot::Busy => "it has as many backups as it may have",
            Cannot::Failed => "its table came broken or different again and again",
        }
    }
}

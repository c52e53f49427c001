//! FIFOs of notifications: made where they are not there, written without waiting.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, chown};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::config::model;
use crate::vrrp::Name;

/// The FIFOs that are written.
#[derive(Default)]
pub struct Fifos {
    open: Vec<Fifo>,
}

struct Fifo {
    path: Name,
    file: File,
    /// We made it, and take it away.
    is_ours: bool,
    /// Lines that nobody took.
    lost: u64,
}

impl Fifos {
    /// Opens these, closes others.
    pub fn open<'a>(&mut self, wished: impl Iterator<Item = &'a model::Fifo>) {
        let wished: Vec<&model::Fifo> = wished.collect();
        let (stays, gone): (Vec<Fifo>, Vec<Fifo>) =
            std::mem::take(&mut self.open).into_iter().partition(|it| wished.iter().any(|wish| wish.path == it.path));
        self.open = stays;
        gone.into_iter().for_each(Fifo::close);
        for wish in wished {
            if self.open.iter().any(|it| it.path == wish.path) {
                continue;
            }
            match Fifo::open(wish) {
                Ok(fifo) => self.open.push(fifo),
                Err(error) => tracing::warn!("FIFO {}: {error}", wish.path),
            }
        }
    }

    /// Writes a line into all of them; where nobody reads and the pipe is full, it is lost and counted.
    pub fn write(&mut self, line: &str) {
        for fifo in &mut self.open {
            // A line of fewer octets than PIPE_BUF is written whole or not at all.
            if fifo.file.write(line.as_bytes()).is_ok_and(|octets| octets == line.len()) {
                continue;
            }
            fifo.lost += 1;
            if fifo.lost.is_power_of_two() {
                tracing::warn!("FIFO {}: {} lines were lost, nobody reads", fifo.path, fifo.lost);
            }
        }
    }

    /// Takes away those that we made.
    pub fn close(&mut self) {
        std::mem::take(&mut self.open).into_iter().for_each(Fifo::close);
    }
}

impl Fifo {
    fn open(wish: &model::Fifo) -> std::io::Result<Self> {
        let path = Path::new(&*wish.path);
        let is_ours = match fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_fifo() => false,
            Ok(_) => return Err(std::io::Error::other("there is a file of another kind")),
            Err(_) => {
                mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
                chown(path, Some(wish.identity.user), Some(wish.identity.group))?;
                true
            }
        };
        // With a reader of our own it opens at once and stays open, whoever comes and goes.
        let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        Ok(Self { path: wish.path.clone(), file, is_ours, lost: 0 })
    }

    fn close(self) {
        if self.is_ours {
            // Somebody else may have taken it away.
            let _ = fs::remove_file(&*self.path);
        }
    }
}

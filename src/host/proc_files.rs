//! Files like `/proc/net/ip_vs*` for programs that read those: `lvx proc DIR` and `lvxd --proc DIR`.
//!
//! The texts come over the control socket, so that a long table arrives in slices between which the director serves
//! others, and threads of their own write them: neither control nor a worker waits for a disk.
//!
//! # How old a file is
//! The summaries are written anew at the interval. The connection tables have a thread of their own and their own
//! pace: at the interval too, while that costs at most a tenth of the time (`TABLE_SHARE`); of a table whose
//! writing takes one second, a new text is begun nine seconds after the last. A file's time of modification says how
//! old it is. A director that does not answer has no files: they are removed, as the kernel's are without the module.

mod directory;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;

use tokio::signal::unix::{SignalKind, signal};

use crate::base::Duration;
use crate::control::proc_files::{CONNECTION_TABLES, SUMMARIES};
use crate::host::client::Client;
use crate::host::clock::Clock;
use crate::host::options::{ExitStatus, StartError};

pub use directory::Directory;

/// Seconds between two texts of a file unless said otherwise: the estimator's period, before which no counter moves.
pub const INTERVAL_DEFAULT_S: u16 = 2;
/// The writing of connection tables takes at most one part in so many of the time.
const TABLE_SHARE: u32 = 10;
/// How long an end waits for writers that are stuck in the file system.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// What to write, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProcOptions {
    /// The directory that stands for `/proc`.
    pub directory: PathBuf,
    /// Between two texts of a file, seconds; not zero.
    pub interval_s: u16,
    /// Whether the connection tables are written too.
    pub connections: bool,
}

/// Threads that keep the files.
pub struct ProcFiles {
    directory: Arc<Directory>,
    /// Writers end when their senders are gone.
    running: Vec<(Sender<()>, JoinHandle<()>)>,
}

impl ProcFiles {
    /// Starts to write into `directory` what the director at `socket` says.
    ///
    /// # Errors
    /// When the system gives no more threads.
    pub fn start(directory: Directory, socket: &Path, options: &ProcOptions) -> io::Result<Self> {
        let mut files = Self { directory: Arc::new(directory), running: Vec::new() };
        let summaries = Feed::new(&SUMMARIES, 1, &files.directory, socket, options);
        let tables = Feed::new(&CONNECTION_TABLES, TABLE_SHARE, &files.directory, socket, options);
        for (name, feed) in [("lvx-proc", Some(summaries)), ("lvx-proc-conn", options.connections.then_some(tables))] {
            let Some(mut feed) = feed else { continue };
            let (sender, end) = mpsc::channel();
            let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || feed.run(&end))?;
            files.running.push((sender, thread));
        }
        Ok(files)
    }

    /// Ends the writers and takes the files away. The director must be able to answer meanwhile.
    pub async fn end(self) {
        let Self { directory, running } = self;
        let (sender, ended) = tokio::sync::oneshot::channel();
        // A thread, because neither the director nor its end may hang with a file system that does.
        let waiter = std::thread::Builder::new().name("lvx-proc-end".to_owned()).spawn(move || {
            let (senders, threads): (Vec<_>, Vec<_>) = running.into_iter().unzip();
            drop(senders);
            for thread in threads {
                // One that panicked has said so itself.
                let _ = thread.join();
            }
            directory.clear();
            drop(directory);
            // Nobody waits any more when it took too long.
            let _ = sender.send(());
        });
        if waiter.is_err() || tokio::time::timeout(END_PATIENCE, ended).await.is_err() {
            tracing::warn!("proc files are left behind: their writers cannot be ended");
        }
    }
}

/// Writes files until SIGTERM or SIGINT, which take them away again.
///
/// # Errors
/// One sentence when the directory cannot be used.
pub fn run(socket: &Path, options: &ProcOptions) -> Result<(), StartError> {
    let other = |error: io::Error| StartError::new(ExitStatus::Other, error.to_string());
    let directory = Directory::open(&options.directory)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(other)?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(other)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(other)?;
        let files = ProcFiles::start(directory, socket, options).map_err(other)?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        files.end().await;
        Ok(())
    })
}

/// Writes the files once, for good.
///
/// # Errors
/// One sentence when the directory cannot be used or the director does not answer.
pub fn once(socket: &Path, options: &ProcOptions) -> Result<(), String> {
    let directory = Arc::new(Directory::open(&options.directory).map_err(|error| error.text)?);
    let (_sender, end) = mpsc::channel();
    Feed::new(&SUMMARIES, 1, &directory, socket, options).write(&end)?;
    if options.connections {
        Feed::new(&CONNECTION_TABLES, 1, &directory, socket, options).write(&end)?;
    }
    Ok(())
}

/// Some of the files, written one after the other.
struct Feed {
    names: &'static [&'static str],
    directory: Arc<Directory>,
    socket: PathBuf,
    /// A connection to the director, as long as it is good.
    client: Option<Client>,
    interval: Duration,
    share: u32,
}

impl Feed {
    fn new(
        names: &'static [&'static str],
        share: u32,
        directory: &Arc<Directory>,
        socket: &Path,
        options: &ProcOptions,
    ) -> Self {
        let interval = Duration::from_secs(u64::from(options.interval_s.max(1)));
        Self { names, directory: Arc::clone(directory), socket: socket.to_owned(), client: None, interval, share }
    }

    /// Writes again and again until the other half of `end` is dropped.
    fn run(&mut self, end: &Receiver<()>) {
        let clock = Clock::start();
        let mut is_failing = false;
        loop {
            let began = clock.now();
            match self.write(end) {
                Ok(()) if is_failing => {
                    tracing::info!(
                        "{}: {} and so on are written again",
                        self.directory.path().display(),
                        self.names[0]
                    );
                    is_failing = false;
                }
                Ok(()) => {}
                Err(_) if has_ended(end) => return,
                Err(text) => {
                    self.names.iter().for_each(|name| self.directory.remove(name));
                    if !is_failing {
                        let path = self.directory.path().join(self.names[0]);
                        tracing::warn!("{} and so on are not there until this is over: {text}", path.display());
                    }
                    is_failing = true;
                }
            }
            if let Err(RecvTimeoutError::Disconnected) =
                end.recv_timeout(pause(self.interval, self.share, clock.now() - began))
            {
                return;
            }
        }
    }

    /// Writes each file once.
    fn write(&mut self, end: &Receiver<()>) -> Result<(), String> {
        for name in self.names {
            let mut client = self.client.take().unwrap_or_else(|| Client::new(&self.socket));
            let mut draft = self.directory.draft(name).map_err(|error| self.named(name, &error))?;
            let mut failed_write = None;
            let answer = client.lvx_answer(&["proc", name], |part| {
                if has_ended(end) {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                draft.write(part).map_err(|error| {
                    let kind = error.kind();
                    failed_write = Some(error);
                    kind.into()
                })
            });
            if let Some(error) = failed_write {
                return Err(self.named(name, &error));
            }
            answer?;
            draft.commit().map_err(|error| self.named(name, &error))?;
            // Not given back after a failure: the rest of an answer may still be under way in it.
            self.client = Some(client);
        }
        Ok(())
    }

    fn named(&self, name: &str, error: &io::Error) -> String {
        format!("{}: {error}", self.directory.path().join(name).display())
    }
}

/// How long to wait after a writing that took `took`, so that all of them take one part in `share` of the time.
fn pause(interval: Duration, share: u32, took: Duration) -> Duration {
    interval.saturating_sub(took).max(took * (share - 1))
}

fn has_ended(end: &Receiver<()>) -> bool {
    matches!(end.try_recv(), Err(mpsc::TryRecvError::Disconnected))
}

#[cfg(test)]
mod tests;

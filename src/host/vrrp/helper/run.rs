//! Programs: started as their user, in a group of their own, ended with all that they started.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};

use crate::base::Duration;
use crate::config::model::Script;

/// From a polite end to one that cannot be refused.
const KILL_AFTER: Duration = Duration::from_secs(1);
/// Until a reader of a FIFO that has ended is started again.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// A program that runs; it ends with the value.
struct Running {
    child: Child,
    group: Option<Pid>,
}

impl Running {
    fn start(script: &Script) -> std::io::Result<Self> {
        let mut command = if script.is_shell_line {
            let mut shell = std::process::Command::new("/bin/sh");
            shell.args(["-c", script.program()]);
            shell
        } else {
            let mut command = std::process::Command::new(script.program());
            command.args(script.words.iter().skip(1).map(|word| &**word));
            command
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.process_group(0);
        // Without more rights than ours there is nobody else to be.
        if rustix::process::geteuid().is_root() {
            command.gid(script.identity.group).uid(script.identity.user);
        }
        let child = Command::from(command).spawn()?;
        let group = child.id().and_then(|id| Pid::from_raw(id as i32));
        Ok(Self { child, group })
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // It may have ended already.
            let _ = kill_process_group(group, signal);
        }
    }

    /// Waits for it; the group is nobody's from then on.
    async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        let status = self.child.wait().await;
        self.group = None;
        status
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal(Signal::TERM);
    }
}

/// How a program ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// With this status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
    /// Not within its time.
    TimedOut,
    /// It could not be started.
    NotStarted,
}

/// Runs a program, for so long at most.
pub async fn run_for(script: &Script, timeout: Duration) -> Outcome {
    let mut running = match Running::start(script) {
        Ok(running) => running,
        Err(error) => {
            tracing::warn!("{script}: {error}");
            return Outcome::NotStarted;
        }
    };
    if let Ok(status) = tokio::time::timeout(timeout, running.wait()).await {
        return outcome(status);
    }
    running.signal(Signal::TERM);
    if tokio::time::timeout(KILL_AFTER, running.wait()).await.is_err() {
        running.signal(Signal::KILL);
        let _ = running.wait().await;
    }
    Outcome::TimedOut
}

/// Runs a program for as long as it takes.
pub async fn run_to_end(script: &Script) {
    match Running::start(script) {
        Ok(mut running) => match outcome(running.wait().await) {
            Outcome::Exited(0) => {}
            other => tracing::info!("notification script {script}: {other:?}"),
        },
        Err(error) => tracing::warn!("notification script {script}: {error}"),
    }
}

/// Keeps a program running; it is told to end when the task is gone.
pub async fn keep(script: Script) {
    loop {
        match Running::start(&script) {
            Ok(mut running) => {
                let outcome = outcome(running.wait().await);
                tracing::warn!("{script} has ended ({outcome:?}); it is started again");
            }
            Err(error) => tracing::warn!("{script}: {error}"),
        }
        tokio::time::sleep(RESTART_AFTER).await;
    }
}

fn outcome(status: std::io::Result<ExitStatus>) -> Outcome {
    match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => Outcome::Exited(code),
            (None, signal) => Outcome::Killed(signal.unwrap_or(0)),
        },
        Err(_) => Outcome::NotStarted,
    }
}

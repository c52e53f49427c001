//! Notification scripts: for each instance and group a lane, in which one runs after the other.

use std::collections::BTreeMap;
use std::rc::Rc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::config::model::Script;
use crate::host::vrrp::helper::run;
use crate::vrrp::{Name, Word};

/// Notifications that may wait for the one before them, by instance or group; more are lost and said so.
pub const SCRIPTS_WAITING_MAX: usize = 256;

/// Whom a notification is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Subject {
    /// An instance and its priority.
    Instance(Name, u8),
    /// A sync group.
    Group(Name),
}

impl Subject {
    fn parts(&self) -> (&'static str, &Name, u8) {
        match self {
            Subject::Instance(name, priority) => ("INSTANCE", name, *priority),
            Subject::Group(name) => ("GROUP", name, 0),
        }
    }

    /// The line for FIFOs.
    pub fn fifo_line(&self, word: Word) -> String {
        let (kind, name, priority) = self.parts();
        format!("{kind} \"{name}\" {word} {priority}\n")
    }

    /// The last arguments of `notify`.
    pub fn words(&self, word: Word) -> [Name; 4] {
        let (kind, name, priority) = self.parts();
        [kind.into(), name.clone(), word.to_string().into(), priority.to_string().into()]
    }
}

type Lane = (mpsc::Sender<Vec<Rc<Script>>>, JoinHandle<()>);

/// All lanes, by kind and name.
#[derive(Default)]
pub struct Lanes {
    lanes: BTreeMap<(&'static str, Name), Lane>,
}

impl Lanes {
    /// Puts scripts in line.
    pub fn run(&mut self, subject: &Subject, scripts: Vec<Rc<Script>>) {
        let (kind, name, _) = subject.parts();
        let (lane, _) = self.lanes.entry((kind, name.clone())).or_insert_with(|| {
            let (lane, mut waiting) = mpsc::channel::<Vec<Rc<Script>>>(SCRIPTS_WAITING_MAX);
            let task = tokio::task::spawn_local(async move {
                while let Some(scripts) = waiting.recv().await {
                    for script in scripts {
                        run::run_to_end(&script).await;
                    }
                }
            });
            (lane, task)
        });
        if lane.try_send(scripts).is_err() {
            tracing::warn!("{kind} {name}: {SCRIPTS_WAITING_MAX} notifications wait already; this one is lost");
        }
    }

    /// Waits until all have run.
    pub async fn end(&mut self) {
        for (_, (lane, task)) in std::mem::take(&mut self.lanes) {
            drop(lane);
            let _ = task.await;
        }
    }
}

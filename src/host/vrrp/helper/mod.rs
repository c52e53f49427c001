//! The helper thread: all that the VRRP thread does not wait for. It writes log lines and FIFOs, runs notification scripts,
//! each instance's and group's in order and one at a time, and watches tracked scripts, files and processes.
//!
//! What it is told comes through a bounded channel ([`super::NEWS_MAX`]); what trackers say goes back as commands of the
//! VRRP thread. Not here: mail; [`Alert`]s go to whoever gave an [`AlertSink`].

mod fifo;
mod notify;
mod run;
mod track;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::base::Duration;
use crate::config::Configuration;
use crate::config::model::{Notifications, Script};
use crate::host::vrrp::Commands;
use crate::vrrp::{Level, Name, Word};

use fifo::Fifos;
use notify::{Lanes, Subject};
use track::Trackers;

/// How long scripts that still run may take at the end.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// What the VRRP thread tells.
#[derive(Debug)]
pub enum News {
    /// A line for the log.
    Log(Level, String),
    /// An instance has come to a state; its priority.
    Instance(Name, Word, u8),
    /// A sync group has.
    Group(Name, Word),
    /// The priority of an instance in this state has changed.
    Priority(Name, Word, u8),
    /// What holds from now on.
    Reconfigured(Arc<Configuration>),
    /// The end.
    End,
}

/// A mail that is wished for (`smtp_alert`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Alert {
    /// An instance, or a sync group.
    pub is_group: bool,
    /// Its name.
    pub name: Name,
    /// What it is now.
    pub word: Word,
}

/// Who takes mails; it must not wait.
pub type AlertSink = Box<dyn FnMut(Alert) + Send>;

/// Runs until [`News::End`], or until nobody can tell anything any more.
pub(super) async fn run(mut news: mpsc::Receiver<News>, commands: Commands, alerts: AlertSink) {
    let mut helper = Helper {
        configuration: Arc::default(),
        fifos: Fifos::default(),
        lanes: Lanes::default(),
        trackers: Trackers::new(commands),
        readers: Vec::new(),
        alerts,
    };
    while let Some(one) = news.recv().await {
        match one {
            News::Log(Level::Information, text) => tracing::info!("{text}"),
            News::Log(Level::Warning, text) => tracing::warn!("{text}"),
            News::Instance(name, word, priority) => helper.tell(&Subject::Instance(name, priority), word),
            News::Group(name, word) => helper.tell(&Subject::Group(name), word),
            News::Priority(name, word, priority) => {
                helper.fifos.write(&format!("INSTANCE \"{name}\" {word}_PRIORITY {priority}\n"));
            }
            News::Reconfigured(configuration) => helper.reconfigure(configuration),
            News::End => break,
        }
    }
    helper.end().await;
}

struct Helper {
    configuration: Arc<Configuration>,
    fifos: Fifos,
    lanes: Lanes,
    trackers: Trackers,
    /// Programs that read FIFOs, with what they were started as.
    readers: Vec<(Script, JoinHandle<()>)>,
    alerts: AlertSink,
}

impl Helper {
    fn reconfigure(&mut self, configuration: Arc<Configuration>) {
        let global = &configuration.global;
        let wished = [global.fifo.as_ref(), global.vrrp_fifo.as_ref()];
        self.fifos.open(wished.into_iter().flatten());
        let readers: Vec<Script> = wished.into_iter().flatten().filter_map(reader_of).collect();
        self.readers.retain(|(script, task)| {
            let stays = readers.contains(script);
            if !stays {
                task.abort();
            }
            stays
        });
        for script in readers {
            if !self.readers.iter().any(|(running, _)| *running == script) {
                self.readers.push((script.clone(), tokio::task::spawn_local(run::keep(script))));
            }
        }
        self.trackers.reconfigure(&configuration);
        self.configuration = configuration;
    }

    /// FIFOs first: they take no time.
    fn tell(&mut self, subject: &Subject, word: Word) {
        self.fifos.write(&subject.fifo_line(word));
        let notifications = match subject {
            Subject::Instance(name, _) => self.configuration.notifications_of_instance(name),
            Subject::Group(name) => self.configuration.notifications_of_group(name),
        };
        let Some(notifications) = notifications else { return };
        let scripts: Vec<Rc<Script>> = scripts_of(notifications, subject, word).into_iter().map(Rc::new).collect();
        if !scripts.is_empty() {
            self.lanes.run(subject, scripts);
        }
        if notifications.smtp_alert && is_mailed(word) {
            let (is_group, name) = match subject {
                Subject::Instance(name, _) => (false, name.clone()),
                Subject::Group(name) => (true, name.clone()),
            };
            (self.alerts)(Alert { is_group, name, word });
        }
    }

    async fn end(mut self) {
        self.trackers.end();
        if tokio::time::timeout(END_PATIENCE, self.lanes.end()).await.is_err() {
            tracing::warn!("notification scripts still run and are left to themselves");
        }
        for (_, task) in self.readers.drain(..) {
            task.abort();
            // Its program is told to end when the task is gone.
            let _ = task.await;
        }
        self.fifos.close();
    }
}

/// keepalived mails these, and nothing at its end.
const fn is_mailed(word: Word) -> bool {
    matches!(word, Word::Master | Word::Backup | Word::Fault)
}

/// The program that reads a FIFO, with the FIFO's path as its last argument.
fn reader_of(fifo: &crate::config::model::Fifo) -> Option<Script> {
    let mut script = fifo.reader.clone()?;
    script.words.push(fifo.path.clone());
    Some(script)
}

/// What is to be run, in order: the script of the state, with its own words, then `notify`, with four more.
fn scripts_of(notifications: &Notifications, subject: &Subject, word: Word) -> Vec<Script> {
    let own = match word {
        Word::Master => &notifications.master,
        Word::Backup => &notifications.backup,
        Word::Fault => &notifications.fault,
        Word::Stop => &notifications.stop,
        Word::Deleted => &notifications.deleted,
        Word::MasterReceivedLowerPriority => &notifications.master_rx_lower_pri,
    };
    let mut scripts: Vec<Script> = own.clone().into_iter().collect();
    if let (Some(any), true) = (&notifications.any, word != Word::MasterReceivedLowerPriority) {
        let mut script = any.clone();
        script.words.extend(subject.words(word));
        scripts.push(script);
    }
    scripts
}

/// Tasks by name that run as long as their definition stays the same.
struct Tasks<T> {
    running: BTreeMap<Name, (T, JoinHandle<()>)>,
}

impl<T: PartialEq + Clone> Tasks<T> {
    const fn new() -> Self {
        Self { running: BTreeMap::new() }
    }

    /// Ends what is not wished for, begins what is new or another than before.
    fn level<'a>(&mut self, wished: impl Iterator<Item = (&'a Name, &'a T)>, begin: impl Fn(T) -> JoinHandle<()>)
    where
        T: 'a,
    {
        let wished: BTreeMap<&Name, &T> = wished.collect();
        self.running.retain(|name, (definition, task)| {
            let stays = wished.get(name).is_some_and(|it| *it == definition);
            if !stays {
                task.abort();
            }
            stays
        });
        for (name, definition) in wished {
            if !self.running.contains_key(name) {
                let task = begin(definition.clone());
                self.running.insert(name.clone(), (definition.clone(), task));
            }
        }
    }

    fn end(&mut self) {
        for (_, (_, task)) in std::mem::take(&mut self.running) {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests;

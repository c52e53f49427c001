//! `lvx drops`: what became of packets that went nowhere, one row a cause.

use serde::Serialize;

use crate::command::program::Output;
use crate::control::Control;
use crate::forward::DropReason;

/// Columns of a reason in the page: as the longest one has.
const REASON_COLUMNS: usize = 22;
/// Columns of a count.
const COUNT_COLUMNS: usize = 12;

/// A cause by which packets, or what goes with them, are lost.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct Loss {
    /// A word for it.
    pub reason: &'static str,
    /// Who counted: `director` (a verdict of a worker), `worker` (what it asks of others), `port`, `kernel`, `sync`.
    pub by: &'static str,
    /// How often since the start.
    pub count: u64,
    /// One line for people.
    pub meaning: &'static str,
}

impl Control {
    /// What workers dropped, by reason, and what control and workers lost beside packets.
    pub fn losses(&self) -> Vec<Loss> {
        let workers = &self.shared.workers;
        let dropped = |reason: DropReason| workers.iter().map(|slot| slot.counters.drops(reason)).sum();
        let mut losses: Vec<Loss> = DropReason::ALL
            .iter()
            .map(|&reason| Loss {
                reason: reason.name(),
                by: "director",
                count: dropped(reason),
                meaning: reason.meaning().trim(),
            })
            .collect();
        let sync = self.sync_counters();
        let lost = |reason, by, count, meaning| Loss { reason, by, count, meaning };
        losses.extend([
            lost(
                "neighbour-requests",
                "worker",
                workers.iter().map(|slot| slot.counters.requests_lost.get()).sum(),
                "Neighbours were not asked for at once: too many were asked for; the next packet asks again.",
            ),
            lost(
                "sync-records",
                "sync",
                workers.iter().map(|slot| slot.sync_queue.lost()).sum(),
                "Records for backups found their queue full; the connection's next record repeats them.",
            ),
            lost("sync-datagrams", "sync", sync.datagrams_lost, "Datagrams for backups were more than sync_qlen_max."),
            lost(
                "sync-malformed",
                "sync",
                sync.datagrams_malformed,
                "Datagrams from a master that are none; nothing was taken from them.",
            ),
            lost(
                "sync-skipped",
                "sync",
                sync.records_skipped,
                "Connections that the master told of and this backup did not take.",
            ),
        ]);
        losses
    }

    /// Executes `drops [--all] [--json]`, with what the caller knows of losses beside.
    ///
    /// # Errors
    /// A sentence when the words are others.
    pub fn drops_command(&self, words: &[&str], others: Vec<Loss>) -> Result<Output, String> {
        if let Some(other) = words.iter().find(|word| !["--all", "--json"].contains(word)) {
            return Err(format!("drops: unknown word `{other}'"));
        }
        let mut losses = self.losses();
        losses.extend(others);
        if !words.contains(&"--all") {
            losses.retain(|loss| loss.count > 0);
        }
        let stdout = match words.contains(&"--json") {
            true => serde_json::to_string(&losses).map_err(|error| error.to_string())? + "\n",
            false => page(&losses),
        };
        Ok(Output { exit: 0, stdout, stderr: String::new() })
    }
}

fn page(losses: &[Loss]) -> String {
    if losses.is_empty() {
        return "nothing was dropped or lost\n".to_owned();
    }
    let mut text = format!("{:>COUNT_COLUMNS$}  {:REASON_COLUMNS$} Meaning\n", "Count", "Reason");
    for loss in losses {
        let Loss { count, reason, meaning, .. } = loss;
        text.push_str(&format!("{count:>COUNT_COLUMNS$}  {reason:REASON_COLUMNS$} {meaning}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::{Instant, Rng};
    use crate::conn::TableConfig;
    use crate::forward::{Shared, Verdict};
    use crate::route::Database;

    #[test]
    fn counts_of_all_workers_are_summed_and_zeroes_hidden() {
        let table = TableConfig { connections_max: 4, bucket_bits: 0 };
        let shared = Shared::new(2, table, Database::new(&[]).snapshot(), &mut Rng::new(1));
        let shared = Arc::new(shared);
        let control = Control::new(Arc::clone(&shared), 4096, Instant::START);
        let text = |words: &[&str]| control.drops_command(words, Vec::new()).unwrap().stdout;
        assert_eq!(text(&[]), "nothing was dropped or lost\n");
        for slot in &shared.workers {
            slot.counters.count(Verdict::Drop(DropReason::Martian));
        }
        shared.workers[1].counters.requests_lost.add(3);
        let page = text(&[]);
        assert_eq!(page.lines().count(), 3, "{page}");
        assert!(page.contains("           2  martian                The source address is one that"), "{page}");
        let rows: serde_json::Value = serde_json::from_str(&text(&["--json"])).unwrap();
        assert_eq!((&rows[0]["reason"], &rows[0]["count"]), (&"martian".into(), &2.into()));
        assert_eq!((&rows[1]["by"], &rows[1]["count"]), (&"worker".into(), &3.into()));
        let all: serde_json::Value = serde_json::from_str(&text(&["--all", "--json"])).unwrap();
        assert!(all.as_array().unwrap().len() > DropReason::ALL.len());
        assert!(all.as_array().unwrap().iter().all(|row| row["reason"].as_str().unwrap().len() <= REASON_COLUMNS));
        assert!(control.drops_command(&["--none"], Vec::new()).is_err());
    }
}

//! Who sends what to which worker.

use crate::case::{Case, Traffic};

/// How the packets are spread over the workers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pattern {
    /// Every worker has flows of its own: what a network card's hash makes of it.
    Own,
    /// All workers have packets of all flows.
    Same,
    /// Requests come to one worker, their answers to another.
    Split,
    /// New connections of all workers' own clients.
    New,
}

/// All patterns, in the order in which they run.
pub const PATTERNS: &[Pattern] = &[Pattern::Own, Pattern::Same, Pattern::Split, Pattern::New];

/// What one worker gets.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    pub case: Case,
    /// Known flows: so many, from this number on.
    pub first: u32,
    pub flows: u32,
    /// Where in their order the worker begins; of new connections, the number before the first.
    pub start: u32,
}

impl Pattern {
    /// Its name among the options and in the results.
    pub fn name(self) -> &'static str {
        match self {
            Pattern::Own => "own",
            Pattern::Same => "same",
            Pattern::Split => "split",
            Pattern::New => "new",
        }
    }

    /// The pattern of this name.
    pub fn by_name(name: &str) -> Option<Pattern> {
        PATTERNS.iter().find(|pattern| pattern.name() == name).copied()
    }

    /// The cases that it is measured with.
    pub fn cases(self) -> Vec<Case> {
        let [direct, masquerading, new] = ["dr-tcp4", "nat-tcp4", "new-wlc-tcp4"]
            .map(|name| Case::by_name(name).expect("the cases of bench/forward have these"));
        match self {
            Pattern::Own | Pattern::Same => vec![direct, masquerading],
            // Answers of directly routed servers do not come by.
            Pattern::Split => vec![masquerading],
            Pattern::New => vec![new, Case { name: "new-wlc-nat-tcp4", method: masquerading.method, ..new }],
        }
    }

    /// True when so many workers make sense.
    pub fn suits(self, workers: u32) -> bool {
        self != Pattern::Split || workers <= 2
    }

    /// What worker `number` of `workers` gets where there are `flows` connections.
    pub fn share(self, case: Case, flows: u32, number: u32, workers: u32) -> Share {
        let begin = |number: u32| (u64::from(flows) * u64::from(number) / u64::from(workers)) as u32;
        let whole = Share { case, first: 0, flows, start: begin(number) };
        match self {
            Pattern::Own => {
                let (first, end) = (begin(number), begin(number + 1));
                Share { first, flows: end - first, start: 0, ..whole }
            }
            Pattern::Same => whole,
            Pattern::Split if workers == 1 => whole,
            Pattern::Split => {
                let traffic = if number == 0 { Traffic::Known } else { Traffic::Answers };
                Share { case: Case { traffic, ..case }, ..whole }
            }
            Pattern::New => Share { start: flows + number * NEW_MOST, ..whole },
        }
    }
}

/// Connections that all workers together open in a run at most; their numbers keep so far apart.
pub const NEW_MOST: u32 = 1 << 21;

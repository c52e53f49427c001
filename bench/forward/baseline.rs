//! Counts of instructions that were recorded before, and what to say of new ones.
//!
//! The file is JSON: the compiler (`rustc`, as `rustc --version` prints it), the triple that it compiled for
//! (`target`), and `counts`, one a case and number of flows. Counts compare for one compiler and one target only.

use serde::{Deserialize, Serialize};

/// A count may be so far above its baseline, or below, percent.
pub const TOLERANCE_PERCENT: f64 = 2.0;

/// Instructions of one case.
#[derive(Clone, PartialEq, Serialize, Deserialize, Debug)]
pub struct Count {
    pub case: String,
    pub flows: u32,
    /// With one decimal.
    pub instructions_per_packet: f64,
}

/// What a file holds.
#[derive(Clone, PartialEq, Serialize, Deserialize, Debug)]
pub struct Baseline {
    pub rustc: String,
    pub target: String,
    pub counts: Vec<Count>,
}

/// What a new count means.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Judgement {
    /// Within the tolerance.
    Same,
    /// By so many percent too many: a regression.
    Above(f64),
    /// By so many percent fewer: the baseline no longer holds anything and should be lowered.
    Below(f64),
    /// This case has no baseline yet.
    Missing,
}

impl Judgement {
    /// True when the gate must not open.
    pub fn is_failure(self) -> bool {
        matches!(self, Judgement::Above(_) | Judgement::Missing)
    }
}

impl Baseline {
    /// Nothing counted yet, with the compiler of this program.
    pub fn new(rustc: &str, target: &str) -> Self {
        Self { rustc: rustc.to_string(), target: target.to_string(), counts: Vec::new() }
    }

    /// From the text of a file; what is wrong with it otherwise.
    pub fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    /// The text of a file.
    pub fn render(&self) -> String {
        serde_json::to_string_pretty(self).expect("names and numbers are JSON") + "\n"
    }

    /// Puts a count at the end.
    pub fn add(&mut self, case: &str, flows: u32, instructions: f64) {
        let instructions_per_packet = (instructions * 10.0).round() / 10.0;
        self.counts.push(Count { case: case.to_string(), flows, instructions_per_packet });
    }

    /// The count of a case.
    pub fn find(&self, case: &str, flows: u32) -> Option<f64> {
        let count = self.counts.iter().find(|count| count.case == case && count.flows == flows);
        count.map(|count| count.instructions_per_packet)
    }

    /// Why counts of a program that `rustc` made for `target` do not compare with these.
    pub fn foreign_to(&self, rustc: &str, target: &str) -> Option<String> {
        if self.target != target {
            return Some(format!("the baseline was counted on {}, this is {target}", self.target));
        }
        (self.rustc != rustc).then(|| format!("the baseline was counted with {}, this is {rustc}", self.rustc))
    }

    /// What to say of a new count.
    pub fn judge(&self, case: &str, flows: u32, instructions: f64) -> Judgement {
        let Some(baseline) = self.find(case, flows) else { return Judgement::Missing };
        let percent = 100.0 * (instructions / baseline - 1.0);
        match percent {
            _ if percent > TOLERANCE_PERCENT => Judgement::Above(percent),
            _ if percent < -TOLERANCE_PERCENT => Judgement::Below(-percent),
            _ => Judgement::Same,
        }
    }
}

//! What a configuration was understood as, in the form of keepalived's dump (`-d`): the sections on VRRP, services and
//! checkers. What a running daemon would add (sockets, timers, results) is not here.

mod checkers;
mod vrrp;

use crate::config::model::Configuration;
use crate::config::source::Source;

/// The dump, a newline after each line.
pub fn dump(configuration: &Configuration, source: &dyn Source) -> String {
    let mut lines = Lines::default();
    vrrp::write(configuration, source, &mut lines);
    checkers::write(configuration, &mut lines);
    lines.text
}

/// Lines of a dump.
#[derive(Debug, Default)]
struct Lines {
    text: String,
}

impl Lines {
    /// The head of a section.
    fn section(&mut self, name: &str) {
        self.line(0, &format!("------< {name} >------"));
    }

    /// A line with so many blanks before it.
    fn line(&mut self, indent: usize, text: &str) {
        self.text.extend(std::iter::repeat_n(' ', indent));
        self.text.push_str(text);
        self.text.push('\n');
    }
}

/// Seconds without needless decimals.
fn seconds(duration: crate::base::Duration) -> String {
    let microseconds = duration.as_micros();
    let text = format!("{}.{:06}", microseconds / 1_000_000, microseconds % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The word of a truth value.
const fn enabled(is_on: bool) -> &'static str {
    if is_on { "enabled" } else { "disabled" }
}

/// Another word of a truth value.
const fn yes(is_on: bool) -> &'static str {
    if is_on { "yes" } else { "no" }
}

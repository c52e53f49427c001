//! `lvx replay`: files in, files out.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter};
use std::path::{Path, PathBuf};

use crate::command::names::FileNames;
use crate::director::replay::Replay;
use crate::director::{capture, steps};

/// The files of a replay of a capture.
pub struct CaptureFiles {
    /// The network.
    pub net: PathBuf,
    /// Rules to begin with.
    pub rules: Option<PathBuf>,
    /// Packets in.
    pub input: Option<PathBuf>,
    /// Packets out.
    pub output: Option<PathBuf>,
    /// The final connection table.
    pub conns: Option<PathBuf>,
    /// The final counters.
    pub stats: Option<PathBuf>,
}

/// Runs steps from a reader; answers go to standard output. With `tells`, those of packets have the steps of their way.
///
/// # Errors
/// One sentence when the net file or a stream fails.
pub fn steps(net: &Path, tells: bool, input: impl BufRead) -> Result<u8, String> {
    let mut replay = open(net)?;
    match steps::run(&mut replay, tells, input, io::stdout().lock()) {
        // Whoever read the answers has gone.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
        result => result.map(|()| 0).map_err(|error| format!("steps: {error}")),
    }
}

/// Runs steps from a file.
///
/// # Errors
/// As [`steps()`], or when the file cannot be opened.
pub fn steps_file(net: &Path, tells: bool, path: &Path) -> Result<u8, String> {
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    steps(net, tells, BufReader::new(file))
}

/// Runs a capture; prints a line of summary to standard error.
///
/// # Errors
/// One sentence when a file fails, rules are refused or the capture does not fit the network.
pub fn capture(files: &CaptureFiles) -> Result<u8, String> {
    let named = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
    let mut replay = open(&files.net)?;
    if let Some(rules) = &files.rules {
        let text = std::fs::read_to_string(rules).map_err(|error| named(rules, error))?;
        let output = command(&mut replay, &["ipvsadm-restore"], Some(&text))?;
        if output.exit != 0 || !output.stderr.is_empty() {
            return Err(format!("{}: {}", rules.display(), output.stderr.trim_end()));
        }
    }
    let (Some(input), Some(output)) = (&files.input, &files.output) else {
        return Err("a replay needs --steps, or --in and --out".into());
    };
    let reader = BufReader::new(File::open(input).map_err(|error| named(input, error))?);
    let writer = BufWriter::new(File::create(output).map_err(|error| named(output, error))?);
    let summary = capture::run(&mut replay, reader, writer).map_err(|error| error.to_string())?;
    for (path, words) in
        [(&files.conns, &["ipvsadm", "-Lnc"][..]), (&files.stats, &["ipvsadm", "-Ln", "--stats", "--exact"])]
    {
        if let Some(path) = path {
            let listing = command(&mut replay, words, None)?;
            std::fs::write(path, listing.stdout).map_err(|error| named(path, error))?;
        }
    }
    eprintln!(
        "{} packets: {} transmitted, {} passed to the host, {} held, {} dropped, {} cut short by the capture",
        summary.packets, summary.transmitted, summary.passed, summary.held, summary.dropped, summary.truncated
    );
    Ok(0)
}

fn command(
    replay: &mut Replay,
    words: &[&str],
    stdin: Option<&str>,
) -> Result<crate::command::program::Output, String> {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    replay.command(&words, stdin).map_err(|error| error.to_string())
}

fn open(net: &Path) -> Result<Replay, String> {
    let text = std::fs::read_to_string(net).map_err(|error| format!("{}: {error}", net.display()))?;
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let names = FileNames::new(&read("/etc/services"), &read("/etc/hosts"));
    Replay::new(&text, names).map_err(|error| format!("{}: {error}", net.display()))
}

//! The control socket's protocol: lines in, framed answers out. Pure: texts and octets, no socket.
//!
//! # Requests
//! One line each, at most [`LINE_OCTETS_MAX`] octets, ended by a line feed; words as a shell takes them (quotes,
//! backslash, `#` begins a comment). Several may be sent without waiting; they are answered in order.
//!
//! ```text
//! -A -t 192.0.2.1:80 -s wlc          what would follow `ipvsadm' (that word may lead)
//! json -L                            the same, answered by one line of JSON
//! lvx status                         what is not ipvsadm's
//! with OCTETS lvx mark load -        the same with standard input: so many octets after the line feed, at most
//!                                    [`STDIN_OCTETS_MAX`]
//! ```
//! Names of hosts and services are not looked up: the director knows numbers.
//!
//! # Answers
//! Any number of chunks of standard output, then one end; each begins with a header line:
//!
//! ```text
//! + STDOUT                           STDOUT octets of standard output follow, and more to come
//! = EXIT STDOUT STDERR               exit status; STDOUT octets of standard output follow, then STDERR of error
//! ```
//! So `echo '-Ln' | socat - UNIX:/run/lvx/lvx.sock` prints `= 0 134 0` and then the list, and a program reads
//! headers and counts.

use std::fmt;

/// Longest request, octets, without its line feed.
pub const LINE_OCTETS_MAX: usize = 8192;
/// Longest standard input that goes with a request, octets.
pub const STDIN_OCTETS_MAX: usize = 1 << 20;
/// Longest header of an answer, octets, with its line feed: three numbers.
const HEADER_OCTETS_MAX: usize = 64;
/// Longest part that a client takes at once, octets: enough for a list of a hundred thousand servers.
pub const PART_OCTETS_MAX: usize = 1 << 28;

/// A request line, taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Line {
    /// Nothing but blanks or a comment; not answered.
    Empty,
    /// ipvsadm's words.
    Ipvsadm {
        /// The words after the program's name.
        words: Vec<String>,
        /// True when the answer is to be the reply as one line of JSON.
        json: bool,
    },
    /// The words after `lvx`.
    Lvx {
        /// The words.
        words: Vec<String>,
        /// Octets of standard input that follow the line.
        stdin_octets: Option<usize>,
    },
}

/// What is wrong with a line or an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LineError {
    /// More than [`LINE_OCTETS_MAX`].
    TooLong,
    /// The words after `with` are no number up to [`STDIN_OCTETS_MAX`] and a command of `lvx`.
    Stdin,
    /// No UTF-8.
    Encoding,
    /// A quote is not closed, or a backslash ends the line.
    Quoting,
    /// A word that no line can carry: it holds a line feed or a NUL.
    Unsendable,
    /// A header of an answer that is none.
    Header(String),
    /// A part above [`PART_OCTETS_MAX`].
    PartTooLong,
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LineError::TooLong => write!(f, "a line holds at most {LINE_OCTETS_MAX} octets"),
            LineError::Stdin => write!(f, "`with' takes 0 to {STDIN_OCTETS_MAX} octets for a command of `lvx'"),
            LineError::Encoding => f.write_str("the line is not UTF-8"),
            LineError::Quoting => f.write_str("the line has an open quote"),
            LineError::Unsendable => f.write_str("a word holds a line feed or a NUL"),
            LineError::Header(header) => write!(f, "no header of an answer: `{header}'"),
            LineError::PartTooLong => write!(f, "an answer's part holds more than {PART_OCTETS_MAX} octets"),
        }
    }
}

impl std::error::Error for LineError {}

/// Takes a request line apart, with or without its line feed.
///
/// # Errors
/// When it is too long, no UTF-8, or wrongly quoted.
pub fn parse_line(octets: &[u8]) -> Result<Line, LineError> {
    let octets = octets.strip_suffix(b"\n").unwrap_or(octets);
    let octets = octets.strip_suffix(b"\r").unwrap_or(octets);
    if octets.len() > LINE_OCTETS_MAX {
        return Err(LineError::TooLong);
    }
    let text = std::str::from_utf8(octets).map_err(|_| LineError::Encoding)?;
    let mut words = shlex::split(text).ok_or(LineError::Quoting)?;
    match words.first().map(String::as_str) {
        None => return Ok(Line::Empty),
        Some("lvx") => return Ok(Line::Lvx { words: words.split_off(1), stdin_octets: None }),
        Some("with") => return with_stdin(words),
        Some(_) => {}
    }
    let json = words[0] == "json";
    words.drain(..usize::from(json));
    let is_named = words.first().is_some_and(|word| word == "ipvsadm");
    words.drain(..usize::from(is_named));
    Ok(Line::Ipvsadm { words, json })
}

/// `with OCTETS lvx WORD…`
fn with_stdin(mut words: Vec<String>) -> Result<Line, LineError> {
    let octets = words.get(1).and_then(|word| word.parse().ok()).filter(|octets| *octets <= STDIN_OCTETS_MAX);
    match (octets, words.get(2).map(String::as_str)) {
        (Some(octets), Some("lvx")) => Ok(Line::Lvx { words: words.split_off(3), stdin_octets: Some(octets) }),
        _ => Err(LineError::Stdin),
    }
}

/// The line, with its line feed, of ipvsadm's words; `json` asks for the reply as JSON.
///
/// # Errors
/// When a word cannot be sent, or the line would be too long.
pub fn encode_words(words: &[String], json: bool) -> Result<String, LineError> {
    if words.iter().any(|word| word.contains(['\n', '\r', '\0'])) {
        return Err(LineError::Unsendable);
    }
    let leading = if json { "json" } else { "ipvsadm" };
    let all = std::iter::once(leading).chain(words.iter().map(String::as_str));
    let mut line = shlex::try_join(all).map_err(|_| LineError::Unsendable)?;
    if line.len() > LINE_OCTETS_MAX {
        return Err(LineError::TooLong);
    }
    line.push('\n');
    Ok(line)
}

/// A slice of an answer's standard output, with more to come.
pub fn encode_chunk(stdout: &str) -> Vec<u8> {
    [format!("+ {}\n", stdout.len()).as_bytes(), stdout.as_bytes()].concat()
}

/// The end of an answer, or a whole one.
pub fn encode_end(exit: i32, stdout: &str, stderr: &str) -> Vec<u8> {
    let header = format!("= {exit} {} {}\n", stdout.len(), stderr.len());
    [header.as_bytes(), stdout.as_bytes(), stderr.as_bytes()].concat()
}

/// A part of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Part {
    /// A slice of standard output.
    Chunk(Vec<u8>),
    /// The last part.
    End {
        /// Exit status.
        exit: i32,
        /// The rest of standard output.
        stdout: Vec<u8>,
        /// Standard error.
        stderr: Vec<u8>,
    },
}

#[derive(Clone, Copy)]
enum Header {
    Chunk { stdout: usize },
    End { exit: i32, stdout: usize, stderr: usize },
}

/// Takes answers from octets as they come.
#[derive(Default)]
pub struct Decoder {
    octets: Vec<u8>,
    /// Octets of the front that were taken already.
    taken: usize,
}

impl Decoder {
    /// Adds what was received.
    pub fn push(&mut self, octets: &[u8]) {
        self.octets.drain(..self.taken);
        self.taken = 0;
        self.octets.extend_from_slice(octets);
    }

    /// The next part, if all of it is there.
    ///
    /// # Errors
    /// When what was received is no answer; nothing more can be had then.
    pub fn next_part(&mut self) -> Result<Option<Part>, LineError> {
        let octets = &self.octets[self.taken..];
        let Some(length) = octets.iter().take(HEADER_OCTETS_MAX).position(|&octet| octet == b'\n') else {
            let is_too_long = octets.len() >= HEADER_OCTETS_MAX;
            return if is_too_long { Err(bad_header(&octets[..HEADER_OCTETS_MAX])) } else { Ok(None) };
        };
        let header = read_header(&octets[..length]).ok_or_else(|| bad_header(&octets[..length]))?;
        let (stdout, stderr) = match header {
            Header::Chunk { stdout } => (stdout, 0),
            Header::End { stdout, stderr, .. } => (stdout, stderr),
        };
        if stdout > PART_OCTETS_MAX || stderr > PART_OCTETS_MAX {
            return Err(LineError::PartTooLong);
        }
        let Some(body) = octets.get(length + 1..length + 1 + stdout + stderr) else { return Ok(None) };
        let (first, second) = body.split_at(stdout);
        let part = match header {
            Header::Chunk { .. } => Part::Chunk(first.to_vec()),
            Header::End { exit, .. } => Part::End { exit, stdout: first.to_vec(), stderr: second.to_vec() },
        };
        self.taken += length + 1 + stdout + stderr;
        Ok(Some(part))
    }
}

fn bad_header(octets: &[u8]) -> LineError {
    LineError::Header(String::from_utf8_lossy(octets).into_owned())
}

fn read_header(octets: &[u8]) -> Option<Header> {
    let mut words = std::str::from_utf8(octets).ok()?.split(' ');
    let header = match words.next()? {
        "+" => Header::Chunk { stdout: words.next()?.parse().ok()? },
        "=" => Header::End {
            exit: words.next()?.parse().ok()?,
            stdout: words.next()?.parse().ok()?,
            stderr: words.next()?.parse().ok()?,
        },
        _ => return None,
    };
    words.next().is_none().then_some(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    #[test]
    fn lines_are_taken_apart() {
        let ipvsadm = |text: &str, json| Ok(Line::Ipvsadm { words: words(text), json });
        assert_eq!(parse_line(b"-L -n\n"), ipvsadm("-L -n", false));
        assert_eq!(parse_line(b"ipvsadm -L -n\r\n"), ipvsadm("-L -n", false));
        assert_eq!(parse_line(b"ipvsadm"), ipvsadm("", false));
        assert_eq!(parse_line(b"json ipvsadm -L"), ipvsadm("-L", true));
        assert_eq!(parse_line(b"json -L"), ipvsadm("-L", true));
        let lvx = |text: &str, stdin_octets| Ok(Line::Lvx { words: words(text), stdin_octets });
        assert_eq!(parse_line(b"lvx sysctl a=b"), lvx("sysctl a=b", None));
        assert_eq!(parse_line(b"with 12 lvx mark load -"), lvx("mark load -", Some(12)));
        assert_eq!(parse_line(b"  # nothing\n"), Ok(Line::Empty));
        assert_eq!(parse_line(b"\n"), Ok(Line::Empty));
        let quoted = Line::Ipvsadm { words: vec!["-s".into(), "r r".into(), String::new()], json: false };
        assert_eq!(parse_line(b"-s 'r r' \"\""), Ok(quoted));
    }

    #[test]
    fn bad_lines_are_refused() {
        assert_eq!(parse_line(b"-s 'rr"), Err(LineError::Quoting));
        assert_eq!(parse_line(b"-s \xff"), Err(LineError::Encoding));
        assert!(parse_line(&[b'x'; LINE_OCTETS_MAX]).is_ok());
        assert_eq!(parse_line(&[b'x'; LINE_OCTETS_MAX + 1]), Err(LineError::TooLong));
        for line in ["with", "with 1", "with 1 ipvsadm", "with -1 lvx", "with x lvx", "with 1048577 lvx mark"] {
            assert_eq!(parse_line(line.as_bytes()), Err(LineError::Stdin), "{line}");
        }
        assert_eq!(encode_words(&["a\nb".into()], false), Err(LineError::Unsendable));
        assert_eq!(encode_words(&["x".repeat(LINE_OCTETS_MAX)], false), Err(LineError::TooLong));
    }

    #[test]
    fn words_survive_the_line() {
        for json in [false, true] {
            let sent = vec!["-A".to_owned(), "it's \"x\"".to_owned(), "#".to_owned(), String::new(), "lvx".to_owned()];
            let line = encode_words(&sent, json).unwrap();
            assert_eq!(parse_line(line.as_bytes()), Ok(Line::Ipvsadm { words: sent, json }));
        }
    }

    #[test]
    fn answers_survive_any_cutting() {
        let stream = [
            encode_chunk("first\n"),
            encode_chunk(""),
            encode_end(255, "é", "No such service\n"),
            encode_end(0, "", ""),
        ];
        let octets = stream.concat();
        assert!(octets.starts_with(b"+ 6\nfirst\n+ 0\n= 255 2 16\n"));
        let expected = [
            Part::Chunk(b"first\n".to_vec()),
            Part::Chunk(Vec::new()),
            Part::End { exit: 255, stdout: "é".into(), stderr: b"No such service\n".to_vec() },
            Part::End { exit: 0, stdout: Vec::new(), stderr: Vec::new() },
        ];
        for seed in 0..200 {
            let (mut rng, mut decoder, mut rest, mut parts) =
                (Rng::new(seed), Decoder::default(), octets.as_slice(), Vec::new());
            while !rest.is_empty() {
                let (now, later) = rest.split_at((rng.below(9) as usize).min(rest.len()));
                decoder.push(now);
                rest = later;
                while let Some(part) = decoder.next_part().unwrap() {
                    parts.push(part);
                }
            }
            assert_eq!(parts, expected, "seed {seed}");
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let refused = |octets: &[u8]| {
            let mut decoder = Decoder::default();
            decoder.push(octets);
            decoder.next_part().is_err()
        };
        for octets in ["\n", "hello\n", "= 0 1\n", "= 0 0 0 0\n", "+ -1\n", "+ x\n", "= 0 99999999999999999999 0\n"] {
            assert!(refused(octets.as_bytes()), "{octets:?}");
        }
        assert!(refused(&[b'='; HEADER_OCTETS_MAX]));
        assert!(refused(format!("+ {}\n", PART_OCTETS_MAX + 1).as_bytes()));
    }

    #[test]
    fn any_octets_are_taken_without_panic() {
        for seed in 0..2000 {
            let mut rng = Rng::new(seed);
            let octets: Vec<u8> = (0..rng.below(40)).map(|_| b"=+ 019\n\\'\"#x\xff"[rng.below(13) as usize]).collect();
            let _ = parse_line(&octets);
            let mut decoder = Decoder::default();
            decoder.push(&octets);
            while let Ok(Some(_)) = decoder.next_part() {}
        }
    }
}

//! Files to lines.

use std::sync::Arc;

use crate::base::Rng;
use crate::config::language::definitions::{Definitions, Use, definition, uses};
use crate::config::language::include::{Checks, alternatives, beside, has_wildcards, include};
use crate::config::language::items::{Item, Quote};
use crate::config::language::sequence::{Sequence, sequence};
use crate::config::language::{
    EXPANSIONS_MAX, FILE_DEPTH_MAX, FILES_MAX, LINE_OCTETS_MAX, LINES_MAX, TEXT_OCTETS_MAX, Word,
};
use crate::config::message::{At, Messages, Place, Severity};
use crate::config::source::{Invocation, ReadFailure, Source};

/// Definitions and repetitions that a line may be inside of.
const NESTING_MAX: usize = 64;

/// A line as it is meant: everything replaced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// The line.
    pub text: String,
    /// Where it comes from.
    pub file: Arc<str>,
    /// Number of its line there, from 1.
    pub number: u32,
    /// How it stands there.
    pub excerpt: Arc<str>,
}

/// All lines of a configuration.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Lines {
    /// In order.
    pub lines: Vec<Line>,
    /// The files that were read, in order.
    pub files: Vec<String>,
}

impl Lines {
    /// The text of an item.
    pub fn text(&self, item: &Item) -> &str {
        self.lines.get(item.line).map_or("", |line| &line.text[item.start..item.end])
    }

    /// Where an item stands.
    pub fn at(&self, item: &Item) -> At {
        self.position(item.line, item.start, self.text(item))
    }

    /// Where a word of an item stands.
    pub fn at_word(&self, item: &Item, word: &Word) -> At {
        self.position(item.line, item.start + word.offset, &word.text)
    }

    fn position(&self, index: usize, offset: usize, text: &str) -> At {
        let Some(line) = self.lines.get(index) else {
            return At { place: Place { file: "".into(), line: 0, column: 0 }, excerpt: "".into() };
        };
        let stands_there =
            |&at: &usize| line.excerpt.get(at..).is_some_and(|rest| rest.trim_start_matches('"').starts_with(text));
        let indent = line.excerpt.len() - line.excerpt.trim_ascii_start().len();
        let first = text.split_ascii_whitespace().next().unwrap_or(text);
        let found = Some(indent + offset).filter(stands_there).or_else(|| line.excerpt.find(first));
        let column = found.map_or(0, |at| u32::try_from(at + 1).unwrap_or(0));
        At { place: Place { file: line.file.clone(), line: line.number, column }, excerpt: line.excerpt.clone() }
    }
}

/// Reads a file and all that it includes.
pub fn read(source: &dyn Source, invocation: &Invocation, messages: &mut Messages) -> Lines {
    let host = source.host_name();
    let identity = invocation.identity.clone();
    let identity = identity.unwrap_or_else(|| host.split('.').next().unwrap_or_default().to_owned());
    let mut reader = Reader {
        source,
        messages,
        identity,
        definitions: Definitions::default(),
        rng: Rng::new(source.seed()),
        checks: Checks::default(),
        lines: Lines::default(),
        expansions: 0,
        octets: 0,
        is_over: false,
    };
    reader.read_main(&invocation.file);
    reader.lines
}

struct Reader<'a> {
    source: &'a dyn Source,
    messages: &'a mut Messages,
    identity: String,
    definitions: Definitions,
    rng: Rng,
    checks: Checks,
    lines: Lines,
    expansions: usize,
    octets: usize,
    /// A limit was reached: nothing more is read.
    is_over: bool,
}

/// The physical line that is being taken.
#[derive(Clone)]
struct Origin {
    file: Arc<str>,
    number: u32,
    excerpt: Arc<str>,
    file_depth: usize,
    nesting: usize,
}

impl Origin {
    fn at(&self) -> At {
        At { place: Place { file: self.file.clone(), line: self.number, column: 0 }, excerpt: self.excerpt.clone() }
    }
}

impl Reader<'_> {
    /// **Deviation**: without its file a configuration is unusable; keepalived runs with an empty one.
    fn read_main(&mut self, path: &str) {
        let words = match self.source.read(path) {
            Ok(octets) => return self.read_octets(path, &octets, 0),
            Err(failure) => failure.words(path),
        };
        self.messages.say(Severity::Fatal, None, words, None);
    }

    fn read_octets(&mut self, path: &str, octets: &[u8], depth: usize) {
        self.lines.files.push(path.to_owned());
        let text = String::from_utf8_lossy(octets);
        let file: Arc<str> = path.into();
        let standing = self.checks;
        let mut opened: Option<(String, Vec<String>)> = None;
        for (index, physical) in text.split('\n').enumerate() {
            if self.is_over {
                return;
            }
            let physical = physical.split('\0').next().unwrap_or_default().trim_ascii_end();
            let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
            let origin = Origin { file: file.clone(), number, excerpt: physical.into(), file_depth: depth, nesting: 0 };
            match opened.take() {
                Some((name, mut values)) => {
                    let (value, goes_on) = continued(physical);
                    values.push(value.to_owned());
                    if goes_on {
                        opened = Some((name, values));
                    } else {
                        self.definitions.define(&name, values);
                    }
                }
                None => opened = self.take(physical, &origin),
            }
        }
        if let Some((name, values)) = opened {
            self.definitions.define(&name, values);
        }
        self.checks = standing;
    }

    /// One line, physical or of a definition. Gives back a definition that the next lines go on with.
    fn take(&mut self, text: &str, origin: &Origin) -> Option<(String, Vec<String>)> {
        if origin.nesting > NESTING_MAX || text.len() > LINE_OCTETS_MAX {
            let what =
                if origin.nesting > NESTING_MAX { "definitions nest too deeply" } else { "the line is too long" };
            self.stop(origin, what);
            return None;
        }
        let mut text = self.without_comment(text, origin)?;
        while let Some(after) = text.strip_prefix('@') {
            text = self.condition(after)?;
        }
        if let Some((name, value)) = definition(text) {
            let (value, goes_on) = continued(value);
            if goes_on {
                return Some((name.to_owned(), vec![value.to_owned()]));
            }
            self.definitions.define(name, vec![value.to_owned()]);
            return None;
        }
        if text.starts_with("~SEQ") || text.starts_with("~LST") {
            self.repeat(text, origin);
        } else {
            self.replace(text, origin);
        }
        None
    }

    /// The line without its comment and without blanks around it; `None` when nothing is left.
    fn without_comment<'t>(&mut self, text: &'t str, origin: &Origin) -> Option<&'t str> {
        let mut quote = Quote::default();
        let mut end = text.len();
        for (at, byte) in text.bytes().enumerate() {
            if !quote.is_open() && matches!(byte, b'#' | b'!') {
                end = at;
                break;
            }
            quote.step(byte);
        }
        let text = text[..end].trim_ascii();
        if quote.is_open() {
            self.messages.flaw_at(origin.at(), format!("Unterminated quote '{text}'"));
        }
        (!text.is_empty()).then_some(text)
    }

    /// What follows a condition that holds.
    fn condition<'t>(&self, after: &'t str) -> Option<&'t str> {
        let (is_not, after) = after.strip_prefix('^').map_or((false, after), |after| (true, after));
        let (identity, rest) = after.split_once(|character: char| character.is_ascii_whitespace())?;
        ((identity == self.identity) != is_not).then_some(rest.trim_ascii())
    }

    fn repeat(&mut self, text: &str, origin: &Origin) {
        let text = match self.replaced_head(text, origin) {
            Some(text) => text,
            None => return,
        };
        match sequence(&text) {
            Some(Ok(sequence)) => self.repeat_all(&sequence, origin),
            Some(Err(refusal)) => {
                for words in refusal {
                    self.messages.flaw_at(origin.at(), format!("{words} '{text}'"));
                }
            }
            None => self.replace(&text, origin),
        }
    }

    /// The text with definitions replaced in the brackets that it begins with.
    fn replaced_head(&mut self, text: &str, origin: &Origin) -> Option<String> {
        let end = text.find(')').unwrap_or(text.len());
        let (head, rest) = text.split_at(end);
        let mut lines = self.replace_once_in_full(head, origin)?;
        let mut head = if lines.len() == 1 { lines.pop()? } else { head.to_owned() };
        head.push_str(rest);
        Some(head)
    }

    fn repeat_all(&mut self, sequence: &Sequence<'_>, origin: &Origin) {
        let origin = Origin { nesting: origin.nesting + 1, ..origin.clone() };
        let empty = String::new();
        for row in sequence.values.iter() {
            if self.is_over || !self.count_expansion(&origin) {
                return;
            }
            let values =
                sequence.names.iter().enumerate().map(|(index, &name)| (name, row.get(index).unwrap_or(&empty)));
            let before: Vec<_> =
                values.map(|(name, value)| (name, self.definitions.define(name, vec![value.clone()]))).collect();
            self.take(sequence.rest, &origin);
            for (name, value) in before {
                self.definitions.restore(name, value);
            }
        }
    }

    /// Replaces all uses of definitions, and keeps or takes again what comes of it.
    fn replace(&mut self, text: &str, origin: &Origin) {
        let Some(lines) = self.replace_once_in_full(text, origin) else { return };
        if lines.len() == 1 && !starts_anew(&lines[0]) {
            return self.finish(&lines[0], origin);
        }
        let origin = Origin { nesting: origin.nesting + 1, ..origin.clone() };
        let mut opened: Option<(String, Vec<String>)> = None;
        for line in lines {
            if self.is_over {
                return;
            }
            opened = match opened.take() {
                Some((name, mut values)) => {
                    let (value, goes_on) = continued(&line);
                    values.push(value.to_owned());
                    if goes_on {
                        Some((name, values))
                    } else {
                        self.definitions.define(&name, values);
                        None
                    }
                }
                None => self.take(&line, &origin),
            };
        }
    }

    /// The lines that a text stands for. One with several lines is replaced once, its lines are taken later.
    fn replace_once_in_full(&mut self, text: &str, origin: &Origin) -> Option<Vec<String>> {
        let mut text = text.to_owned();
        let mut from = 0;
        let mut own = 0;
        while let Some((start, end, values)) = self.next_use(&text, from) {
            own += 1;
            if !self.count_expansion(origin) {
                return None;
            }
            if own > LINE_OCTETS_MAX || text.len() > LINE_OCTETS_MAX {
                self.stop(origin, "a definition uses itself, or the line grows too long");
                return None;
            }
            if let [value] = &values[..] {
                text.replace_range(start..end, value);
                from = start;
                continue;
            }
            let (before, after) = (&text[..start], &text[end..]);
            let last = values.len() - 1;
            let lines = values.iter().enumerate().map(|(index, value)| match index {
                0 => format!("{before}{value}"),
                _ if index == last => format!("{value}{after}"),
                _ => value.clone(),
            });
            return Some(lines.collect());
        }
        Some(vec![text])
    }

    /// The next use of a name that has a value.
    fn next_use(&mut self, text: &str, from: usize) -> Option<(usize, usize, Arc<[String]>)> {
        for found in uses(text, from) {
            if let Some(value) = self.value_of(&found) {
                return Some((found.start, found.end, value));
            }
        }
        None
    }

    fn value_of(&mut self, found: &Use<'_>) -> Option<Arc<[String]>> {
        if let (Some(lines), true) = (self.definitions.lines_of(found.name), found.arguments.is_empty()) {
            return Some(lines.clone());
        }
        let text = match found.name {
            "_PWD" => self.directory(),
            "_INSTANCE" => self.identity.clone(),
            "_HASH" => "#".to_owned(),
            "_BANG" => "!".to_owned(),
            "_RANDOM" => self.random(found.arguments)?,
            _ => return None,
        };
        Some(vec![text].into())
    }

    /// The directory of the file that is read.
    fn directory(&self) -> String {
        let path = self.lines.files.first().map_or("", |path| path);
        path.rsplit_once('/').map_or(".", |(directory, _)| directory).to_owned()
    }

    fn random(&mut self, arguments: &str) -> Option<String> {
        let mut numbers = arguments.split_ascii_whitespace().map(str::parse::<u32>);
        let least = numbers.next().unwrap_or(Ok(0)).ok()?;
        let most = numbers.next().unwrap_or(Ok(32_767)).ok()?;
        let span = u64::from(most.checked_sub(least)?) + 1;
        Some((u64::from(least) + self.rng.next_u64() % span).to_string())
    }

    /// A line without anything to replace.
    fn finish(&mut self, text: &str, origin: &Origin) {
        let text = text.trim_ascii();
        if text.is_empty() {
            return;
        }
        if let Some((checks, pattern)) = include(text, self.checks) {
            return self.include(checks, pattern, origin);
        }
        let mut words = text.split_ascii_whitespace();
        match words.next() {
            Some("include_check") => {
                self.checks.set(words);
            }
            Some("random_seed") => {
                if let Some(Ok(seed)) = words.next().map(str::parse::<u32>) {
                    self.rng = Rng::new(u64::from(seed));
                }
            }
            _ => {}
        }
        self.octets += text.len();
        if self.lines.lines.len() >= LINES_MAX || self.octets > TEXT_OCTETS_MAX {
            return self.stop(origin, "the configuration is too long");
        }
        let (file, number, excerpt) = (origin.file.clone(), origin.number, origin.excerpt.clone());
        self.lines.lines.push(Line { text: text.to_owned(), file, number, excerpt });
    }

    fn include(&mut self, checks: Checks, pattern: &str, origin: &Origin) {
        if origin.file_depth >= FILE_DEPTH_MAX {
            return self.stop(origin, "files include each other too deeply");
        }
        let mut paths = Vec::new();
        let mut missing = false;
        let all = alternatives(pattern);
        for alternative in &all {
            let path = beside(&origin.file, alternative);
            let found = if has_wildcards(&path) { self.source.glob(&path) } else { self.named(&path) };
            missing |= found.is_empty();
            paths.extend(found);
        }
        let mut say = |severity, text: String| self.messages.say(severity, Some(origin.at()), text, None);
        if paths.is_empty() {
            let directory = beside(&origin.file, pattern);
            let directory = directory.rsplit_once('/').map_or(".", |(directory, _)| directory).to_owned();
            let has_directory = self.source.file(&directory).is_some_and(|(_, facts)| facts.is_directory);
            if !has_wildcards(pattern) || !has_directory {
                say(Checks::severity(checks.matches), format!("Config files missing '{pattern}'."));
            } else if checks.wildcards {
                say(Severity::Insecure, format!("No config files matched '{pattern}'."));
            }
        } else if missing && all.len() > 1 {
            say(Checks::severity(checks.braces), format!("Some config files missing: \"{pattern}\"."));
        }
        for path in paths {
            self.include_file(checks, &path, origin);
        }
    }

    /// The path, when there is something.
    fn named(&self, path: &str) -> Vec<String> {
        self.source.file(path).map(|_| path.to_owned()).into_iter().collect()
    }

    fn include_file(&mut self, checks: Checks, path: &str, origin: &Origin) {
        if self.is_over {
            return;
        }
        if self.lines.files.len() >= FILES_MAX {
            return self.stop(origin, "too many files");
        }
        let facts = self.source.file(path).map(|(_, facts)| facts);
        let read = match facts {
            Some(facts) if facts.is_file && facts.mode & 0o111 != 0 => Err(ReadFailure::NotAFile),
            _ => self.source.read(path),
        };
        match read {
            Ok(octets) => self.read_octets(path, &octets, origin.file_depth + 1),
            Err(failure) => {
                let severity = Checks::severity(checks.readable);
                let shown = origin.file.rsplit_once('/').and_then(|(directory, _)| path.strip_prefix(directory));
                let shown = shown.map_or(path, |path| path.trim_start_matches('/'));
                self.messages.say(severity, Some(origin.at()), failure.words(shown), None);
            }
        }
    }

    fn count_expansion(&mut self, origin: &Origin) -> bool {
        self.expansions += 1;
        if self.expansions > EXPANSIONS_MAX {
            self.stop(origin, "definitions and sequences are used too often");
        }
        !self.is_over
    }

    /// A limit is reached: the configuration is unusable.
    fn stop(&mut self, origin: &Origin, what: &str) {
        if !self.is_over {
            let help = Some(format!("{what}: nothing after it was read"));
            self.messages.say(Severity::Fatal, Some(origin.at()), String::new(), help);
        }
        self.is_over = true;
    }
}

impl ReadFailure {
    /// keepalived's words for it.
    fn words(&self, path: &str) -> String {
        match self {
            ReadFailure::Missing => format!("Config files missing '{path}'."),
            ReadFailure::Directory => format!("Configuration file '{path}/' is a directory - skipping"),
            ReadFailure::NotAFile => {
                format!("Configuration file '{path}' is not a regular non-executable file - skipping")
            }
            ReadFailure::TooLarge => format!("Configuration file '{path}' is too large - skipping"),
            ReadFailure::Other(reason) => format!("Configuration file '{path}' open problem ({reason}) - skipping"),
        }
    }
}

/// A line that a replacement made into something other than words.
fn starts_anew(text: &str) -> bool {
    let text = text.trim_ascii_start();
    text.starts_with('@') || text.starts_with("~SEQ") || text.starts_with("~LST") || definition(text).is_some()
}

/// A line of a definition, and whether the next one belongs to it.
fn continued(text: &str) -> (&str, bool) {
    match text.trim_ascii_end().strip_suffix('\\') {
        Some(text) => (text.trim_ascii_end(), true),
        None => (text, false),
    }
}

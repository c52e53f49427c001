//! `include` and its kin: which files, and what is said of those that are not there.

use crate::config::message::Severity;

/// What a line that includes asks to be checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Checks {
    /// Files can be read (`includer`).
    pub readable: bool,
    /// Something matches (`includem`).
    pub matches: bool,
    /// Wildcards match something (`includew`).
    pub wildcards: bool,
    /// Each alternative in braces is there (`includeb`).
    pub braces: bool,
}

impl Checks {
    /// Everything.
    pub const ALL: Checks = Checks { readable: true, matches: true, wildcards: true, braces: true };

    /// What is asked for beside `self`.
    const fn and(self, other: Checks) -> Checks {
        Checks {
            readable: self.readable || other.readable,
            matches: self.matches || other.matches,
            wildcards: self.wildcards || other.wildcards,
            braces: self.braces || other.braces,
        }
    }

    /// How bad it is that a check fails.
    pub const fn severity(is_asked: bool) -> Severity {
        if is_asked { Severity::Insecure } else { Severity::Notice }
    }

    /// Takes the words of `include_check`; gives back those that are none.
    pub fn set<'a>(&mut self, words: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
        let words: Vec<&str> = words.collect();
        let Some(first) = words.first() else {
            *self = Checks::ALL;
            return Vec::new();
        };
        if !first.starts_with(['+', '-']) {
            *self = Checks::default();
        }
        let mut unknown = Vec::new();
        for word in words {
            let is_on = !word.starts_with('-');
            match word.trim_start_matches(['+', '-']) {
                "readable" => self.readable = is_on,
                "match" => self.matches = is_on,
                "wildcard_match" => self.wildcards = is_on,
                "brace_match" => self.braces = is_on,
                _ => unknown.push(word),
            }
        }
        unknown
    }
}

/// The checks and the pattern of a line that includes.
pub fn include(text: &str, standing: Checks) -> Option<(Checks, &str)> {
    let (word, pattern) = text.split_once(|character: char| character.is_ascii_whitespace())?;
    let none = Checks::default();
    let checks = match word {
        "include" => none,
        "includer" => Checks { readable: true, ..none },
        "includem" => Checks { readable: true, matches: true, ..none },
        "includew" => Checks { readable: true, matches: true, wildcards: true, ..none },
        "includeb" => Checks { readable: true, matches: true, braces: true, ..none },
        "includea" => Checks::ALL,
        _ => return None,
    };
    Some((checks.and(standing), pattern.trim_ascii()))
}

/// The alternatives of the first braces of a pattern, or the pattern alone. They do not nest deeper than the pattern is
/// long, and at most [`ALTERNATIVES_MAX`] come of it.
pub fn alternatives(pattern: &str) -> Vec<String> {
    let mut done = Vec::new();
    let mut open = vec![pattern.to_owned()];
    while let Some(pattern) = open.pop() {
        let parts = pattern.split_once('{').and_then(|(before, rest)| {
            let (inside, after) = rest.split_once('}')?;
            Some((before.to_owned(), inside.to_owned(), after.to_owned()))
        });
        match parts {
            Some((before, inside, after)) if done.len() + open.len() < ALTERNATIVES_MAX => {
                let all: Vec<&str> = inside.split(',').collect();
                open.extend(all.into_iter().rev().map(|part| format!("{before}{part}{after}")));
            }
            _ => done.push(pattern),
        }
    }
    done
}

/// Alternatives of one pattern.
pub const ALTERNATIVES_MAX: usize = 1024;

/// True when a pattern has wildcards.
pub fn has_wildcards(pattern: &str) -> bool {
    pattern.contains(['*', '?', '['])
}

/// A path as the file that names it means it.
pub fn beside(file: &str, path: &str) -> String {
    match file.rsplit_once('/') {
        Some((directory, _)) if !path.starts_with('/') => format!("{directory}/{path}"),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_have_alternatives() {
        assert_eq!(alternatives("a{b,c}d{e,f}"), ["abde", "abdf", "acde", "acdf"]);
        assert_eq!(alternatives("a{b"), ["a{b"]);
        assert!(alternatives(&"{a,b}".repeat(100)).len() <= ALTERNATIVES_MAX + 100);
    }

    #[test]
    fn words_name_checks() {
        assert_eq!(include("includea  x y ", Checks::default()), Some((Checks::ALL, "x y")));
        assert_eq!(include("include", Checks::default()), None);
        assert_eq!(include("included x", Checks::default()), None);
        let mut checks = Checks::ALL;
        assert_eq!(checks.set(["-match", "foo"].into_iter()), ["foo"]);
        assert_eq!(checks, Checks { matches: false, ..Checks::ALL });
    }

    #[test]
    fn paths_are_beside_the_file() {
        assert_eq!(beside("/a/b.conf", "c/d"), "/a/c/d");
        assert_eq!(beside("b.conf", "c/d"), "c/d");
        assert_eq!(beside("/a/b.conf", "/c"), "/c");
    }
}

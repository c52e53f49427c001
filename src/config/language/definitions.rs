//! `$NAME=value`, and where names are used.

use std::collections::BTreeMap;
use std::sync::Arc;

/// All that is defined so far.
#[derive(Clone, Debug, Default)]
pub struct Definitions {
    values: BTreeMap<String, Arc<[String]>>,
}

/// A use of a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Use<'a> {
    /// Octets before it.
    pub start: usize,
    /// Octets up to its end.
    pub end: usize,
    /// The name.
    pub name: &'a str,
    /// What follows the name within braces.
    pub arguments: &'a str,
}

impl Definitions {
    /// Gives a name a value: one line or several.
    pub fn define(&mut self, name: &str, lines: Vec<String>) -> Option<Arc<[String]>> {
        self.values.insert(name.to_owned(), lines.into())
    }

    /// Puts back what [`Definitions::define`] has replaced.
    pub fn restore(&mut self, name: &str, value: Option<Arc<[String]>>) {
        match value {
            Some(value) => self.values.insert(name.to_owned(), value),
            None => self.values.remove(name),
        };
    }

    /// The lines of a name.
    pub fn lines_of(&self, name: &str) -> Option<&Arc<[String]>> {
        self.values.get(name)
    }
}

/// Name and value of a line that defines.
pub fn definition(text: &str) -> Option<(&str, &str)> {
    let after = text.strip_prefix('$')?;
    let length = name_length(after);
    let value = after[length..].strip_prefix('=')?;
    (length > 0).then_some((&after[..length], value.trim_ascii()))
}

/// The uses of names in a text, from `from` on.
pub fn uses(text: &str, from: usize) -> impl Iterator<Item = Use<'_>> {
    text[from..].match_indices('$').filter_map(move |(at, _)| use_at(text, from + at))
}

fn use_at(text: &str, start: usize) -> Option<Use<'_>> {
    let after = &text[start + 1..];
    if let Some(inside) = after.strip_prefix('{') {
        let length = name_length(inside);
        let close = inside.find('}')?;
        if length == 0 || length > close {
            return None;
        }
        let arguments = &inside[length..close];
        let is_parted = arguments.is_empty() || arguments.starts_with(|first: char| first.is_ascii_whitespace());
        return is_parted.then_some(Use { start, end: start + 2 + close + 1, name: &inside[..length], arguments });
    }
    let length = name_length(after);
    let ends = after[length..].chars().next().is_none_or(|next| next.is_ascii_whitespace());
    (length > 0 && ends).then_some(Use { start, end: start + 1 + length, name: &after[..length], arguments: "" })
}

/// Octets of the name that a text begins with.
fn name_length(text: &str) -> usize {
    let is_name =
        |(at, byte): (usize, u8)| byte == b'_' || byte.is_ascii_alphabetic() || at > 0 && byte.is_ascii_digit();
    text.bytes().enumerate().take_while(|&part| is_name(part)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found() {
        let found: Vec<&str> = uses("$A 1${B}2 $C/3 ${_D 4 5} $6 ${", 0).map(|it| it.name).collect();
        assert_eq!(found, ["A", "B", "_D"]);
        assert_eq!(definition("$A= 1 2 "), Some(("A", "1 2")));
        assert_eq!(definition("$A="), Some(("A", "")));
        assert_eq!(definition("$A =1"), None);
        assert_eq!(definition("$1A=1"), None);
    }
}

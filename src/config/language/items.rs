//! Lines parted at braces.

use crate::config::language::reader::Lines;
use crate::config::message::Messages;

/// A brace, or the text between two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Item {
    /// Which of them.
    pub kind: ItemKind,
    /// Index of its line.
    pub line: usize,
    /// Octets of the line before it.
    pub start: usize,
    /// Octets of the line up to its end.
    pub end: usize,
}

/// What an item is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ItemKind {
    /// Words.
    Text,
    /// `{`
    Open,
    /// `}`
    Close,
}

/// The items of all lines; says where braces do not match.
pub fn items(lines: &Lines, messages: &mut Messages) -> Vec<Item> {
    let mut items = Vec::new();
    let mut depth = 0usize;
    for (index, line) in lines.lines.iter().enumerate() {
        for item in parts(index, &line.text) {
            match item.kind {
                ItemKind::Open => depth += 1,
                ItemKind::Close if depth == 0 => messages.flaw_at(lines.at(&item), "Extra '}' found"),
                ItemKind::Close => depth -= 1,
                ItemKind::Text => {}
            }
            items.push(item);
        }
    }
    if depth > 0 {
        messages.flaw(format!("There are {depth} missing '}}'s or extra '{{'s"));
    }
    items
}

/// The items of one line, blanks around them left out.
fn parts(line: usize, text: &str) -> Vec<Item> {
    let mut items = Vec::new();
    let mut start = 0;
    let mut quote = Quote::default();
    let mut push = |kind, start: usize, end: usize| {
        let part = &text[start..end];
        let from = start + (part.len() - part.trim_ascii_start().len());
        if !part.trim_ascii().is_empty() {
            items.push(Item { kind, line, start: from, end: from + part.trim_ascii().len() });
        }
    };
    for (at, byte) in text.bytes().enumerate() {
        let kind = match byte {
            b'{' => ItemKind::Open,
            b'}' => ItemKind::Close,
            _ => {
                quote.step(byte);
                continue;
            }
        };
        if quote.is_open() {
            quote.step(byte);
            continue;
        }
        push(ItemKind::Text, start, at);
        push(kind, at, at + 1);
        start = at + 1;
        quote = Quote::default();
    }
    push(ItemKind::Text, start, text.len());
    items
}

/// Follows quotes over a line: `"` alone is one, `\\` takes the next octet out. What stands in `'…'` is not protected.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quote {
    is_open: bool,
    is_escaped: bool,
}

impl Quote {
    /// The next octet.
    pub const fn step(&mut self, byte: u8) {
        match byte {
            _ if self.is_escaped => self.is_escaped = false,
            b'\\' => self.is_escaped = true,
            b'"' => self.is_open = !self.is_open,
            _ => {}
        }
    }

    /// True within quotes.
    pub const fn is_open(self) -> bool {
        self.is_open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<&str> {
        parts(0, text).into_iter().map(|item| &text[item.start..item.end]).collect()
    }

    #[test]
    fn braces_part_lines() {
        assert_eq!(texts("a b { c } d"), ["a b", "{", "c", "}", "d"]);
        assert_eq!(texts("80{"), ["80", "{"]);
        assert_eq!(texts("a \"{\" \\\" it's}"), ["a \"{\" \\\" it's", "}"]);
        assert_eq!(texts("  "), [""; 0]);
    }
}

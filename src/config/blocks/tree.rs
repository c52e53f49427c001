//! Items to a tree, as one pass reads them.
//!
//! Wrong input becomes what keepalived 2.2.7 makes of it: a line that is no keyword of its block is left out; a block that
//! is none has its brace ignored, its lines are looked up in the block around it, and its end ends that one.

use std::collections::BTreeSet;

use crate::config::blocks::keyword::{Effect, Form, Keyword, Naming, Pass};
use crate::config::blocks::near;
use crate::config::language::{Item, ItemKind, Lines, UnmatchedQuote, Word, escaped_words, plain_words};
use crate::config::message::{At, Messages, Severity};

/// A keyword with what follows it.
#[derive(Clone, Debug)]
pub struct Node<'a> {
    /// The keyword.
    pub keyword: &'static Keyword,
    /// Its words, without the keyword itself.
    pub words: Vec<Word>,
    /// Keywords in its block.
    pub children: Vec<Node<'a>>,
    /// Lines of its block.
    pub entries: Vec<Entry>,
    /// Where its block ends.
    pub end: Option<Item>,
    item: Item,
    lines: &'a Lines,
}

/// A line of a block of lines; at least one word.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its words.
    pub words: Vec<Word>,
    item: Item,
}

impl<'a> Node<'a> {
    /// Where the keyword stands.
    pub fn at(&self) -> At {
        self.lines.at(&self.item)
    }

    /// Where a word after the keyword stands, or the keyword.
    pub fn at_word(&self, index: usize) -> At {
        self.words.get(index).map_or_else(|| self.at(), |word| self.lines.at_word(&self.item, word))
    }

    /// Where an entry stands.
    pub fn at_entry(&self, entry: &Entry) -> At {
        self.lines.at(&entry.item)
    }

    /// Where its block ends, or where it stands itself.
    pub fn at_end(&self) -> At {
        self.end.as_ref().map_or_else(|| self.at(), |item| self.lines.at(item))
    }

    /// A word after the keyword; empty when there is none.
    pub fn word(&self, index: usize) -> &str {
        self.words.get(index).map_or("", |word| &word.text)
    }

    /// The name that the keyword is written by.
    pub const fn name(&self) -> &'static str {
        self.keyword.name
    }

    /// All after the keyword, as it stands.
    pub fn rest(&self) -> &'a str {
        let text = self.lines.text(&self.item);
        text.get(self.keyword.name.len()..).map_or("", str::trim_ascii)
    }
}

/// A word that is to be understood, and where it stands.
#[derive(Clone, Debug)]
pub struct Value<'n> {
    /// The word; empty when there is none.
    pub text: &'n str,
    /// Where.
    pub at: At,
}

impl<'a> Node<'a> {
    /// A word after the keyword, as a value.
    pub fn value(&self, index: usize) -> Value<'_> {
        Value { text: self.word(index), at: self.at_word(index) }
    }

    /// A word of an entry, as a value.
    pub fn entry_value<'n>(&self, entry: &'n Entry, index: usize) -> Value<'n> {
        let at =
            entry.words.get(index).map_or_else(|| self.at_entry(entry), |word| self.lines.at_word(&entry.item, word));
        Value { text: entry.word(index), at }
    }
}

impl Entry {
    /// A word; empty when there is none.
    pub fn word(&self, index: usize) -> &str {
        self.words.get(index).map_or("", |word| &word.text)
    }

    /// All words, a blank between two.
    pub fn joined(&self) -> String {
        self.words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" ")
    }
}

/// The nodes outside every block.
pub fn tree<'a>(
    lines: &'a Lines,
    items: &'a [Item],
    table: &'static [Keyword],
    pass: Pass,
    messages: &mut Messages,
) -> Vec<Node<'a>> {
    let mut builder = Builder { lines, items, next: 0, pass, names: BTreeSet::new(), messages };
    builder.block(table, true).0
}

struct Builder<'a, 'm> {
    lines: &'a Lines,
    items: &'a [Item],
    next: usize,
    pass: Pass,
    /// Names of blocks that are there: keyword and name.
    names: BTreeSet<(&'static str, String)>,
    messages: &'m mut Messages,
}

impl<'a> Builder<'a, '_> {
    fn take(&mut self) -> Option<Item> {
        let item = self.items.get(self.next).copied();
        self.next += usize::from(item.is_some());
        item
    }

    fn take_open(&mut self) -> bool {
        let is_open = self.items.get(self.next).is_some_and(|item| item.kind == ItemKind::Open);
        self.next += usize::from(is_open);
        is_open
    }

    /// Reads up to the end of the block that it is in.
    fn block(&mut self, table: &'static [Keyword], is_top: bool) -> (Vec<Node<'a>>, Option<Item>) {
        let mut nodes = Vec::new();
        while let Some(item) = self.take() {
            match item.kind {
                ItemKind::Open => self.messages.flaw_at(self.lines.at(&item), "Unexpected '{' - ignoring"),
                ItemKind::Close if is_top => self.unknown(&item, "}", table),
                ItemKind::Close => return (nodes, Some(item)),
                ItemKind::Text => nodes.extend(self.line(item, table, is_top)),
            }
        }
        (nodes, None)
    }

    fn line(&mut self, item: Item, table: &'static [Keyword], is_top: bool) -> Option<Node<'a>> {
        let text = self.lines.text(&item);
        let (words, unmatched) = plain_words(text);
        let name = words.first()?.text.clone();
        let Some(keyword) = table.iter().find(|keyword| keyword.name == name) else {
            self.say_unmatched(unmatched.is_some(), &item);
            self.unknown(&item, &name, table);
            return None;
        };
        if is_top && !keyword.passes.has(self.pass) {
            self.pass_over(keyword);
            return None;
        }
        let words = match keyword.form {
            Form::Program(_) => match escaped_words(text) {
                Ok(words) => words,
                Err(UnmatchedQuote(quote)) => {
                    let text = format!("String '{text}': missing terminating {quote}");
                    self.messages.flaw_at(self.lines.at(&item), text);
                    words
                }
            },
            _ => {
                self.say_unmatched(unmatched.is_some(), &item);
                words
            }
        };
        let mut node = Node {
            keyword,
            words: words.into_iter().skip(1).collect(),
            children: Vec::new(),
            entries: Vec::new(),
            end: None,
            item,
            lines: self.lines,
        };
        if let Effect::Nothing(why) = keyword.effect {
            self.messages.hint_at(node.at(), format!("{name} is accepted and has no effect here: {why}"));
        }
        match keyword.form {
            Form::Words(least) | Form::Program(least) => self.has_words(&node, least).then_some(node),
            Form::List => {
                if !node.words.is_empty() {
                    let text = format!("Block {name} has extra parameters {} ...", node.word(0));
                    self.messages.flaw_at(node.at(), text);
                }
                self.list(&mut node);
                Some(node)
            }
            Form::NamedList => {
                let is_named = self.has_words(&node, 1);
                self.list(&mut node);
                is_named.then_some(node)
            }
            Form::Block(keywords) => {
                self.open();
                (node.children, node.end) = self.block(keywords, false);
                Some(node)
            }
            Form::Named(keywords, naming) => {
                if !self.is_well_named(&node, naming) {
                    self.skip(keywords);
                    return None;
                }
                self.open();
                (node.children, node.end) = self.block(keywords, false);
                Some(node)
            }
        }
    }

    fn say_unmatched(&mut self, is_unmatched: bool, item: &Item) {
        if is_unmatched {
            let text = format!("Unmatched quote: '{}'", self.lines.text(item));
            self.messages.flaw_at(self.lines.at(item), text);
        }
    }

    /// What helps is looked for once, not in each pass.
    fn unknown(&mut self, item: &Item, name: &str, table: &'static [Keyword]) {
        let text = format!("Unknown keyword '{name}'");
        let at = self.lines.at(item);
        let is_new = !self.messages.is_full() && !self.messages.has_said(&at, &text);
        let help = if is_new { near::help(name, self.lines.text(item), table) } else { None };
        self.messages.say(Severity::Flawed, Some(at), text, help);
    }

    /// **Deviation**: the rest of the file is read nevertheless, so that all errors are said at once.
    fn has_words(&mut self, node: &Node<'a>, least: usize) -> bool {
        let has = node.words.len() >= least;
        if !has {
            let name = node.name();
            let position = node.words.len() + 2;
            let text = format!(
                "*** Configuration line starting `{name}` is missing a parameter after keyword `{}` at word position {position}",
                node.words.last().map_or(name, |word| &word.text)
            );
            self.messages.fatal_at(node.at(), text);
        }
        has
    }

    fn is_well_named(&mut self, node: &Node<'a>, naming: Naming) -> bool {
        let name = node.word(0).to_owned();
        match naming {
            Naming::Needed => self.has_words(node, 1),
            Naming::Wanted(text) | Naming::Unique(text, _) if node.words.len() != 1 => {
                self.messages.flaw_at(node.at(), text);
                false
            }
            Naming::Wanted(_) => true,
            Naming::Unique(_, kind) => {
                let is_new = self.names.insert((node.name(), name.clone()));
                if !is_new {
                    self.messages.flaw_at(node.at(), format!("{kind} {name} already defined"));
                }
                is_new
            }
        }
    }

    /// The brace that a block begins with.
    fn open(&mut self) -> bool {
        let is_open = self.take_open();
        if let (false, Some(item)) = (is_open, self.items.get(self.next)) {
            self.messages.flaw_at(self.lines.at(item), "Missing '{' at beginning of configuration block");
        }
        is_open
    }

    /// Passes over a block that was refused.
    fn skip(&mut self, keywords: &'static [Keyword]) {
        if self.open() {
            self.skip_balanced();
        } else {
            self.block(keywords, false);
        }
    }

    /// Passes over a block that is another process's.
    fn pass_over(&mut self, keyword: &Keyword) {
        if !matches!(keyword.form, Form::Words(_) | Form::Program(_)) && self.take_open() {
            self.skip_balanced();
        }
    }

    fn skip_balanced(&mut self) {
        let mut depth = 1usize;
        while depth > 0 {
            let Some(item) = self.take() else { return };
            match item.kind {
                ItemKind::Open => depth += 1,
                ItemKind::Close => depth -= 1,
                ItemKind::Text => {}
            }
        }
    }

    fn list(&mut self, node: &mut Node<'a>) {
        self.take_open();
        while let Some(item) = self.take() {
            match item.kind {
                ItemKind::Close => {
                    node.end = Some(item);
                    return;
                }
                ItemKind::Open => {
                    node.entries.push(Entry { words: vec![Word { text: "{".to_owned(), offset: 0 }], item });
                }
                ItemKind::Text => {
                    let (words, unmatched) = plain_words(self.lines.text(&item));
                    self.say_unmatched(unmatched.is_some(), &item);
                    if !words.is_empty() {
                        node.entries.push(Entry { words, item });
                    }
                }
            }
        }
    }
}

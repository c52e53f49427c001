//! Programs: what is run, as whom, and whether others could change it.

use crate::config::blocks::Node;
use crate::config::language::escaped_words;
use crate::config::meaning::{Context, name};
use crate::config::message::{At, Severity};
use crate::config::model::{Identity, Script};
use crate::config::source::FileFacts;

/// What became of a program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    /// It can be run.
    Runnable(Script),
    /// There is none.
    Missing,
    /// Others than root can change it, and it would run as root.
    Insecure,
    /// It is there and cannot be executed.
    NotExecutable,
}

impl Found {
    /// The script, where it can be run.
    pub fn runnable(self) -> Option<Script> {
        match self {
            Found::Runnable(script) => Some(script),
            _ => None,
        }
    }
}

impl Context<'_> {
    /// The program of a keyword: `PROGRAM [USER [GROUP]]`. `what` names it for us, `is_said` in keepalived's words.
    pub fn notify_script(&mut self, node: &Node<'_>) -> Option<Script> {
        let line = node.word(0);
        let identity = match node.words.len() {
            0 => return None,
            1 => self.default_identity(node.at())?,
            _ => match self.identity(node.word(1), node.words.get(2).map(|word| word.text.as_str())) {
                Some(identity) => identity,
                None => {
                    let help = format!("the user or group of {line} is not there: it is ignored");
                    self.messages.hint_at(node.at_word(1), help);
                    return None;
                }
            },
        };
        let found = self.find(line, identity);
        self.hint_not_run(&found, node.at_word(0), line);
        found.runnable()
    }

    /// Says in our words why a program is not run.
    pub fn hint_not_run(&mut self, found: &Found, at: At, line: &str) {
        let why = match found {
            Found::Missing => "is not there",
            Found::Insecure => "can be changed by others than root",
            Found::NotExecutable => "is not executable",
            Found::Runnable(_) => return,
        };
        self.messages.hint_at(at, format!("`{line}' {why}: it is not run"));
    }

    /// A user and a group by name.
    pub fn identity(&self, user: &str, group: Option<&str>) -> Option<Identity> {
        let identity = self.source.user(user)?;
        match group {
            Some(group) => Some(Identity { group: self.source.group(group)?, ..identity }),
            None => Some(identity),
        }
    }

    /// As whom programs run that say nothing.
    pub fn default_identity(&mut self, at: At) -> Option<Identity> {
        if self.script_identity.is_none() {
            let text = format!("Unable to set default user {} for script", super::SCRIPT_USER);
            self.messages.say(Severity::Flawed, Some(at), text, None);
        }
        self.script_identity
    }

    /// Takes a program's line apart and looks for it.
    pub fn find(&mut self, line: &str, identity: Identity) -> Found {
        if line.starts_with(['<', '>']) {
            self.scripts.is_any = true;
            return Found::Runnable(Script { words: vec![name(line)], identity, is_shell_line: true });
        }
        let Ok(words) = escaped_words(line) else { return Found::Missing };
        let Some(program) = words.first().filter(|word| !word.text.is_empty()) else { return Found::Missing };
        let Some((path, facts)) = self.look_for(&program.text) else { return Found::Missing };
        let is_insecure = identity.user == 0 && self.is_changeable(&path, facts);
        self.scripts.is_any = true;
        self.scripts.is_any_insecure |= is_insecure || !facts.is_file;
        if !facts.is_file || is_insecure && self.configuration.global.is_script_security_on {
            return Found::Insecure;
        }
        if !is_executable(facts, identity) {
            return Found::NotExecutable;
        }
        let rest = words.iter().skip(1).map(|word| name(&word.text));
        let words = std::iter::once(name(&path)).chain(rest).collect();
        Found::Runnable(Script { words, identity, is_shell_line: false })
    }

    fn look_for(&self, program: &str) -> Option<(String, FileFacts)> {
        if program.contains('/') {
            return self.source.file(program);
        }
        let places = self.source.command_path().into_iter();
        places
            .filter_map(|directory| self.source.file(&format!("{directory}/{program}")))
            .find(|(_, facts)| facts.is_file)
    }

    /// True when others than root can change a file, or what its path leads to.
    fn is_changeable(&self, path: &str, facts: FileFacts) -> bool {
        let is_open = |facts: FileFacts| {
            let is_sticky = facts.is_directory && facts.mode & 0o1000 != 0;
            facts.user != 0 || facts.mode & 0o020 != 0 && facts.group != 0 || facts.mode & 0o002 != 0 && !is_sticky
        };
        let mut above = path;
        let mut is_changeable = is_open(facts);
        while let Some((directory, _)) = above.rsplit_once('/') {
            let facts = self.source.file(if directory.is_empty() { "/" } else { directory });
            is_changeable |= facts.is_some_and(|(_, facts)| is_open(facts));
            above = directory;
        }
        is_changeable
    }
}

/// Whether a user may execute a file.
const fn is_executable(facts: FileFacts, identity: Identity) -> bool {
    let bit = if identity.user == 0 {
        0o111
    } else if facts.user == identity.user {
        0o100
    } else if facts.group == identity.group {
        0o010
    } else {
        0o001
    };
    facts.mode & bit != 0
}

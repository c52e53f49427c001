//! Words of a command line taken one by one, as popt 1.19 takes them.
//!
//! What sets popt apart: long options in full only; a cluster of short ones may end in one that takes the rest (or the
//! next word) as its value; `=` is accepted after short options too; words that are no options may stand anywhere; an
//! optional value is taken only if the next word does not begin with `-`. An error names the whole word.
//! Not kept: popt's rewriting of `!#:+` within values.

use crate::command::options::{OPTIONS, OptionRow, Value};

/// The words of a command line, some of them taken.
pub struct Words<'a> {
    words: &'a [String],
    next: usize,
    /// What is left of a cluster of short options.
    cluster: Option<&'a str>,
    /// True after `--`: no option follows.
    only_arguments: bool,
    arguments: Vec<&'a str>,
}

/// An option with the value it came with.
#[derive(Clone, Copy)]
pub struct Taken<'a> {
    /// Its row in the table.
    pub row: &'static OptionRow,
    /// Its value, if it has one.
    pub value: Option<&'a str>,
}

/// Why an option could not be taken; the texts are popt's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PoptError {
    /// Not in the table.
    UnknownOption,
    /// The value is missing.
    MissingArgument,
    /// A value where none is taken.
    UnwantedArgument,
}

impl PoptError {
    /// popt's sentence.
    pub const fn text(self) -> &'static str {
        match self {
            PoptError::UnknownOption => "unknown option",
            PoptError::MissingArgument => "missing argument",
            PoptError::UnwantedArgument => "option does not take an argument",
        }
    }
}

impl<'a> Words<'a> {
    /// Nothing taken yet; `words` are those after the program's name.
    pub fn new(words: &'a [String]) -> Self {
        Self { words, next: 0, cluster: None, only_arguments: false, arguments: Vec::new() }
    }

    /// Takes the next option; `None` when only arguments are left.
    ///
    /// # Errors
    /// The word is no option of the table, or its value is missing or not wanted.
    pub fn take_option(&mut self) -> Option<Result<Taken<'a>, PoptError>> {
        if let Some(cluster) = self.cluster.take() {
            return Some(self.take_short(cluster));
        }
        while let Some(word) = self.words.get(self.next) {
            self.next += 1;
            match word.strip_prefix('-') {
                Some("-") if !self.only_arguments => self.only_arguments = true,
                Some(rest) if !self.only_arguments && !rest.is_empty() => {
                    return Some(match rest.strip_prefix('-') {
                        Some(long) => self.take_long(long),
                        None => self.take_short(rest),
                    });
                }
                _ => self.arguments.push(word),
            }
        }
        None
    }

    /// The word that the last call of [`Words::take_option`] took last; errors name it.
    pub fn last_word(&self) -> &'a str {
        self.next.checked_sub(1).and_then(|last| self.words.get(last)).map_or("", String::as_str)
    }

    /// The words that are no options, in order; complete once [`Words::take_option`] has returned `None`.
    pub fn arguments(&self) -> &[&'a str] {
        &self.arguments
    }

    fn take_long(&mut self, text: &'a str) -> Result<Taken<'a>, PoptError> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let row = OPTIONS.iter().find(|row| row.long == name).ok_or(PoptError::UnknownOption)?;
        self.take_value(row, value)
    }

    fn take_short(&mut self, cluster: &'a str) -> Result<Taken<'a>, PoptError> {
        let mut characters = cluster.chars();
        let letter = characters.next();
        let row = OPTIONS
            .iter()
            .find(|row| row.short.is_some() && row.short == letter)
            .ok_or(PoptError::UnknownOption)?;
        let rest = Some(characters.as_str()).filter(|rest| !rest.is_empty());
        let value = rest.and_then(|rest| rest.strip_prefix('='));
        if row.value != Value::None || value.is_some() {
            return self.take_value(row, value.or(rest));
        }
        self.cluster = rest;
        Ok(Taken { row, value: None })
    }

    fn take_value(&mut self, row: &'static OptionRow, attached: Option<&'a str>) -> Result<Taken<'a>, PoptError> {
        if row.value == Value::None {
            return if attached.is_some() { Err(PoptError::UnwantedArgument) } else { Ok(Taken { row, value: None }) };
        }
        if attached.is_some() {
            return Ok(Taken { row, value: attached });
        }
        let following = self.words.get(self.next).map(String::as_str);
        match (row.value, following) {
            (Value::Required, None) => Err(PoptError::MissingArgument),
            (Value::Optional, Some(word)) if word.starts_with('-') => Ok(Taken { row, value: None }),
            (_, Some(word)) => {
                self.next += 1;
                Ok(Taken { row, value: Some(word) })
            }
            (_, None) => Ok(Taken { row, value: None }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes all options; each as `long` or `long=value`, an error as its text and the word it names.
    fn taken(line: &str) -> Vec<String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let mut words = Words::new(&words);
        let mut texts = Vec::new();
        while let Some(result) = words.take_option() {
            match result {
                Ok(Taken { row, value: None }) => texts.push(row.long.to_owned()),
                Ok(Taken { row, value: Some(value) }) => texts.push(format!("{}={value}", row.long)),
                Err(error) => {
                    texts.push(format!("{}: {}", words.last_word(), error.text()));
                    return texts;
                }
            }
        }
        texts.extend(words.arguments().iter().map(|argument| format!("'{argument}'")));
        texts
    }

    #[test]
    fn clusters_and_values() {
        assert_eq!(taken("-Ln"), ["list", "numeric"]);
        assert_eq!(taken("-At 1.2.3.4:80 -srr"), ["add-service", "tcp-service=1.2.3.4:80", "scheduler=rr"]);
        assert_eq!(taken("-t=a -t==b"), ["tcp-service=a", "tcp-service==b"]);
        assert_eq!(taken("--tcp-service=a=b --scheduler="), ["tcp-service=a=b", "scheduler="]);
        assert_eq!(taken("-s -x"), ["scheduler=-x"], "a required value may look like an option");
    }

    #[test]
    fn optional_values_do_not_begin_with_a_dash() {
        assert_eq!(taken("-p 60"), ["persistent=60"]);
        assert_eq!(taken("-p -n"), ["persistent", "numeric"]);
        assert_eq!(taken("-p-5"), ["persistent=-5"]);
        assert_eq!(taken("-p"), ["persistent"]);
        assert_eq!(taken("--persistent -- x"), ["persistent", "'x'"]);
    }

    #[test]
    fn arguments_stand_anywhere() {
        assert_eq!(taken("foo -n - -- -c"), ["numeric", "'foo'", "'-'", "'-c'"]);
    }

    #[test]
    fn errors_name_the_whole_word() {
        assert_eq!(taken("-Lq"), ["list", "-Lq: unknown option"]);
        assert_eq!(taken("-L --num"), ["list", "--num: unknown option"]);
        assert_eq!(taken("-At"), ["add-service", "-At: missing argument"]);
        assert_eq!(taken("--numeric=1"), ["--numeric=1: option does not take an argument"]);
        assert_eq!(taken("-Ln="), ["list", "-Ln=: option does not take an argument"]);
        assert_eq!(taken("-L -list"), ["list", "list", "-list: unknown option"]);
        assert_eq!(taken("-é"), ["-é: unknown option"]);
    }
}

//! Words to a request: what ipvsadm checks by itself, in its order and its words.
//!
//! Source: ipvsadm 1.31 as measured; what the kernel checks is not here.

use crate::command::draft::Draft;
use crate::command::names::Names;
use crate::command::options::{Command, Kind, NAMES, Name};
use crate::command::popt::{Taken, Words};
use crate::command::text;
use crate::command::{ListOptions, Parsed, Request, UsageError};

/// Reads the words of a command line. `program` is `argv[0]`, which one of the errors quotes; `words` are the words
/// after it; none at all means `-L`.
///
/// # Errors
/// Texts and exit status of ipvsadm where it refuses the line, and its answers to `-h` and `-v`.
pub fn parse(program: &str, words: &[String], names: &dyn Names) -> Result<Parsed, UsageError> {
    if words.is_empty() {
        return Ok(Parsed::Request { request: Request::Services(None), output: ListOptions::default() });
    }
    let mut words = Words::new(words);
    let mut draft = Draft::default();
    let command = take_command(program, &mut words, &mut draft)?;
    take_options(&mut words, &mut draft, names)?;
    take_arguments(command, &words, &mut draft).map_err(UsageError::refused)?;
    check(command, &draft).map_err(UsageError::refused)?;
    match draft.request(command) {
        Some(request) => Ok(Parsed::Request { request, output: draft.output(command) }),
        None => Ok(Parsed::Restore),
    }
}

impl UsageError {
    /// A sentence on stderr and status 2.
    pub(crate) fn refused(text: String) -> Self {
        Self { exit: 2, stdout: String::new(), stderr: text + "\n", is_final: true }
    }

    /// The advice to read the help, status 255.
    pub(crate) fn try_help(program: &str) -> Self {
        let stderr = format!("Try `{program} -h' or '{program} --help' for more information.\n");
        Self { exit: 255, stdout: String::new(), stderr, is_final: true }
    }

    fn answer(stdout: String) -> Self {
        Self { exit: 0, stdout, stderr: String::new(), is_final: true }
    }
}

/// The first option, which must be a command.
fn take_command(program: &str, words: &mut Words<'_>, draft: &mut Draft) -> Result<Command, UsageError> {
    let Some(Ok(Taken { row, value })) = words.take_option() else {
        return Err(UsageError::try_help(program));
    };
    match row.kind {
        Kind::Command(command) => {
            if let Some(role) = value {
                draft.set_role(command, role).map_err(UsageError::refused)?;
            }
            Ok(command)
        }
        Kind::Help => Err(UsageError::answer(text::help(program))),
        Kind::Version => Err(UsageError::answer(text::VERSION.to_owned())),
        Kind::Modifier(..) => Err(UsageError::try_help(program)),
    }
}

fn take_options(words: &mut Words<'_>, draft: &mut Draft, names: &dyn Names) -> Result<(), UsageError> {
    while let Some(taken) = words.take_option() {
        let Taken { row, value } = taken.map_err(|error| UsageError {
            exit: 255,
            stdout: String::new(),
            stderr: format!("{}: {}\n", words.last_word(), error.text()),
            is_final: false,
        })?;
        let Kind::Modifier(name, effect) = row.kind else {
            return Err(UsageError::refused(format!("invalid option `{}'", words.last_word())));
        };
        name.map_or(Ok(()), |name| draft.mark_given(name)).map_err(UsageError::refused)?;
        effect(draft, value, names).map_err(UsageError::refused)?;
    }
    Ok(())
}

/// Words that are no options: `--set` takes three, nothing else takes any.
fn take_arguments(command: Command, words: &Words<'_>, draft: &mut Draft) -> Result<(), String> {
    let mut arguments = words.arguments();
    if command == Command::SetTimeouts {
        let Some((values, rest)) = arguments.split_first_chunk::<3>() else {
            return Err("--set option requires 3 timeout values".into());
        };
        draft.set_timeouts(*values)?;
        arguments = rest;
    }
    match arguments.first() {
        Some(argument) => Err(format!("unexpected argument {argument}")),
        None => draft.read_scheduler_flags(),
    }
}

/// Whether the options go together.
fn check(command: Command, draft: &Draft) -> Result<(), String> {
    check_names(command, draft)?;
    match command {
        Command::AddService | Command::EditService => draft.check_service(),
        Command::AddServer | Command::EditServer => draft.check_server(),
        Command::List => check_list(draft),
        _ => Ok(()),
    }
}

fn check_names(command: Command, draft: &Draft) -> Result<(), String> {
    let mut chosen: Option<&str> = None;
    for (name, word, _) in NAMES {
        let with = command.name();
        match (name.with(command), draft.is_given(name)) {
            (b'+', false) => return Err(format!("You need to supply the '{word}' option for the '{with}' command")),
            (b'x', true) => return Err(format!("Illegal '{word}' option with the '{with}' command")),
            (b'1', true) => {
                if let Some(other) = chosen {
                    return Err(format!(
                        "The option '{word}' conflicts with the '{other}' option in the '{with}' command"
                    ));
                }
                chosen = Some(word);
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_list(draft: &Draft) -> Result<(), String> {
    let any = |names: &[Name]| names.iter().any(|&name| draft.is_given(name));
    let is_table = any(&[Name::Timeout, Name::Daemon]);
    if (is_table || any(&[Name::Connection])) && any(&[Name::Stats, Name::Rate, Name::Thresholds])
        || is_table && any(&[Name::PersistentConn])
    {
        return Err("options conflicts in the list command".into());
    }
    Ok(())
}

//! ipvsadm, ipvsadm-save and ipvsadm-restore as functions: arguments and standard input in, texts and status out.
//!
//! **Invariant**: who executes the requests is the caller's choice; the kernel's checks are not here.

use crate::command::names::Names;
use crate::command::parse::parse;
use crate::command::render::render;
use crate::command::{ListOptions, Parsed, Refusal, Reply, Request, UsageError, refusal, text};

/// What executes requests: the director itself, or a way to it.
pub trait Executor {
    /// Executes one request.
    ///
    /// # Errors
    /// The refusal that the kernel would give.
    fn execute(&mut self, request: Request) -> Reply;

    /// Executes requests in their order; a reply for each, whatever became of those before.
    fn execute_all(&mut self, requests: Vec<Request>) -> Vec<Reply> {
        requests.into_iter().map(|request| self.execute(request)).collect()
    }
}

/// Changes that `-R` has executed at once.
const RESTORE_BATCH: usize = 256;

/// What a program has to say in the end.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Output {
    /// Exit status: 0, 1, 2 or 255.
    pub exit: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// The three programs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Program {
    /// Any other name.
    Ipvsadm,
    /// `ipvsadm-save`
    Save,
    /// `ipvsadm-restore`
    Restore,
}

impl Program {
    /// Which program `argv[0]` means, by its last component.
    pub fn of(name: &str) -> Self {
        match name.rsplit('/').next() {
            Some("ipvsadm-save") => Program::Save,
            Some("ipvsadm-restore") => Program::Restore,
            _ => Program::Ipvsadm,
        }
    }
}

/// The name that messages use when a script has called ipvsadm.
const IPVSADM: &str = "ipvsadm";

/// True when the program will read its standard input.
pub fn reads_stdin(arguments: &[String], names: &dyn Names) -> bool {
    let Some((name, words)) = arguments.split_first() else { return false };
    match Program::of(name) {
        Program::Restore => true,
        Program::Save => false,
        Program::Ipvsadm => matches!(parse(name, words, names), Ok(Parsed::Restore)),
    }
}

/// Runs the program that `arguments[0]` names with the arguments after it.
pub fn run(arguments: &[String], stdin: Option<&str>, names: &dyn Names, executor: &mut dyn Executor) -> Output {
    let (name, words) = match arguments.split_first() {
        Some((name, words)) => (name.as_str(), words),
        None => (IPVSADM, [].as_slice()),
    };
    let mut run = Run { names, executor, output: Output::default() };
    run.output.exit = match Program::of(name) {
        Program::Ipvsadm => run.ipvsadm(name, words, stdin.unwrap_or_default()),
        Program::Save => run.save(words),
        Program::Restore => run.restore_all(stdin.unwrap_or_default()),
    };
    run.output
}

struct Run<'a> {
    names: &'a dyn Names,
    executor: &'a mut dyn Executor,
    output: Output,
}

/// How one command ended.
struct Ended {
    exit: i32,
    /// ipvsadm left at once: a `-R` in which it was a line ends with it.
    is_final: bool,
}

impl Run<'_> {
    fn ipvsadm(&mut self, program: &str, words: &[String], stdin: &str) -> i32 {
        match parse(program, words, self.names) {
            Ok(Parsed::Request { request, output }) => self.execute(request, &output).exit,
            Ok(Parsed::Restore) => self.restore(program, stdin),
            Err(usage) => self.complain(usage).exit,
        }
    }

    /// `ipvsadm-save`: a wrapper that looks at options only.
    fn save(&mut self, words: &[String]) -> i32 {
        let options = || words.iter().filter(|word| word.starts_with('-'));
        if options().any(|word| word != "-n") {
            self.output.stderr.push_str(text::SAVE_HELP);
            return 1;
        }
        let options = ListOptions { numeric: options().next().is_some(), save: true, ..ListOptions::default() };
        self.execute(Request::Services(None), &options).exit
    }

    /// `ipvsadm-restore`: clears first, whatever comes of it, and drops comments; arguments mean nothing.
    fn restore_all(&mut self, stdin: &str) -> i32 {
        self.execute(Request::Clear, &ListOptions::default());
        let lines = stdin.split('\n').filter(|line| !line.starts_with('#'));
        self.restore_lines(IPVSADM, lines)
    }

    fn restore(&mut self, program: &str, stdin: &str) -> i32 {
        self.restore_lines(program, stdin.split('\n'))
    }

    /// `-R`: a command a line. What the kernel refuses is printed and the next line goes on; the status is that of
    /// the last line.
    fn restore_lines<'t>(&mut self, program: &str, lines: impl Iterator<Item = &'t str>) -> i32 {
        let mut exit = 0;
        let mut changes = Vec::new();
        for line in lines {
            let words = line.split([' ', '\t', '\r']).filter(|word| !word.is_empty() && *word != IPVSADM);
            let words: Vec<String> = words.map(str::to_owned).collect();
            if words.is_empty() {
                continue;
            }
            let parsed = match parse(program, &words, self.names) {
                Ok(Parsed::Request { request, .. }) if request.is_change() => {
                    changes.push(request);
                    if changes.len() == RESTORE_BATCH {
                        exit = self.change(&mut changes).unwrap_or(exit);
                    }
                    continue;
                }
                parsed => parsed,
            };
            // What is printed stays in the order of the lines.
            let _ = self.change(&mut changes);
            let ended = match parsed {
                Ok(Parsed::Request { request, output }) => self.execute(request, &output),
                Ok(Parsed::Restore) => self.complain(UsageError::try_help(program)),
                Err(usage) => self.complain(usage),
            };
            exit = ended.exit;
            if ended.is_final {
                return exit;
            }
        }
        self.change(&mut changes).unwrap_or(exit)
    }

    /// Executes the changes that have been collected; the status of the last, if there is one.
    fn change(&mut self, changes: &mut Vec<Request>) -> Option<i32> {
        let requests = std::mem::take(changes);
        let replies = self.executor.execute_all(requests.clone());
        let ended = requests.iter().zip(&replies).map(|(request, reply)| match reply {
            // A change has nothing to print.
            Ok(_) => 0,
            Err(refused) => self.refuse(request, refused).exit,
        });
        ended.last()
    }

    fn complain(&mut self, usage: UsageError) -> Ended {
        self.output.stdout.push_str(&usage.stdout);
        self.output.stderr.push_str(&usage.stderr);
        Ended { exit: usage.exit, is_final: usage.is_final }
    }

    fn execute(&mut self, request: Request, options: &ListOptions) -> Ended {
        match self.executor.execute(request.clone()) {
            Ok(response) => {
                render(&mut self.output.stdout, &request, &response, options, self.names);
                Ended { exit: 0, is_final: false }
            }
            Err(refused) => self.refuse(&request, &refused),
        }
    }

    /// Lists that cannot be read end ipvsadm with 1, some of them without a word; all else with 255.
    fn refuse(&mut self, request: &Request, refused: &Refusal) -> Ended {
        let is_quiet = matches!(request, Request::Timeouts | Request::Daemons);
        let is_own = matches!(refused, Refusal::NotSupported(_));
        if is_own || !is_quiet {
            self.output.stderr.push_str(&refusal::text(request, refused));
            self.output.stderr.push('\n');
        }
        if is_own || request.is_change() {
            Ended { exit: 255, is_final: false }
        } else {
            Ended { exit: 1, is_final: true }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::names::NoNames;
    use crate::command::request::Response;

    /// Answers from a list, and notes what it was asked.
    struct Script {
        replies: Vec<Reply>,
        asked: Vec<String>,
    }

    impl Executor for Script {
        fn execute(&mut self, request: Request) -> Reply {
            self.asked.push(request.to_string());
            if self.replies.is_empty() { Ok(Response::Done) } else { self.replies.remove(0) }
        }
    }

    fn run_script(line: &str, stdin: &str, replies: Vec<Reply>) -> (Output, Vec<String>) {
        let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let mut script = Script { replies, asked: Vec::new() };
        let output = run(&arguments, Some(stdin), &NoNames, &mut script);
        (output, script.asked)
    }

    fn refused(request: &str, refusal: Refusal) -> (i32, String) {
        let (output, _) = run_script(&format!("ipvsadm {request}"), "", vec![Err(refusal)]);
        assert_eq!(output.stdout, "");
        (output.exit, output.stderr)
    }

    #[test]
    fn refusals_have_the_words_of_their_command() {
        let rows = [
            ("-A -t 1.2.3.4:80", Refusal::Exists, 255, "Service already exists\n"),
            ("-A -t 1.2.3.4:80", Refusal::NotFound, 255, "Scheduler or persistence engine not found\n"),
            ("-E -t 1.2.3.4:80", Refusal::NoService, 255, "No such service\n"),
            ("-a -t 1.2.3.4:80 -r 1.1.1.1", Refusal::Exists, 255, "Destination already exists\n"),
            ("-a -t 1.2.3.4:80 -r 1.1.1.1", Refusal::NoService, 255, "Service not defined\n"),
            ("-a -t 1.2.3.4:80 -r 1.1.1.1", Refusal::Range, 255, "Numerical result out of range\n"),
            ("-e -t 1.2.3.4:80 -r 1.1.1.1", Refusal::NotFound, 255, "No such destination\n"),
            ("-d -t 1.2.3.4:80 -r 1.1.1.1", Refusal::NotFound, 255, "No such destination\n"),
            ("-D -t 1.2.3.4:80", Refusal::NoService, 255, "No such service\n"),
            ("-Z -f 1", Refusal::NoService, 255, "No such service\n"),
            ("-L -f 1", Refusal::NoService, 1, "No such service\n"),
            ("-S", Refusal::NotPermitted, 1, "Permission denied (you must be root)\n"),
            ("-L --timeout", Refusal::NotPermitted, 1, ""),
            ("--start-daemon master", Refusal::Exists, 255, "Daemon has already run\n"),
            ("--start-daemon master", Refusal::NoDevice, 255, "No such device\n"),
            ("--stop-daemon master", Refusal::NoService, 255, "No daemon is running\n"),
            ("--start-daemon master", Refusal::NotSupported("not yet".into()), 255, "not yet\n"),
            ("-L --daemon", Refusal::NotSupported("not yet".into()), 255, "not yet\n"),
        ];
        for (request, refusal, exit, text) in rows {
            assert_eq!(refused(request, refusal), (exit, text.to_owned()), "{request}");
        }
    }

    #[test]
    fn restore_goes_on_after_refusals_and_unknown_options() {
        let stdin = "-D -t 1.2.3.4:80\n-A --bogus\n \t\r\nipvsadm -C ipvsadm\r\n";
        let (output, asked) = run_script("ipvsadm -R", stdin, vec![Err(Refusal::NoService)]);
        assert_eq!(output.stderr, "No such service\n--bogus: unknown option\n");
        assert_eq!((output.exit, asked), (0, vec!["-D -t 1.2.3.4:80".to_owned(), "-C".to_owned()]));
        let (output, _) =
            run_script("ipvsadm -R", "-C\n-D -t 1.2.3.4:80", vec![Ok(Response::Done), Err(Refusal::NoService)]);
        assert_eq!(output.exit, 255, "the status is that of the last line");
    }

    #[test]
    fn restore_ends_with_usage_errors_failing_lists_and_itself() {
        for (line, exit) in [("-A -t bogus", 2), ("# comment", 255), ("-R", 255), ("-L -f 1", 1), ("-v", 0)] {
            let replies = if exit == 1 { vec![Err(Refusal::NoService)] } else { Vec::new() };
            let (output, asked) = run_script("ipvsadm -R", &format!("{line}\n-C\n"), replies);
            assert_eq!(output.exit, exit, "{line}");
            assert!(!asked.contains(&"-C".to_owned()), "{line}");
        }
    }

    #[test]
    fn the_scripts_do_what_they_do() {
        let stdin = "# from ipvsadm-save\n-A -t 1.2.3.4:80\n";
        let (output, asked) = run_script("/sbin/ipvsadm-restore -x foo", stdin, vec![Err(Refusal::NotPermitted)]);
        assert_eq!(asked, ["-C", "-A -t 1.2.3.4:80 -s wlc"]);
        assert_eq!((output.exit, output.stderr.as_str()), (0, "Permission denied (you must be root)\n"));
        for (line, exit) in [("ipvsadm-save", 0), ("ipvsadm-save -n foo -n", 0), ("ipvsadm-save -nn", 1)] {
            let (output, asked) = run_script(line, "", Vec::new());
            assert_eq!((output.exit, asked.len()), (exit, usize::from(exit == 0)), "{line}");
            assert_eq!(output.stderr, if exit == 0 { "" } else { text::SAVE_HELP });
        }
    }

    #[test]
    fn stdin_is_read_only_where_it_is_meant() {
        let reads = |line: &str| {
            let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
            reads_stdin(&arguments, &NoNames)
        };
        assert!(reads("ipvsadm -R") && reads("lvxadm --restore") && reads("/x/ipvsadm-restore"));
        assert!(!reads("ipvsadm -R -n") && !reads("ipvsadm-save") && !reads("ipvsadm -L"));
    }
}

//! The client's side of the control socket: `lvxadm` and `lvx`.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::command::line::{Decoder, LineError, Part, STDIN_OCTETS_MAX, encode_words};
use crate::command::names::Names;
use crate::command::program::{self, Executor, Output, Program};
use crate::command::{ListOptions, Parsed, Refusal, Reply, Request, parse, render};

/// Octets of requests that are sent before an answer is read: less than a socket holds, so that neither side waits for
/// the other.
const AHEAD_OCTETS: usize = 1 << 15;

/// Octets taken from the socket at once.
const READ_OCTETS: usize = 1 << 16;

/// A connection to the director, made when the first request needs it.
pub struct Client {
    path: PathBuf,
    stream: Option<UnixStream>,
    decoder: Decoder,
    /// Why the director could not be asked; the first such reason.
    failure: Option<io::Error>,
}

/// How an answer ended.
struct End {
    exit: i32,
    stderr: Vec<u8>,
}

impl Client {
    /// A client of the director whose socket is at `path`.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), stream: None, decoder: Decoder::default(), failure: None }
    }

    /// Sends a line and hands the answer's standard output on as it comes.
    fn ask(&mut self, line: &str, stdout: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<End> {
        self.send(line)?;
        self.receive(stdout)
    }

    /// Sends one line or more.
    fn send(&mut self, lines: &str) -> io::Result<()> {
        self.stream()?.write_all(lines.as_bytes())
    }

    fn stream(&mut self) -> io::Result<&mut UnixStream> {
        if self.stream.is_none() {
            self.stream = Some(UnixStream::connect(&self.path)?);
        }
        self.stream.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Receives the next answer and hands its standard output on as it comes.
    fn receive(&mut self, mut stdout: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<End> {
        let mut octets = vec![0; READ_OCTETS];
        loop {
            match self.decoder.next_part().map_err(invalid)? {
                Some(Part::Chunk(part)) => stdout(&part)?,
                Some(Part::End { exit, stdout: part, stderr }) => {
                    stdout(&part)?;
                    return Ok(End { exit, stderr });
                }
                None => match self.stream()?.read(&mut octets)? {
                    0 => {
                        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the director closed the connection"));
                    }
                    count => self.decoder.push(&octets[..count]),
                },
            }
        }
    }

    /// One request, its answer as a value.
    fn request(&mut self, request: &Request) -> io::Result<Reply> {
        let line = encode_words(&request.to_words(), true).map_err(invalid)?;
        self.send(&line)?;
        self.reply()
    }

    /// The next answer as a value.
    fn reply(&mut self) -> io::Result<Reply> {
        let mut json = Vec::new();
        let end = self.receive(|part| {
            json.extend_from_slice(part);
            Ok(())
        })?;
        serde_json::from_slice(&json).map_err(|_| {
            let said = String::from_utf8_lossy(if end.stderr.is_empty() { &json } else { &end.stderr }).into_owned();
            io::Error::new(io::ErrorKind::InvalidData, said.trim_end().to_owned())
        })
    }

    /// What ipvsadm prints when it cannot reach IPVS, and its status.
    ///
    /// **Deviation**: one more line says which socket was tried. And usage errors, `-h` and `-v` need no director,
    /// where ipvsadm looks for IPVS before it reads its arguments.
    fn unreachable(&self, error: &io::Error) -> Output {
        let text = match error.kind() {
            io::ErrorKind::PermissionDenied => "Permission denied (you must be root)",
            _ => "Protocol not available",
        };
        let stderr = format!(
            "Can't initialize ipvs: {text}\n\
             Are you sure that IP Virtual Server is built in the kernel or as module?\n\
             lvxd does not answer at {}: {error}\n",
            self.path.display()
        );
        Output { exit: 2, stdout: String::new(), stderr }
    }
}

fn invalid(error: LineError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

impl Client {
    /// The next answer; after one failure there is nobody to hear any more.
    fn next_reply(&mut self) -> Reply {
        if self.failure.is_some() {
            return Err(Refusal::NotPermitted);
        }
        let reply = self.reply();
        self.heard(reply)
    }

    fn heard(&mut self, reply: io::Result<Reply>) -> Reply {
        reply.unwrap_or_else(|error| {
            self.failure = Some(error);
            Err(Refusal::NotPermitted)
        })
    }
}

impl Executor for Client {
    fn execute(&mut self, request: Request) -> Reply {
        // After one failure there is nobody to ask any more.
        if self.failure.is_some() {
            return Err(Refusal::NotPermitted);
        }
        // A word that no line can carry is no name of anything that the director has.
        if encode_words(&request.to_words(), true).is_err() {
            return Err(Refusal::Invalid);
        }
        let reply = self.request(&request);
        self.heard(reply)
    }

    /// Sends as many lines ahead as the director reads without having its answers read, so that it can execute them
    /// at once.
    fn execute_all(&mut self, requests: Vec<Request>) -> Vec<Reply> {
        let mut replies = Vec::new();
        let mut rest = requests.as_slice();
        while !rest.is_empty() {
            let mut lines = String::new();
            let mut sent = Vec::new();
            for request in rest {
                let line = encode_words(&request.to_words(), true);
                lines.push_str(line.as_deref().unwrap_or_default());
                sent.push(line.is_ok());
                if lines.len() >= AHEAD_OCTETS {
                    break;
                }
            }
            rest = &rest[sent.len()..];
            if self.failure.is_none()
                && let Err(error) = self.send(&lines)
            {
                self.failure = Some(error);
            }
            for is_sent in sent {
                // A word that no line can carry is no name of anything that the director has.
                let reply = if is_sent { self.next_reply() } else { Err(Refusal::Invalid) };
                replies.push(reply);
            }
        }
        replies
    }
}

/// `lvxadm`, by whatever name it was called: runs `arguments` (the program's name first) and prints.
///
/// Returns the exit status.
///
/// # Errors
/// When standard input or output fails; that nobody reads the output any more is none.
pub fn lvxadm(path: &Path, arguments: &[String], names: &dyn Names) -> io::Result<i32> {
    let mut client = Client::new(path);
    if let Some(options) = connections_options(arguments, names) {
        return client.stream_connections(&options, names);
    }
    let mut stdin = None;
    if program::reads_stdin(arguments, names) {
        let mut octets = Vec::new();
        io::stdin().lock().read_to_end(&mut octets)?;
        stdin = Some(String::from_utf8_lossy(&octets).into_owned());
    }
    let output = program::run(arguments, stdin.as_deref(), names, &mut client);
    let output = match client.failure.take() {
        Some(error) => client.unreachable(&error),
        None => output,
    };
    print(output.stdout.as_bytes(), output.stderr.as_bytes())?;
    Ok(output.exit)
}

/// The options of `-L -c`: a table that may be long, so that it is printed as it comes.
fn connections_options(arguments: &[String], names: &dyn Names) -> Option<ListOptions> {
    let (name, words) = arguments.split_first()?;
    if Program::of(name) != Program::Ipvsadm {
        return None;
    }
    match parse::parse(name, words, names) {
        Ok(Parsed::Request { request: Request::Connections, output }) => Some(output),
        _ => None,
    }
}

/// Puts names into a table of connections while it passes through.
struct Naming<'a> {
    options: &'a ListOptions,
    names: &'a dyn Names,
    /// The part of a line whose end has not come yet.
    rest: Vec<u8>,
}

impl Naming<'_> {
    /// What can be printed once `part` has come: whole lines; the header's as they are.
    fn take(&mut self, part: &[u8]) -> String {
        self.rest.extend_from_slice(part);
        let whole = self.rest.iter().rposition(|&octet| octet == b'\n').map_or(0, |last| last + 1);
        let lines: Vec<u8> = self.rest.drain(..whole).collect();
        let mut out = String::new();
        for line in String::from_utf8_lossy(&lines).lines() {
            match render::parse_connection(line) {
                Ok(row) => render::write_connection(&mut out, &row, self.options, self.names),
                Err(_) => {
                    out.push_str(line);
                    out.push('\n');
                }
            }
        }
        out
    }
}

impl Client {
    fn stream_connections(&mut self, options: &ListOptions, names: &dyn Names) -> io::Result<i32> {
        let mut naming = (!options.numeric).then(|| Naming { options, names, rest: Vec::new() });
        let mut words = vec!["-L".to_owned(), "-n".to_owned(), "-c".to_owned()];
        if options.persistent_conn {
            words.push("--persistent-conn".to_owned());
        }
        let line = encode_words(&words, false).map_err(invalid)?;
        let mut failed_output = None;
        let answer = self.ask(&line, |part| {
            let named = naming.as_mut().map(|naming| naming.take(part));
            let written = io::stdout().lock().write_all(named.as_ref().map_or(part, String::as_bytes));
            written.map_err(|error| {
                let kind = error.kind();
                failed_output = Some(error);
                kind.into()
            })
        });
        if let Some(error) = failed_output {
            return quiet_pipe(Err(error)).map(|()| 0);
        }
        match answer {
            Ok(end) => {
                print(&[], &end.stderr)?;
                Ok(end.exit)
            }
            Err(error) => {
                let output = self.unreachable(&error);
                print(output.stdout.as_bytes(), output.stderr.as_bytes())?;
                Ok(output.exit)
            }
        }
    }
}

/// Reads a file with rules for [`lvx`] to send; `-` is standard input.
///
/// # Errors
/// One sentence when it cannot be read or is longer than a request's standard input may be.
pub fn read_rules(path: &Path) -> Result<String, String> {
    let named = |error: io::Error| format!("{}: {error}", path.display());
    let mut octets = Vec::new();
    let limit = STDIN_OCTETS_MAX as u64 + 1;
    if path.as_os_str() == "-" {
        io::stdin().lock().take(limit).read_to_end(&mut octets).map_err(named)?;
    } else {
        let file = std::fs::File::open(path).map_err(named)?;
        file.take(limit).read_to_end(&mut octets).map_err(named)?;
    }
    let text = String::from_utf8_lossy(&octets).into_owned();
    if text.len() > STDIN_OCTETS_MAX {
        return Err(format!("{}: more than {STDIN_OCTETS_MAX} octets", path.display()));
    }
    Ok(text)
}

/// `lvx WORD…` of the running director, with `stdin` as its standard input: prints its answer and gives the exit
/// status.
///
/// # Errors
/// One sentence when the director cannot be asked.
pub fn lvx(path: &Path, words: &[&str], stdin: Option<&str>) -> Result<u8, String> {
    let mut stdout = Vec::new();
    let end = Client::new(path).ask_lvx(words, stdin, |part| {
        stdout.extend_from_slice(part);
        Ok(())
    })?;
    print(&stdout, &end.stderr).map_err(|error| error.to_string())?;
    Ok(u8::try_from(end.exit).unwrap_or(1))
}

/// As [`lvx`], again and again every `seconds`, until there is an error or nobody reads any more.
///
/// # Errors
/// As [`lvx`].
#[allow(clippy::disallowed_methods, reason = "the program waits for nothing else")]
pub fn lvx_every(path: &Path, words: &[&str], seconds: u16) -> Result<u8, String> {
    loop {
        let status = lvx(path, words, None)?;
        if status != 0 {
            return Ok(status);
        }
        std::thread::sleep(std::time::Duration::from_secs(seconds.into()));
        if io::stdout().lock().write_all(b"\n").and_then(|()| io::stdout().flush()).is_err() {
            return Ok(0);
        }
    }
}

impl Client {
    /// `lvx WORD…` of the running director; the answer's text is handed on as it comes.
    ///
    /// # Errors
    /// One sentence when the director cannot be asked or refuses, or when `stdout` fails. There may be more of an
    /// answer to come then: the client is not to be used again.
    pub fn lvx_answer(&mut self, words: &[&str], stdout: impl FnMut(&[u8]) -> io::Result<()>) -> Result<(), String> {
        let end = self.ask_lvx(words, None, stdout)?;
        match end.exit {
            0 => Ok(()),
            _ => Err(String::from_utf8_lossy(&end.stderr).trim_end().to_owned()),
        }
    }

    fn ask_lvx(
        &mut self,
        words: &[&str],
        stdin: Option<&str>,
        stdout: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<End, String> {
        let words = shlex::try_join(std::iter::once("lvx").chain(words.iter().copied()))
            .map_err(|_| "a word holds a NUL".to_owned())?;
        let request = match stdin {
            Some(text) => format!("with {} {words}\n{text}", text.len()),
            None => words + "\n",
        };
        let answer = self.ask(&request, stdout);
        answer.map_err(|error| format!("lvxd does not answer at {}: {error}", self.path.display()))
    }
}

/// Writes both. A reader that has gone is no error.
pub(in crate::host) fn print(stdout: &[u8], stderr: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    quiet_pipe(out.write_all(stdout).and_then(|()| out.flush()))?;
    quiet_pipe(io::stderr().lock().write_all(stderr))
}

/// A reader that has gone is no error: `lvxadm -Lnc | head`.
fn quiet_pipe(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Response;
    use crate::command::line::encode_end;
    use crate::command::names::NoNames;
    use std::io::{BufRead, BufReader};
    use std::os::unix::net::UnixListener;

    /// A director that answers each line by `answer`, for one client.
    fn with_director(answer: fn(&str) -> Vec<u8>, ask: impl FnOnce(&Path)) -> Vec<String> {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("lvx-client-{}-{number}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let lines = std::thread::scope(|scope| {
            let director = scope.spawn(|| {
                let (stream, _) = listener.accept().unwrap();
                let mut writer = stream.try_clone().unwrap();
                let mut lines = Vec::new();
                for line in BufReader::new(stream).lines() {
                    let line = line.unwrap();
                    writer.write_all(&answer(&line)).unwrap();
                    lines.push(line);
                }
                lines
            });
            ask(&path);
            director.join().unwrap()
        });
        std::fs::remove_file(&path).unwrap();
        lines
    }

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn requests_go_as_lines_and_refusals_come_back_in_ipvsadms_words() {
        let answer = |_: &str| {
            let reply: Reply = Err(Refusal::Exists);
            encode_end(255, &serde_json::to_string(&reply).unwrap(), "")
        };
        let lines = with_director(answer, |path| {
            let mut client = Client::new(path);
            let output = program::run(&words("ipvsadm -A -t 10.9.0.1:80 -s rr"), None, &NoNames, &mut client);
            assert_eq!((output.exit, output.stderr.as_str()), (255, "Service already exists\n"));
        });
        assert_eq!(lines, ["json -A -t 10.9.0.1:80 -s rr"]);
    }

    #[test]
    fn a_restore_uses_one_connection() {
        let answer = |_: &str| {
            let reply: Reply = Ok(Response::Done);
            encode_end(0, &serde_json::to_string(&reply).unwrap(), "")
        };
        let lines = with_director(answer, |path| {
            let mut client = Client::new(path);
            let rules = "-A -t 10.9.0.1:80 -s rr\n-a -t 10.9.0.1:80 -r 10.2.0.1:80 -m\n";
            let output = program::run(&words("ipvsadm-restore"), Some(rules), &NoNames, &mut client);
            assert_eq!(output.exit, 0, "{output:?}");
        });
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0], "json -C");
    }

    #[test]
    fn connections_get_their_names_however_the_parts_are_cut() {
        let names = crate::command::names::FileNames::new("http 80/tcp\n", "10.9.0.1 vip\n");
        let options = ListOptions::default();
        let text = "IPVS connection entries\n\
                    pro expire state       source             virtual            destination\n\
                    TCP 00:59  SYN_RECV    10.1.0.1:1025      10.9.0.1:80        10.2.0.1:8080\n";
        for length in 1..text.len() {
            let mut naming = Naming { options: &options, names: &names, rest: Vec::new() };
            let out: String = text.as_bytes().chunks(length).map(|part| naming.take(part)).collect();
            assert_eq!(out, text.replace("10.9.0.1:80 ", "vip:http    "), "parts of {length}");
        }
    }

    #[test]
    fn a_word_that_cannot_be_sent_is_refused_without_asking() {
        let mut client = Client::new(&std::env::temp_dir().join("lvx-client-nobody"));
        let line = ["ipvsadm", "-A", "-t", "10.9.0.1:80", "-s", "r\nr"].map(str::to_owned);
        let output = program::run(&line, None, &NoNames, &mut client);
        assert_eq!((output.exit, client.failure.is_none()), (255, true));
    }

    #[test]
    fn nobody_there_is_said_with_the_socket() {
        let path = std::env::temp_dir().join("lvx-client-nobody");
        let mut client = Client::new(&path);
        program::run(&words("ipvsadm -Ln"), None, &NoNames, &mut client);
        let failure = client.failure.take().unwrap();
        let output = client.unreachable(&failure);
        assert_eq!(output.exit, 2);
        assert!(output.stderr.starts_with("Can't initialize ipvs: Protocol not available\n"));
        assert!(output.stderr.contains("lvx-client-nobody"));
    }

    #[test]
    fn an_answer_that_is_none_is_an_error_and_not_a_hang() {
        let lines = with_director(
            |_| b"hello\n".to_vec(),
            |path| {
                let mut client = Client::new(path);
                program::run(&words("ipvsadm -C"), None, &NoNames, &mut client);
                assert!(client.failure.is_some());
            },
        );
        assert_eq!(lines.len(), 1);
    }
}

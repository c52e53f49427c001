//! The control socket: lines of ipvsadm's words in, framed answers out (`command::line` has the protocol).
//!
//! Each client is a task of its own; one that does not read or sends half a line waits alone.
//!
//! **Invariant**: an answer to a change leaves only after every worker has adopted it.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf, UCred};
use tokio::net::{UnixListener, UnixStream};

use crate::base::Duration;
use crate::command::line::{self, LINE_OCTETS_MAX, Line, LineError};
use crate::command::names::NoNames;
use crate::command::program::{self, Executor, Output};
use crate::command::request::ConnectionInfo;
use crate::command::{Parsed, Reply, Request, parse, render};
use crate::control::proc_files::ConnectionTable;
use crate::host::options::{ExitStatus, StartError};
use crate::host::state::State;
use crate::host::vrrp;
use crate::host::vrrp::status::{Rest, render_json};

/// Clients at once; one more is told so and closed.
const CLIENTS_MAX: usize = 256;
/// Changes of one client that take effect together at most.
const BATCH_REQUESTS: usize = 256;
/// A client that takes nothing of its answer for so long is closed.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Buckets of the connection table that a listing walks before others get their turn.
const LISTING_BUCKETS: usize = 1024;
/// Octets of a listing that are collected before they are sent.
const CHUNK_OCTETS: usize = 1 << 16;
/// How long a change waits between two looks at the workers.
const ADOPTION_POLL: Duration = Duration::from_micros(100);

/// The socket file; removed when dropped.
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlSocket {
    /// Binds the socket. A file left behind by a director that is gone is replaced; a living one's is not.
    ///
    /// # Errors
    /// When another director answers there, or the path cannot be made.
    pub fn bind(path: &Path, group: Option<&str>) -> Result<Self, StartError> {
        let fail = |what: &str, error: std::io::Error| {
            let exit = match error.kind() {
                std::io::ErrorKind::PermissionDenied => ExitStatus::Rights,
                _ => ExitStatus::Other,
            };
            StartError::new(exit, format!("control socket {}: {what}: {error}", path.display()))
        };
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            std::fs::create_dir_all(directory).map_err(|error| fail("making its directory", error))?;
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            let text = format!("control socket {} is in use: another lvxd is running", path.display());
            return Err(StartError::new(ExitStatus::Busy, text));
        }
        match std::fs::symlink_metadata(path) {
            Ok(found) if std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()) => {
                std::fs::remove_file(path).map_err(|error| fail("removing the old one", error))?;
            }
            Ok(_) => {
                let text = format!("control socket {}: there is a file of another kind", path.display());
                return Err(StartError::new(ExitStatus::Other, text));
            }
            Err(_) => {}
        }
        // Made without access for others from the start: there is no moment in which anybody may connect.
        let old = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
        let listener = UnixListener::bind(path);
        rustix::process::umask(old);
        let listener = listener.map_err(|error| fail("binding", error))?;
        let socket = Self { listener, path: path.to_owned() };
        if let Some(group) = group {
            let id = group_id(group)
                .ok_or_else(|| StartError::new(ExitStatus::Usage, format!("there is no group `{group}'")))?;
            std::os::unix::fs::chown(path, None, Some(id)).map_err(|error| fail("setting its group", error))?;
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o660);
            std::fs::set_permissions(path, mode).map_err(|error| fail("setting its mode", error))?;
        }
        Ok(socket)
    }

    /// Serves clients; never returns.
    pub async fn serve(&self, state: Rc<RefCell<State>>) {
        let clients = Rc::new(());
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let (state, ticket) = (Rc::clone(&state), Rc::clone(&clients));
                    let is_full = Rc::strong_count(&clients) > CLIENTS_MAX + 1;
                    tokio::task::spawn_local(async move {
                        let _ticket = ticket;
                        // What goes wrong with a client's stream concerns that client alone.
                        let _ = serve_client(stream, state, is_full).await;
                    });
                }
                Err(error) => {
                    tracing::warn!("control socket: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The number of a group, by its name in /etc/group or as a number.
fn group_id(group: &str) -> Option<u32> {
    if let Ok(number) = group.parse() {
        return Some(number);
    }
    let groups = std::fs::read_to_string("/etc/group").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(group)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

async fn serve_client(stream: UnixStream, state: Rc<RefCell<State>>, is_full: bool) -> std::io::Result<()> {
    let peer = stream.peer_cred().ok();
    let (reader, mut writer) = stream.into_split();
    if is_full {
        let text = format!("lvxd: {CLIENTS_MAX} clients are connected already\n");
        return send(&mut writer, &line::encode_end(1, "", &text)).await;
    }
    let mut reader = BufReader::new(reader);
    let mut octets = Vec::new();
    let mut batch = Batch::default();
    loop {
        // Answers wait as long as the client has sent more already.
        if batch.count >= BATCH_REQUESTS || !reader.buffer().contains(&b'\n') {
            batch.end(&mut writer, &state).await?;
        }
        octets.clear();
        if !read_line(&mut reader, &mut octets).await? {
            return Ok(());
        }
        let parsed = line::parse_line(&octets);
        match parsed {
            Ok(Line::Empty) => {}
            Ok(Line::Ipvsadm { words, json: true }) if batch.take(&state, &words, peer.as_ref()) => {}
            Ok(Line::Ipvsadm { words, json }) => {
                batch.end(&mut writer, &state).await?;
                ipvsadm(&mut writer, &state, &words, json, peer.as_ref()).await?;
            }
            Ok(Line::Lvx { words, stdin_octets }) => {
                batch.end(&mut writer, &state).await?;
                let stdin = read_stdin(&mut reader, stdin_octets).await?;
                if let [command, name] = words.as_slice()
                    && command == "proc"
                    && let Some(table) = ConnectionTable::of(name)
                {
                    send_rows(&mut writer, &state, table.header(), |text, row| table.write(text, row)).await?;
                    continue;
                }
                if words.first().is_some_and(|word| word == "vrrp") {
                    let output = list_vrrp(&state, &words).await;
                    send_output(&mut writer, &output.unwrap_or_else(|text| failure(&text))).await?;
                    continue;
                }
                log_change(peer.as_ref(), is_lvx_change(&words, stdin.is_some()), "lvx", &words);
                let result = state.borrow_mut().lvx_command(&words, stdin.as_deref());
                adopted(&state).await;
                send_output(&mut writer, &result.unwrap_or_else(|text| failure(&text))).await?;
            }
            Err(error) => {
                batch.end(&mut writer, &state).await?;
                send_output(&mut writer, &failure(&error.to_string())).await?;
                // What follows cannot be told from a line.
                if octets.len() > LINE_OCTETS_MAX || error == LineError::Stdin {
                    return Ok(());
                }
            }
        }
    }
}

/// Changes that a client has sent in a row, executed and not yet in effect, and their answers.
#[derive(Default)]
struct Batch {
    count: usize,
    answers: Vec<u8>,
}

impl Batch {
    /// Executes a change, to take effect with those before and after it; false when it is none.
    fn take(&mut self, state: &Rc<RefCell<State>>, words: &[String], peer: Option<&UCred>) -> bool {
        let Ok(Parsed::Request { request, .. }) = parse::parse("ipvsadm", words, &NoNames) else { return false };
        if !request.is_change() {
            return false;
        }
        log_change(peer, true, "ipvsadm", words);
        let reply = state.borrow_mut().execute_unsettled(request);
        let exit = if reply.is_ok() { 0 } else { 255 };
        let stdout = serde_json::to_string(&reply).map(|text| text + "\n").unwrap_or_default();
        self.answers.extend_from_slice(&line::encode_end(exit, &stdout, ""));
        self.count += 1;
        true
    }

    /// Lets the changes take effect, and then answers them.
    async fn end(&mut self, writer: &mut OwnedWriteHalf, state: &Rc<RefCell<State>>) -> std::io::Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        self.count = 0;
        state.borrow_mut().settle();
        adopted(state).await;
        send(writer, &std::mem::take(&mut self.answers)).await
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        debug_assert!(self.count == 0 || std::thread::panicking(), "a batch is ended");
    }
}

fn failure(text: &str) -> Output {
    Output { exit: 2, stdout: String::new(), stderr: format!("lvxd: {text}\n") }
}

/// Reads one line, at most a little more than may be one; false at the end of the stream.
async fn read_line(reader: &mut BufReader<OwnedReadHalf>, octets: &mut Vec<u8>) -> std::io::Result<bool> {
    let limit = LINE_OCTETS_MAX as u64 + 2;
    let count = (&mut *reader).take(limit).read_until(b'\n', octets).await?;
    Ok(count > 0)
}

/// The standard input that follows a line; what is no UTF-8 in it is replaced.
async fn read_stdin(reader: &mut BufReader<OwnedReadHalf>, octets: Option<usize>) -> std::io::Result<Option<String>> {
    let Some(octets) = octets else { return Ok(None) };
    let mut text = vec![0; octets];
    reader.read_exact(&mut text).await?;
    Ok(Some(String::from_utf8_lossy(&text).into_owned()))
}

async fn ipvsadm(
    writer: &mut OwnedWriteHalf,
    state: &Rc<RefCell<State>>,
    words: &[String],
    json: bool,
    peer: Option<&UCred>,
) -> std::io::Result<()> {
    let parsed = parse::parse("ipvsadm", words, &NoNames);
    let (request, output) = match parsed {
        Ok(Parsed::Request { request, output }) => (request, output),
        Ok(Parsed::Restore) => {
            let text = "-R reads standard input; send its lines one by one instead";
            return send_output(writer, &failure(text)).await;
        }
        Err(usage) => {
            let output = Output { exit: usage.exit, stdout: usage.stdout, stderr: usage.stderr };
            return send_output(writer, &output).await;
        }
    };
    if request == Request::Connections && !json {
        let header = render::connections_header(&output);
        let write = |text: &mut String, row: &_| render::write_connection(text, row, &output, &NoNames);
        return send_rows(writer, state, header, write).await;
    }
    log_change(peer, request.is_change(), "ipvsadm", words);
    let answer = if json {
        let reply = state.borrow_mut().execute(request);
        let exit = if reply.is_ok() { 0 } else { 255 };
        let stdout = serde_json::to_string(&reply).map(|text| text + "\n").unwrap_or_default();
        Output { exit, stdout, stderr: String::new() }
    } else {
        let arguments: Vec<String> = std::iter::once("ipvsadm".to_owned()).chain(words.iter().cloned()).collect();
        program::run(&arguments, None, &NoNames, &mut *state.borrow_mut())
    };
    adopted(state).await;
    send_output(writer, &answer).await
}

/// Waits until no packet can meet the rules before the last change.
async fn adopted(state: &Rc<RefCell<State>>) {
    let (shared, change) = {
        let state = state.borrow();
        (state.shared(), state.change())
    };
    while !shared.all_adopted(change) {
        tokio::time::sleep(ADOPTION_POLL).await;
    }
}

/// Sends the connection table in slices; other clients get their turn between them.
async fn send_rows(
    writer: &mut OwnedWriteHalf,
    state: &Rc<RefCell<State>>,
    header: &str,
    write: impl Fn(&mut String, &ConnectionInfo),
) -> std::io::Result<()> {
    let mut text = header.to_owned();
    let buckets = state.borrow().shared().connections.bucket_count();
    let mut rows = Vec::new();
    for first in (0..buckets).step_by(LISTING_BUCKETS) {
        {
            let state = state.borrow();
            for bucket in first..(first + LISTING_BUCKETS).min(buckets) {
                state.connections_of(bucket, &mut rows);
            }
        }
        for row in rows.drain(..) {
            write(&mut text, &row);
        }
        if text.len() >= CHUNK_OCTETS {
            send(writer, &line::encode_chunk(&text)).await?;
            text.clear();
        }
        tokio::task::yield_now().await;
    }
    send(writer, &line::encode_end(0, &text, "")).await
}

/// `lvx vrrp [--json]`, asked for in slices, so that no advertisement waits.
async fn list_vrrp(state: &Rc<RefCell<State>>, words: &[String]) -> Result<Output, String> {
    let is_json = match words {
        [_] => false,
        [_, option] if option == "--json" => true,
        _ => return Err("vrrp takes --json and nothing else".to_owned()),
    };
    let (mut instances, mut from, mut rest) = (Vec::new(), Some(0), Rest::default());
    while let Some(position) = from {
        let answer = match state.borrow().vrrp() {
            Some(vrrp) => vrrp.status(position),
            None => return Err("there are no virtual routers: lvxd was started without --config".to_owned()),
        };
        let slice = answer.await.map_err(|_| "the virtual routers are at their end".to_owned())?;
        instances.extend(slice.instances);
        (from, rest) = (slice.next, slice.rest);
    }
    let stdout = if is_json { render_json(&instances, &rest) } else { vrrp::status::render(&instances, &rest) };
    Ok(Output { exit: 0, stdout, stderr: String::new() })
}

async fn send_output(writer: &mut OwnedWriteHalf, output: &Output) -> std::io::Result<()> {
    send(writer, &line::encode_end(output.exit, &output.stdout, &output.stderr)).await
}

async fn send(writer: &mut OwnedWriteHalf, octets: &[u8]) -> std::io::Result<()> {
    match tokio::time::timeout(WRITE_TIMEOUT, writer.write_all(octets)).await {
        Ok(result) => result,
        Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
    }
}

/// Whether a command of `lvx` may change something.
fn is_lvx_change(words: &[String], has_stdin: bool) -> bool {
    match words.first().map(String::as_str) {
        Some("trace") => false,
        Some("sync") => words.get(1).is_some_and(|word| word == "resync"),
        Some("latency") => words.iter().any(|word| word == "--reset"),
        Some("local-address") => words.get(1).is_some_and(|word| word != "list"),
        _ => has_stdin || words.iter().any(|word| word.contains('=')),
    }
}

fn log_change(peer: Option<&UCred>, is_change: bool, program: &str, words: &[String]) {
    if !is_change {
        return;
    }
    let (uid, pid) = peer.map_or((u32::MAX, 0), |peer| (peer.uid(), peer.pid().unwrap_or_default()));
    tracing::info!("uid {uid} pid {pid}: {program} {}", words.join(" "));
}

impl Executor for State {
    fn execute(&mut self, request: Request) -> Reply {
        State::execute(self, request)
    }
}

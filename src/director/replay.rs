//! A director offline: the network from a file, the packets' own clock, commands as in a shell.

use std::fmt;

use crate::base::{Address, Duration, Instant, InterfaceId};
use crate::command::names::FileNames;
use crate::command::program::{self, Executor, Output};
use crate::command::{Reply, Request};
use crate::conn::TableConfig;
use crate::conn::helper::FTP_PORT_DEFAULT;
use crate::control::{proc_files, status};
use crate::director::{Director, SyncSent};
use crate::forward::Verdict;
use crate::forward::trace::Step;
use crate::port::memory::{MemoryPort, MemoryPortSize};
use crate::route::Database;
use crate::route::net_file::{self, NetLine};

/// Connections of each family that a replay can hold.
const CONNECTIONS_MAX: u32 = 1 << 17;
/// `conn_tab_bits` of a replay: the kernel's default.
const TABLE_BITS: u8 = 12;
/// Octets of a chunk: the largest IPv4 packet, its link header and headroom.
const CHUNK_OCTETS: u32 = 1 << 17;
const CHUNKS: u32 = 128;
/// Everything that chance decides in a replay follows from this: same input, same output.
const SEED: u64 = 1;
/// The time of day at which every replay starts, universal time, milliseconds since midnight: eight in the evening. Only
/// timestamps in IP options tell; those of recordings were written in the evening too.
const START_OF_DAY_MILLISECONDS: u32 = 20 * 60 * 60 * 1000;

/// A director offline.
pub struct Replay {
    director: Director,
    database: Database,
    interfaces: Vec<String>,
    names: FileNames,
}

/// What is wrong with a replay's input.
#[derive(Debug)]
pub enum ReplayError {
    /// A line of the net file.
    Net(net_file::NetFileError),
    /// An interface that the net file does not name.
    Interface(String),
    /// Something else, in words.
    Other(String),
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReplayError::Net(error) => write!(f, "net file: {error}"),
            ReplayError::Interface(name) => write!(f, "no interface `{name}' in the net file"),
            ReplayError::Other(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for ReplayError {}

impl From<net_file::NetFileError> for ReplayError {
    fn from(error: net_file::NetFileError) -> Self {
        ReplayError::Net(error)
    }
}

/// A frame that left.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sent {
    /// Name of the interface.
    pub interface: String,
    /// The frame.
    pub frame: Vec<u8>,
}

impl Replay {
    /// A director in the network of `net` (see [`net_file`]); `names` answers for host and service names.
    ///
    /// # Errors
    /// The first line of `net` that is not understood.
    pub fn new(net: &str, names: FileNames) -> Result<Self, ReplayError> {
        let lines = net_file::parse(net)?;
        let mut interfaces: Vec<String> = Vec::new();
        for line in &lines {
            // A VLAN comes with the interface that carries it.
            if let NetLine::Link { name, vlan: None, .. } = line
                && !interfaces.contains(name)
            {
                interfaces.push(name.clone());
            }
        }
        let mut database = Database::new(&interfaces);
        for line in &lines {
            database.apply(line)?;
        }
        let table = TableConfig { connections_max: CONNECTIONS_MAX, bucket_bits: TABLE_BITS };
        let port = MemoryPort::new(MemoryPortSize { chunk_octets: CHUNK_OCTETS, chunks: CHUNKS });
        let director = Director::new(table, 1 << TABLE_BITS, port, database.snapshot(), SEED);
        director.shared().set_start_of_day(START_OF_DAY_MILLISECONDS);
        Ok(Self { director, database, interfaces, names })
    }

    /// Executes a command: ipvsadm and its two companions, `lvx sysctl`, `lvx status`, `lvx drops`, `lvx trace`, `lvx mark`, `cat /proc/net/ip_vs…`.
    pub fn command(&mut self, words: &[String], stdin: Option<&str>) -> Result<Output, ReplayError> {
        let Some(first) = words.first() else { return Err(ReplayError::Other("an empty command".into())) };
        match first.rsplit('/').next().unwrap_or_default() {
            "ipvsadm" | "ipvsadm-save" | "ipvsadm-restore" | "lvxadm" => {
                Ok(program::run(words, stdin, &self.names, &mut Rules(&mut self.director)))
            }
            "lvx" if words.get(1).is_some_and(|word| word == "mark") => {
                self.director.mark_command(&words[2..], stdin).map_err(ReplayError::Other)
            }
            "lvx" if words.get(1).is_some_and(|word| word == "trace") => {
                let now = self.director.now();
                self.director.control().trace_command(&words[2..], stdin, now).map_err(ReplayError::Other)
            }
            "lvx" => {
                let now = self.director.now();
                let answer = status::lvx_command(&words[1..], self.director.control_mut(), now);
                answer.map_err(ReplayError::Other)
            }
            "cat" => self.cat(&words[1..]),
            "modprobe" => {
                if words.get(1).is_some_and(|module| module == "ip_vs_ftp") {
                    self.director.control_mut().serve_ftp(&[FTP_PORT_DEFAULT]);
                }
                Ok(Output { exit: 0, stdout: String::new(), stderr: String::new() })
            }
            other => Err(ReplayError::Other(format!("unknown command `{other}'"))),
        }
    }

    fn cat(&self, paths: &[String]) -> Result<Output, ReplayError> {
        let mut stdout = String::new();
        for path in paths {
            let name = path.strip_prefix("/proc/net/").unwrap_or(path);
            let text = proc_files::read(self.director.control(), name, self.director.now())
                .ok_or_else(|| ReplayError::Other(format!("unknown file `{path}'")))?;
            stdout.push_str(&text);
        }
        Ok(Output { exit: 0, stdout, stderr: String::new() })
    }

    /// Sets a knob. Names outside `net.ipv4.vs` are the host's and change nothing here.
    ///
    /// # Errors
    /// The kernel's words for a value it refuses.
    pub fn set_sysctl(&mut self, name: &str, value: &str) -> Result<(), String> {
        let ours = name.replace('/', ".").starts_with(crate::service::sysctl::PREFIX);
        if ours {
            self.director.shared().sysctls.write(name, value).map_err(|error| error.to_string())?;
            self.director.control_mut().sysctls_changed();
        }
        Ok(())
    }

    /// Changes the network by one line of a net file.
    ///
    /// # Errors
    /// When the line is not understood.
    pub fn change_net(&mut self, line: &str) -> Result<(), ReplayError> {
        let Some(line) = net_file::parse_line(line)? else { return Ok(()) };
        if let NetLine::Sysctl { name, value } = &line {
            return self.set_sysctl(name, value).map_err(ReplayError::Other);
        }
        self.database.apply(&line)?;
        self.director.set_routes(self.database.snapshot());
        Ok(())
    }

    /// Takes a frame from `interface` to its verdict and returns what left because of it.
    ///
    /// # Errors
    /// When there is no such interface or the frame is too large.
    pub fn receive(&mut self, interface: &str, frame: &[u8]) -> Result<(Verdict, Vec<Sent>), ReplayError> {
        let id = self.interface(interface)?;
        let verdict = self
            .director
            .receive(id, frame)
            .ok_or_else(|| ReplayError::Other(format!("a frame of {} octets is too large", frame.len())))?;
        Ok((verdict, self.take_sent()))
    }

    /// As [`Replay::receive`], its way told before it goes it.
    ///
    /// # Errors
    /// As [`Replay::receive`], and when something else came of the frame than was told.
    pub fn receive_foretold(
        &mut self,
        interface: &str,
        frame: &[u8],
    ) -> Result<(Verdict, Vec<Sent>, Vec<Step>), ReplayError> {
        let id = self.interface(interface)?;
        let gone = self.director.receive_foretold(id, frame);
        let gone = gone.ok_or_else(|| ReplayError::Other(format!("a frame of {} octets is too large", frame.len())))?;
        let gone = gone.map_err(|fault| ReplayError::Other(format!("trace: {fault}")))?;
        let sent = gone.sent.into_iter().map(|sent| self.named(sent)).collect();
        Ok((gone.verdict, sent, gone.steps))
    }

    /// Turns on what no command of ipvsadm turns on: the FTP helper at its usual port, and full NAT with the addresses
    /// that interfaces have.
    pub fn use_helpers(&mut self) {
        let control = self.director.control_mut();
        control.serve_ftp(&[FTP_PORT_DEFAULT]);
        let (_, routes) = control.shared().routes.load();
        let is_usable = |address: &&Address| !address.is_loopback() && !address.is_link_local_v6();
        let addresses: Vec<Address> = routes.local_addresses().iter().filter(is_usable).copied().collect();
        // Of more than fit none is taken; a replay may do without.
        let _ = control.add_local_addresses(&addresses);
    }

    /// Chunks of the port's memory that packets have which are still here: fragments that wait for the rest.
    pub fn chunks_held(&self) -> usize {
        self.director.chunks_held()
    }

    /// Gives a backup daemon a datagram.
    pub fn receive_sync(&mut self, datagram: &[u8]) {
        self.director.receive_sync(datagram);
    }

    /// The datagrams that a sync master sent since the last call.
    pub fn take_sync_sent(&mut self) -> Vec<SyncSent> {
        self.director.take_sync_sent()
    }

    /// Lets time pass; returns what left meanwhile.
    pub fn advance(&mut self, duration: Duration) -> Vec<Sent> {
        self.advance_to(self.director.now() + duration)
    }

    /// Lets time pass up to `until`.
    pub fn advance_to(&mut self, until: Instant) -> Vec<Sent> {
        self.director.advance(until);
        self.take_sent()
    }

    /// Current time.
    pub fn now(&self) -> Instant {
        self.director.now()
    }

    /// Names of the director's interfaces.
    pub fn interfaces(&self) -> &[String] {
        &self.interfaces
    }

    fn interface(&self, name: &str) -> Result<InterfaceId, ReplayError> {
        let position = self.interfaces.iter().position(|known| known == name);
        let position = position.ok_or_else(|| ReplayError::Interface(name.to_owned()))?;
        Ok(InterfaceId(position as u16))
    }

    fn take_sent(&mut self) -> Vec<Sent> {
        let sent = self.director.take_transmitted();
        sent.into_iter().map(|sent| self.named(sent)).collect()
    }

    fn named(&self, (id, frame): (InterfaceId, Vec<u8>)) -> Sent {
        Sent { interface: self.interfaces.get(usize::from(id.0)).cloned().unwrap_or_default(), frame }
    }
}

/// The director as the kernel's side of ipvsadm.
struct Rules<'a>(&'a mut Director);

impl Executor for Rules<'_> {
    fn execute(&mut self, request: Request) -> Reply {
        self.0.execute(request)
    }
}

//! The network of the benchmark: client, director and server in namespaces without names.
//!
//! A namespace lives as long as somebody holds it. Only descriptors and threads of this process do, so the kernel
//! removes namespaces, interfaces and programs however the process ends.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;

use lvx::base::{Address, Endpoint, MacAddress};

/// Real servers.
pub const SERVERS: u8 = 4;

/// The virtual service.
pub fn virtual_service() -> Endpoint {
    Endpoint::new(Address::v4(0x0a4d_0901), 5000)
}

/// The virtual service of round trips, which the first real server answers.
pub fn trip_service() -> Endpoint {
    Endpoint::new(Address::v4(TRIP_ADDRESS), 5000)
}

/// Its address.
pub const TRIP_ADDRESS: u32 = 0x0a4d_0902;

/// First addresses of services that nobody asks for, and of their real servers.
pub const OTHER_SERVICES_FIRST: u32 = 0x0a60_0001;
pub const OTHER_SERVERS_FIRST: u32 = 0x0a70_0001;

/// Where real server `number`, from 0, listens.
pub fn server(number: u8) -> Endpoint {
    Endpoint::new(Address::v4(0x0a4d_0201 + u32::from(number)), 6000)
}

/// Link address of real server `number`, from 0; all of them are the one interface of the server's namespace, whose
/// address is that of the first.
pub const fn server_station(number: u8) -> MacAddress {
    MacAddress([2, 0, 0, 0, 2, 1 + number])
}

/// Link address of the client.
pub const CLIENT_STATION: MacAddress = MacAddress([2, 0, 0, 0, 1, 1]);

/// Link address of the director towards the client.
pub const DIRECTOR_STATION_IN: MacAddress = MacAddress([2, 0, 0, 0, 1, 0xfe]);

/// Link address of the director towards the servers.
pub const DIRECTOR_STATION_OUT: MacAddress = MacAddress([2, 0, 0, 0, 2, 0xfe]);

/// The director's address towards the servers: the source of its tunnels.
pub const DIRECTOR_ADDRESS_OUT: Address = Address::v4(0x0a4d_02fe);

/// First address of the generator's clients; they are in 10.64.0.0/13.
pub const CLIENTS_FIRST: u32 = 0x0a40_0000;

/// The director's network as lvx reads it.
pub const NET: &str = "\
link add d0 address 02:00:00:00:01:fe mtu 1500
link add d1 address 02:00:00:00:02:fe mtu 1500
addr add 10.77.1.254/24 dev d0
addr add 10.77.2.254/24 dev d1
route add 10.64.0.0/13 via 10.77.1.1 dev d0
route add local 10.77.9.1/32 dev lo
route add local 10.77.9.2/32 dev lo
neigh add 10.77.1.1 lladdr 02:00:00:00:01:01 dev d0
neigh add 10.77.2.1 lladdr 02:00:00:00:02:01 dev d1
neigh add 10.77.2.2 lladdr 02:00:00:00:02:02 dev d1
neigh add 10.77.2.3 lladdr 02:00:00:00:02:03 dev d1
neigh add 10.77.2.4 lladdr 02:00:00:00:02:04 dev d1
";

/// The same for the kernel, which routes round trips to the first server and all else to the second.
const DIRECTOR: &str = "\
link set lo up
link add d0 address 02:00:00:00:01:fe numrxqueues 1 numtxqueues 1 type veth \
peer name e address 02:00:00:00:01:01 numrxqueues 1 numtxqueues 1 netns CLIENT
link add d1 address 02:00:00:00:02:fe numrxqueues 1 numtxqueues 1 type veth \
peer name e address 02:00:00:00:02:01 numrxqueues 1 numtxqueues 1 netns SERVER
link set d0 up
link set d1 up
addr add 10.77.1.254/24 dev d0
addr add 10.77.2.254/24 dev d1
neigh replace 10.77.1.1 lladdr 02:00:00:00:01:01 dev d0 nud permanent
neigh replace 10.77.2.1 lladdr 02:00:00:00:02:01 dev d1 nud permanent
neigh replace 10.77.2.2 lladdr 02:00:00:00:02:02 dev d1 nud permanent
route add 10.64.0.0/13 via 10.77.1.1 dev d0
route add 10.77.9.1/32 via 10.77.2.2 dev d1
route add 10.77.9.2/32 via 10.77.2.1 dev d1
";

/// `past` is a link past the director, for the answers of directly routed and tunnelled servers.
const CLIENT: &str = "\
link set lo up
link add name past type veth peer name past netns SERVER
link set e up
link set past up
addr add 10.77.1.1/24 dev e
addr add 10.77.3.1/24 dev past
neigh replace 10.77.1.254 lladdr 02:00:00:00:01:fe dev e nud permanent
route add 10.77.9.0/24 via 10.77.1.254 dev e
";

const SERVER: &str = "\
link set lo up
link set e up
link set past up
addr add 10.77.2.1/24 dev e
addr add 10.77.3.2/24 dev past
addr add 10.77.9.2/32 dev lo
";

const SERVER_NEIGHBOUR: &str = "neigh replace 10.77.2.254 lladdr 02:00:00:00:02:fe dev e nud permanent\n";

/// Knobs of every namespace: nothing but our frames on the links, no filter of sources.
const KNOBS: [(&str, &str); 4] = [
    ("ipv6/conf/all/disable_ipv6", "1"),
    ("ipv6/conf/default/disable_ipv6", "1"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
];

/// Three namespaces in a line, two veth pairs between them.
pub struct Net {
    pub client: Namespace,
    pub director: Namespace,
    pub server: Namespace,
}

impl Net {
    /// Namespaces without links, or why there can be none.
    pub fn new() -> Result<Self, String> {
        let namespace = || Namespace::new().map_err(|error| format!("no network namespaces: {error}"));
        Ok(Self { client: namespace()?, director: namespace()?, server: namespace()? })
    }

    /// Makes links, addresses and routes; an error here is a fault of ours or of the machine.
    pub fn build(&self) -> Result<(), String> {
        for namespace in [&self.client, &self.director, &self.server] {
            for (knob, value) in KNOBS {
                namespace.write_knob(knob, value)?;
            }
        }
        // Written before interfaces exist, it resets what they inherit; so first of all.
        self.director.write_knob("ipv4/ip_forward", "1")?;
        let named = |text: &str| text.replace("CLIENT", &self.client.path()).replace("SERVER", &self.server.path());
        self.director.ip(&named(DIRECTOR))?;
        self.client.ip(&named(CLIENT))?;
        self.server.ip(SERVER)?;
        self.server.ip(SERVER_NEIGHBOUR)
    }

    /// Frames that have arrived at the servers, whatever became of them there.
    pub fn arrived(&self) -> u64 {
        self.server.run(|| received_by("e"))
    }
}

/// A network namespace without a name.
pub struct Namespace {
    file: File,
}

impl Namespace {
    fn new() -> io::Result<Self> {
        let made = std::thread::spawn(|| {
            // SAFETY: the call has no pointers and changes this thread alone.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                return Err(io::Error::last_os_error());
            }
            File::open("/proc/thread-self/ns/net")
        });
        Ok(Self { file: made.join().expect("the thread does not panic")? })
    }

    /// A path by which other programs find the namespace.
    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    /// Runs `work` on a thread within the namespace.
    pub fn within<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let file = self.file.try_clone().expect("a descriptor can be had");
        std::thread::spawn(move || {
            enter(&file);
            work()
        })
    }

    /// Runs `work` within the namespace and waits for it.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                enter(&self.file);
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs lines of `ip` in the namespace.
    pub fn ip(&self, lines: &str) -> Result<(), String> {
        let output = self.run(|| {
            // A child is born in the namespace of the thread that makes it.
            let mut child = Command::new("ip")
                .args(["-batch", "-"])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()?;
            child.stdin.take().expect("piped").write_all(lines.as_bytes())?;
            child.wait_with_output()
        });
        match output {
            Err(error) => Err(format!("cannot run ip: {error}")),
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(format!("ip: {}", String::from_utf8_lossy(&output.stderr).trim())),
        }
    }

    fn write_knob(&self, knob: &str, value: &str) -> Result<(), String> {
        let path = format!("/proc/sys/net/{knob}");
        // Without IPv6 there is no knob of it, and nothing to turn off.
        match self.run(|| std::fs::write(&path, value)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(format!("{path}: {error}")),
            _ => Ok(()),
        }
    }
}

fn enter(namespace: &File) {
    // SAFETY: the descriptor is open; the call changes this thread alone.
    let result = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
    assert_eq!(result, 0, "setns: {}", io::Error::last_os_error());
}

/// Index of an interface of this thread's namespace.
pub fn index_of(device: &str) -> u32 {
    use rustix::net::{AddressFamily, SocketType, netdevice, socket};
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None).expect("a socket can be had");
    netdevice::name_to_index(&socket, device).expect("the interface exists")
}

/// Frames received by an interface of this thread's namespace, whatever became of them.
pub fn received_by(device: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/dev").expect("proc is mounted");
    let line = text.lines().find_map(|line| line.trim().strip_prefix(device)?.strip_prefix(':'));
    let packets = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    packets.expect("a line of numbers for the interface")
}

/// While it lives, the servers' interface has a link address that nobody sends to: its stack drops what arrives as
/// soon as it has looked at that. No receiver is cheaper here: for a program in the
/// driver, veth copies each frame first.
pub struct Sink<'a> {
    net: &'a Net,
}

impl<'a> Sink<'a> {
    /// Makes the servers' interface drop all.
    pub fn open(net: &'a Net) -> Result<Self, String> {
        net.server.ip("link set e address 02:00:00:00:02:ff\n")?;
        Ok(Self { net })
    }
}

impl Drop for Sink<'_> {
    fn drop(&mut self) {
        // Neighbours went with the address. Without any of it, round trips fail and say so.
        let _ = self.net.server.ip(&format!("link set e address 02:00:00:00:02:01\n{SERVER_NEIGHBOUR}"));
    }
}

//! What packets come and go by: interfaces, the XDP program on them, ports, and the way back to the kernel.

use std::os::fd::BorrowedFd;
use std::path::Path;

use crate::base::{InterfaceId, MacAddress, Rng};
use crate::host::options::{ExitStatus, Options, StartError};
use crate::host::pass::{Injector, PassInterface, PassThread};
use crate::host::xdp::{Attachment, Xdp, XdpError};
use crate::port::xsk::{BusyPoll, SocketInfo, XskConfig, XskError, XskPort, XskQueue};

/// An interface that is served.
pub struct Interface {
    pub name: String,
    index: u32,
    pub queues: u32,
}

pub fn find_interfaces(names: &[String]) -> Result<Vec<Interface>, StartError> {
    let mut interfaces: Vec<Interface> = Vec::new();
    for name in names {
        if interfaces.iter().any(|known| known.name == *name) {
            return Err(StartError::new(ExitStatus::Usage, format!("interface {name} is named twice")));
        }
        let read = |file: &str| std::fs::read_to_string(format!("/sys/class/net/{name}/{file}")).ok();
        let index = if name.contains('/') || name.is_empty() { None } else { interface_index(name) };
        let Some(index) = index else {
            return Err(xdp_error(XdpError::NoInterface(name.clone())));
        };
        // 803 is monitor mode and the like; only Ethernet (1) has the header that we read.
        if read("type").is_some_and(|kind| kind.trim() != "1") {
            let text = format!("interface {name} is no Ethernet interface");
            return Err(StartError::new(ExitStatus::Interface, text));
        }
        interfaces.push(Interface { name: name.clone(), index, queues: receive_queues(name) });
    }
    Ok(interfaces)
}

fn interface_index(name: &str) -> Option<u32> {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None).ok()?;
    rustix::net::netdevice::name_to_index(&socket, name).ok()
}

/// Receive queues of an interface; 1 where they are not to be seen.
fn receive_queues(name: &str) -> u32 {
    let Ok(entries) = std::fs::read_dir(Path::new("/sys/class/net").join(name).join("queues")) else { return 1 };
    let receive = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("rx-"));
    (receive.count() as u32).max(1)
}

/// What packets come and go by.
pub struct Packets {
    pub xdp: Option<Xdp>,
    pub attachments: Vec<Attachment>,
    pub pass: Option<PassThread>,
    pub ports: Vec<XskPort>,
}

pub fn open_packets(
    interfaces: &[Interface],
    workers: usize,
    options: &Options,
    rng: &mut Rng,
) -> Result<Packets, StartError> {
    let mut xdp = Xdp::load().map_err(xdp_error)?;
    let attachments = attach(&mut xdp, interfaces, options)?;
    let reinjected = random_station(rng);
    xdp.set_reinjected_source(reinjected).map_err(xdp_error)?;
    let pass = start_pass(interfaces, &attachments, reinjected, workers)?;
    let multi_buffer = attachments.iter().any(|attachment| attachment.multi_buffer);
    let ports = open_ports(interfaces, workers, &pass, multi_buffer, options)?;
    for port in &ports {
        connect(&mut xdp, interfaces, port.sockets())?;
    }
    Ok(Packets { xdp: Some(xdp), attachments, pass: Some(pass), ports })
}

fn attach(xdp: &mut Xdp, interfaces: &[Interface], options: &Options) -> Result<Vec<Attachment>, StartError> {
    let attach = |interface: &Interface| {
        xdp.attach(interface.index, &interface.name, interface.queues, options.xdp_mode).map_err(xdp_error)
    };
    interfaces.iter().map(attach).collect()
}

fn start_pass(
    interfaces: &[Interface],
    attachments: &[Attachment],
    source: MacAddress,
    workers: usize,
) -> Result<PassThread, StartError> {
    let each = interfaces.iter().zip(attachments).enumerate();
    let interfaces = each.map(|(number, (interface, attachment))| PassInterface {
        id: InterfaceId(number as u16),
        index: interface.index,
        native: attachment.native,
    });
    let injector = Injector::new(interfaces.collect(), source).map_err(xdp_error)?;
    PassThread::start(injector, workers).map_err(xdp_error)
}

/// One port a worker: worker W has the queues W, W + workers, … of every interface.
fn open_ports(
    interfaces: &[Interface],
    workers: usize,
    pass: &PassThread,
    multi_buffer: bool,
    options: &Options,
) -> Result<Vec<XskPort>, StartError> {
    let mut ports = Vec::new();
    for worker in 0..workers {
        let mut queues = Vec::new();
        for (number, interface) in interfaces.iter().enumerate() {
            for queue in (worker as u32..interface.queues).step_by(workers) {
                queues.push(XskQueue { interface: InterfaceId(number as u16), name: interface.name.clone(), queue });
            }
        }
        let mut config = XskConfig::new(queues);
        config.multi_buffer = multi_buffer;
        config.busy_poll = options.busy_poll_us.map(|microseconds| BusyPoll { microseconds, budget_frames: 64 });
        ports.push(XskPort::open(&config, pass.queue(worker)).map_err(xsk_error)?);
    }
    Ok(ports)
}

fn connect<'a>(
    xdp: &mut Xdp,
    interfaces: &[Interface],
    sockets: impl Iterator<Item = (&'a SocketInfo, BorrowedFd<'a>)>,
) -> Result<(), StartError> {
    for (info, descriptor) in sockets {
        let index = interfaces[usize::from(info.interface.0)].index;
        xdp.connect(index, info.queue, descriptor).map_err(xdp_error)?;
    }
    Ok(())
}

/// One line an interface and a worker: what was asked of the kernel and what it gave.
pub fn describe(
    interfaces: &[Interface],
    attachments: &[Attachment],
    ports: &[XskPort],
    cpus: &[usize],
) -> Vec<String> {
    let mut lines = Vec::new();
    for (interface, attachment) in interfaces.iter().zip(attachments) {
        let sockets = ports.iter().flat_map(|port| port.sockets());
        let mut zero_copy = sockets.filter(|(info, _)| info.name == interface.name).map(|(info, _)| info.zero_copy);
        let copy = if zero_copy.all(|each| each) { "zero-copy" } else { "copy" };
        let mode = if attachment.native { "native" } else { "skb" };
        let refusal = attachment.refusal.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        let (name, queues) = (&interface.name, interface.queues);
        lines.push(format!("interface {name}: {queues} queues, XDP {mode}, AF_XDP {copy}{refusal}"));
    }
    for worker in 0..ports.len() {
        lines.push(match cpus.get(worker) {
            Some(cpu) => format!("worker {worker}: processor {cpu}"),
            None => format!("worker {worker}: not pinned"),
        });
    }
    lines
}

/// A unicast, locally administered address that nobody else knows.
fn random_station(rng: &mut Rng) -> MacAddress {
    let [_, _, a, b, c, d, e, f] = rng.next_u64().to_be_bytes();
    MacAddress([a & 0xfe | 0x02, b, c, d, e, f])
}

fn xdp_error(error: XdpError) -> StartError {
    let exit = match &error {
        XdpError::Rights => ExitStatus::Rights,
        XdpError::NoInterface(_) | XdpError::Refused { .. } => ExitStatus::Interface,
        XdpError::AlreadyAttached(_) => ExitStatus::Busy,
        _ => ExitStatus::Other,
    };
    StartError::new(exit, error.to_string())
}

fn xsk_error(error: XskError) -> StartError {
    let exit = match &error {
        XskError::Rights | XskError::LockedMemory { .. } => ExitStatus::Rights,
        XskError::NoInterface(_) | XskError::NoQueue { .. } | XskError::NoDriverSupport { .. } | XskError::Down(_) => {
            ExitStatus::Interface
        }
        XskError::QueueBusy { .. } => ExitStatus::Busy,
        _ => ExitStatus::Other,
    };
    StartError::new(exit, error.to_string())
}

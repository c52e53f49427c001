//! The VRRP thread: one round after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::mpsc;

use crate::base::Address;
use crate::host::clock::Clock;
use crate::host::vrrp::addresses::Addresses;
use crate::host::vrrp::announcements::Announcements;
use crate::host::vrrp::firewall::Firewall;
use crate::host::vrrp::helper::News;
use crate::host::vrrp::links::{Links, Lost};
use crate::host::vrrp::receive::{self, BURST, Purpose, Receivers};
use crate::host::vrrp::route_words::Prepared;
use crate::host::vrrp::rtnl::{self, Requests};
use crate::host::vrrp::send::Senders;
use crate::host::vrrp::virtual_link::VirtualLinks;
use crate::host::vrrp::{Command, Commands, Plan, Summary, announcements, status};
use crate::vrrp::{self, Attached, Config, Event, Level, Name, Routers, State, Tracker};
use crate::wire::vrrp::{Received, Version};

mod perform;
mod realtime;

/// Packets that are taken in a round before the time is looked at: more than the sockets hold after a pause, and few
/// enough that a flood delays no advertisement.
const ROUND_PACKETS_MAX: usize = 4096;

/// Everything that the thread has.
pub(super) struct Driver {
    clock: Clock,
    plan: Plan,
    routers: Routers,
    requests: Requests,
    news: rtnl::News,
    links: Links,
    /// Interfaces as the machine knows them.
    told: BTreeMap<Name, vrrp::Link>,
    /// Kernel indices of the interfaces that matter, as sockets were opened for.
    wired: BTreeMap<Name, Option<u32>>,
    virtual_links: VirtualLinks,
    addresses: Addresses,
    firewall: Firewall,
    /// Routes and rules that were installed, by instance.
    installed: BTreeMap<(Name, Attached), Prepared>,
    receivers: Receivers,
    /// Instance, interface and group of each membership.
    memberships: BTreeSet<(Name, Name, Address)>,
    senders: Senders,
    announcements: Announcements,
    helper: mpsc::Sender<News>,
    lost_news: u64,
    commands: Commands,
    receiver: Receiver<Command>,
    buffer: Vec<u8>,
    summary: Arc<Summary>,
    /// A state has changed since the summary was made.
    is_news: bool,
    is_stopped: bool,
}

impl Driver {
    pub fn new(
        plan: Plan,
        clock: Clock,
        helper: mpsc::Sender<News>,
        receiver: Receiver<Command>,
        commands: Commands,
        summary: Arc<Summary>,
    ) -> io::Result<Self> {
        let routers = Routers::new(plan.vrrp().clone()).map_err(|flaws| {
            let texts: Vec<String> = flaws.iter().map(ToString::to_string).collect();
            io::Error::other(texts.join("; "))
        })?;
        Ok(Self {
            clock,
            plan,
            routers,
            requests: Requests::open()?,
            news: rtnl::News::open()?,
            links: Links::default(),
            told: BTreeMap::new(),
            wired: BTreeMap::new(),
            virtual_links: VirtualLinks::default(),
            addresses: Addresses::default(),
            firewall: Firewall::default(),
            installed: BTreeMap::new(),
            receivers: Receivers::new()?,
            memberships: BTreeSet::new(),
            senders: Senders::default(),
            announcements: Announcements::default(),
            helper,
            lost_news: 0,
            commands,
            receiver,
            buffer: receive::buffer(),
            summary,
            is_news: true,
            is_stopped: false,
        })
    }

    /// Until [`Command::Stop`].
    pub fn run(&mut self) {
        let process = self.plan.configuration.global.vrrp_process.clone();
        for (level, text) in realtime::prepare(&process) {
            self.say(level, text);
        }
        self.tell(News::Reconfigured(self.plan.configuration.clone()));
        self.dump();
        self.wire(true);
        self.set_statics(true);
        self.tell_links();
        self.handle(Event::Start);
        while !self.is_stopped {
            self.round();
        }
        self.set_statics(false);
        self.virtual_links.retain(&mut self.requests, &BTreeSet::new());
        self.tell(News::End);
    }

    fn round(&mut self) {
        self.wait();
        self.take_kernel_news();
        self.take_commands();
        self.take_packets();
        let now = self.clock.now();
        self.routers.handle_timeout(now);
        self.perform();
        self.announce();
        self.summarize();
    }

    fn summarize(&mut self) {
        if !std::mem::take(&mut self.is_news) {
            return;
        }
        let mut counts = [0; 4];
        for instance in self.routers.instances() {
            let kind = match instance.state() {
                State::Active { .. } => 0,
                State::Backup { .. } => 1,
                State::Fault => 2,
                State::Initialize => 3,
            };
            counts[kind] += 1;
        }
        for (shared, count) in self.summary.iter().zip(counts) {
            shared.store(count, Ordering::Relaxed);
        }
    }

    /// Until something comes, or a deadline does.
    fn wait(&mut self) {
        let deadline = [self.routers.next_deadline(), self.announcements.deadline()].into_iter().flatten().min();
        let now = self.clock.now();
        let timeout = deadline.map(|at| {
            let wait = at.saturating_since(now);
            Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() }
        });
        let mut descriptors = [
            PollFd::from_borrowed_fd(self.receivers.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.news.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.commands.waker(), PollFlags::IN),
        ];
        // Whatever woke it, even an error: all are looked at.
        let _ = poll(&mut descriptors, timeout.as_ref());
    }

    fn take_commands(&mut self) {
        self.commands.hush();
        while let Ok(command) = self.receiver.try_recv() {
            match command {
                Command::Reload(plan, answer) => {
                    let result = self.reload(*plan);
                    // Who asked may be gone.
                    let _ = answer.send(result);
                }
                Command::Reading(tracker, reading) => self.handle(Event::Tracked { tracker, reading }),
                Command::Status(from, answer) => {
                    let lost = (self.lost_news, self.announcements.lost());
                    let _ = answer.send(status::slice(&self.routers, self.clock.now(), from, lost));
                }
                Command::Copy(from, answer) => {
                    let all = self.routers.instances();
                    let end = from.saturating_add(status::SLICE_MAX).min(all.len());
                    let copies = all.get(from..end).unwrap_or_default().to_vec();
                    let _ = answer.send((copies, (end < all.len()).then_some(end)));
                }
                Command::Stop => {
                    self.handle(Event::Stop);
                    self.is_stopped = true;
                }
            }
        }
    }

    fn reload(&mut self, plan: Plan) -> Result<(), Vec<String>> {
        // Refused before anything is touched.
        plan.vrrp().clone().settle().map_err(|flaws| flaws.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        let old = std::mem::replace(&mut self.plan, plan);
        self.change_statics(&old);
        // What is new is there before the machine uses it; what is old goes when it has let go.
        self.wire(false);
        self.tell_links();
        let now = self.clock.now();
        let result = self.routers.reconfigure(now, self.plan.vrrp().clone());
        self.perform();
        if let Err(flaws) = result {
            self.plan = old;
            return Err(flaws.iter().map(ToString::to_string).collect());
        }
        self.wire(true);
        self.told.retain(|name, _| names_of(self.plan.vrrp()).contains(name));
        self.tell(News::Reconfigured(self.plan.configuration.clone()));
        Ok(())
    }

    /// Tells the machine, and does what it says.
    fn handle(&mut self, event: Event) {
        let now = self.clock.now();
        self.routers.handle(now, event);
        self.perform();
    }

    /// All packets that wait, or as many as a round takes.
    fn take_packets(&mut self) {
        let mut taken = 0;
        let mut buffer = std::mem::take(&mut self.buffer);
        while taken < ROUND_PACKETS_MAX {
            let ready = self.receivers.ready();
            if ready.is_empty() {
                break;
            }
            for number in ready {
                for _ in 0..BURST {
                    let now = self.clock.now();
                    let Some(receiver) = self.receivers.get(number) else { break };
                    let routers = &mut self.routers;
                    let purpose = receiver.purpose();
                    let has_one = receiver.take(&mut buffer, |destination, received| {
                        let interface = interface_for(routers, purpose, destination, &received);
                        routers.handle_packet(now, &interface, received);
                    });
                    taken += 1;
                    if !has_one {
                        break;
                    }
                    self.perform();
                }
            }
        }
        self.buffer = buffer;
    }

    /// Asks the kernel for everything.
    fn dump(&mut self) {
        use netlink_packet_route::RouteNetlinkMessage::{GetAddress, GetLink};
        let links = self.requests.dump(&GetLink(Default::default()));
        let addresses = self.requests.dump(&GetAddress(Default::default()));
        match links.and_then(|links| addresses.map(|addresses| links.into_iter().chain(addresses))) {
            Ok(messages) => self.links = Links::from_dump(messages),
            Err(error) => self.say(Level::Warning, format!("asking for links and addresses: {error}")),
        }
    }

    fn take_kernel_news(&mut self) {
        let own = self.requests.port();
        let mut lost: Vec<Lost> = Vec::new();
        let mut is_changed = false;
        let links = &mut self.links;
        let result = self.news.take(|port, message| {
            is_changed = true;
            // What we took away ourselves is not lost.
            lost.extend(links.apply(message).filter(|_| port != own));
        });
        if result.is_err() {
            self.say(Level::Warning, "news of the kernel were missed: asking for all links and addresses".to_owned());
            self.dump();
            is_changed = true;
            let is_gone = |&(interface, address): &(u32, Address)| self.links.prefix(interface, address).is_none();
            lost =
                self.addresses.all().filter(is_gone).map(|(interface, address)| Lost { interface, address }).collect();
        }
        if !is_changed {
            return;
        }
        let names = names_of(self.plan.vrrp());
        if names.iter().any(|name| self.wired.get(name) != Some(&self.links.index(name))) {
            self.wire(true);
        }
        self.tell_links();
        // Links first: an interface that went down takes addresses along, and then nobody is to put them back.
        for Lost { interface, address } in lost {
            if self.links.prefix(interface, address).is_some() {
                continue;
            }
            if let Some(placed) = self.addresses.take_lost(interface, address) {
                self.handle(Event::AddressLost { interface: placed.named, address });
            }
        }
    }

    /// Tells the machine of links that are not as it knows them.
    fn tell_links(&mut self) {
        let names = names_of(self.plan.vrrp());
        let changed: Vec<(Name, vrrp::Link)> = self
            .links
            .told(&names)
            .filter(|(name, link)| self.told.get(*name) != Some(link))
            .map(|(name, link)| (name.clone(), link))
            .collect();
        for (interface, link) in changed {
            self.told.insert(interface.clone(), link.clone());
            self.handle(Event::Link { interface, link });
        }
    }

    /// Virtual links and sockets for the plan and the interfaces that there are. `closes` what is not needed any more.
    fn wire(&mut self, closes: bool) {
        let instances = &self.plan.configuration.vrrp.instances;
        if closes {
            let wished = instances.iter().filter(|it| it.virtual_mac().is_some()).map(|it| it.name.clone()).collect();
            self.virtual_links.retain(&mut self.requests, &wished);
        }
        let failures = self.virtual_links.make(&mut self.requests, &mut self.links, instances.iter());
        let names = names_of(self.plan.vrrp());
        self.wired = names.iter().map(|name| (name.clone(), self.links.index(name))).collect();
        let mut wished = BTreeSet::new();
        for config in instances {
            let mut kinds = vec![false];
            // The other protocol is looked at only by who needs it: it is that of IPsec.
            if config.version == Version::V2 && matches!(config.authentication, vrrp::Authentication::Header(_)) {
                kinds.push(true);
            }
            let (family, interface) = (config.family, &config.interface);
            let index = interface.as_ref().and_then(|name| self.links.index(name));
            for is_authenticated in kinds {
                match (config.is_unicast(), interface, index) {
                    (true, ..) => {
                        wished.insert(Purpose::Unicast { family, is_authenticated });
                    }
                    (false, Some(interface), Some(index)) => {
                        let interface = interface.clone();
                        wished.insert(Purpose::Group { index, interface, family, is_authenticated });
                    }
                    (false, ..) => {}
                }
            }
            if let (Some(link), Some(interface), false) =
                (self.virtual_links.of(&config.name), interface, config.is_unicast())
            {
                wished.insert(Purpose::Virtual { index: link.index, interface: interface.clone(), family });
            }
        }
        if !closes {
            wished.extend(self.receivers.purposes().cloned());
        }
        let errors = self.receivers.reconcile(&wished);
        for text in failures {
            self.say(Level::Warning, text);
        }
        for (purpose, error) in errors {
            let on = purpose.interface().map_or("unicast", |name| name);
            self.say(Level::Warning, format!("receiving on {on}: {error}"));
        }
        self.level_groups();
        self.senders.prune(&self.links);
    }

    fn level_groups(&mut self) {
        let wished = self.memberships.iter().map(|(_, interface, group)| (interface.clone(), *group)).collect();
        for (interface, group, error) in self.receivers.level_groups(&wished) {
            self.say(Level::Warning, format!("joining {group} on {interface}: {error}"));
        }
    }

    /// Tells the helper; what finds no room is counted.
    fn tell(&mut self, news: News) {
        if self.helper.try_send(news).is_err() {
            self.lost_news += 1;
        }
    }

    fn say(&mut self, level: Level, text: String) {
        self.tell(News::Log(level, text));
    }

    /// Sends announcements that are due, a burst of them.
    fn announce(&mut self) {
        let now = self.clock.now();
        let mut is_router = BTreeMap::new();
        for _ in 0..announcements::BURST {
            let Some(due) = self.announcements.next(now) else { return };
            // Gone meanwhile, or elsewhere.
            let placed = self.addresses.place_of(&due.instance, due.address);
            if placed.is_none_or(|placed| placed.interface != due.interface) {
                continue;
            }
            let Some(link) = self.links.get(due.interface) else { continue };
            let forwards =
                !due.address.is_v4() && *is_router.entry(due.interface).or_insert_with(|| forwards(&link.name));
            let frame = announcements::frame(due.address, link.mac, forwards);
            if let Err(error) = self.senders.send_frame(due.interface, &frame) {
                let text = format!("({}) announcing {} on {}: {error}", due.instance, due.address, link.name);
                self.say(Level::Warning, text);
            }
        }
    }
}

/// Whether this host is a router of IPv6 by that interface.
fn forwards(interface: &str) -> bool {
    let path = format!("/proc/sys/net/ipv6/conf/{interface}/forwarding");
    std::fs::read_to_string(path).is_ok_and(|text| text.trim() == "1")
}

/// The interfaces that matter: instances run on them, or track them.
fn names_of(config: &Config) -> BTreeSet<Name> {
    let own = config.instances.iter().filter_map(|it| it.interface.clone());
    let tracks =
        config.instances.iter().flat_map(|it| &it.tracks).chain(config.groups.iter().flat_map(|it| &it.tracks));
    let tracked = tracks.filter_map(|track| match &track.tracker {
        Tracker::Interface(name) => Some(name.clone()),
        _ => None,
    });
    own.chain(tracked).collect()
}

/// The interface that the machine is told of a packet.
///
/// Unicast comes by whatever interface it comes: it is for the instance with that address and identifier.
fn interface_for(routers: &Routers, purpose: &Purpose, destination: Address, received: &Received<'_>) -> Name {
    let vrid = vrid_of(received);
    match purpose {
        Purpose::Group { interface, .. } | Purpose::Virtual { interface, .. } => interface.clone(),
        Purpose::Unicast { family, .. } => {
            let is_it = |it: &&vrrp::Instance| {
                let own = it.config();
                own.is_unicast() && own.family == *family && Some(own.vrid) == vrid && it.primary() == Some(destination)
            };
            let found = routers.instances().iter().find(is_it);
            // Nobody's, and counted as that.
            let none: Name = "".into();
            found.and_then(|it| it.config().interface.clone()).unwrap_or(none)
        }
    }
}

/// The identifier, wherever the message begins.
fn vrid_of(received: &Received<'_>) -> Option<u8> {
    match received {
        Received::V6 { payload, .. } => payload.get(1).copied(),
        Received::V4(packet) => {
            let header = usize::from(packet.first()? & 0x0f) * 4;
            let is_authenticated = packet.get(9) == Some(&crate::wire::vrrp::PROTOCOL_AUTHENTICATION);
            let between = if is_authenticated { (usize::from(*packet.get(header + 1)?) + 2) * 4 } else { 0 };
            packet.get(header + between + 1).copied()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identifier_is_found_behind_every_header() {
        let mut plain = vec![0u8; 28];
        (plain[0], plain[9], plain[21]) = (0x45, 112, 51);
        assert_eq!(vrid_of(&Received::V4(&plain)), Some(51));
        // An authentication header of 24 octets.
        let mut authenticated = vec![0u8; 52];
        (authenticated[0], authenticated[9], authenticated[21], authenticated[45]) = (0x45, 51, 4, 52);
        assert_eq!(vrid_of(&Received::V4(&authenticated)), Some(52));
        for length in 0..28 {
            let _ = vrid_of(&Received::V4(&authenticated[..length]));
        }
        let any = Address::v6(1);
        let six = Received::V6 { source: any, destination: any, hop_limit: 255, payload: &[0x31, 53] };
        assert_eq!(vrid_of(&six), Some(53));
    }
}

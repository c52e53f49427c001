//! Two directors, the network between them, and what the clients of the first one do.

use std::collections::{BTreeMap, BTreeSet};

use super::super::*;
use crate::command::request::{ConnectionInfo, DaemonRole};
use crate::control::sync::resync::{LinkAction, LinkEnd, LinkId, ResyncOptions, Warm};

pub const MASTER: usize = 0;
pub const BACKUP: usize = 1;
/// Connections a second that the simulated master tells of: few, so that much happens meanwhile.
const RATE: u32 = 2000;

/// What is under way.
enum Flying {
    Datagram { to: usize, run: u32, port: u16, octets: Vec<u8> },
    Connect { from: usize, run: u32, link: LinkId },
    Opened { wire: u32 },
    Octets { wire: u32, to: usize, octets: Vec<u8> },
    Closed { wire: u32, to: usize },
    Refused { to: usize, run: u32, link: LinkId },
}

/// A TCP connection: the backup's end and the master's.
struct Wire {
    /// By which name each end knows it, and in which run of its director.
    ends: [(LinkId, u32); 2],
    /// What is sent after this is sent in vain, and nobody notices.
    is_dead: bool,
    /// Octets come in order.
    last_at: [Instant; 2],
}

/// One of the two.
pub struct Node {
    pub director: Director,
    /// Which run it is.
    pub run: u32,
    pub is_listening: bool,
    pub warm: Vec<Warm>,
}

pub struct Pair {
    pub seed: u64,
    pub rng: Rng,
    pub now: Instant,
    pub nodes: [Node; 2],
    /// The master can resync.
    pub can: bool,
    pub is_calm: bool,
    /// Everybody's datagrams and octets are lost.
    pub is_apart: bool,
    /// Datagrams are lost, octets are not.
    pub loses_datagrams: bool,
    flying: BTreeMap<(Instant, u64), Flying>,
    sent: u64,
    wires: BTreeMap<u32, Wire>,
    next_wire: u32,
    next_client: u16,
    /// Ports of clients with an established connection that was told of, in this run of the master.
    pub told: BTreeSet<u16>,
}

pub fn address(node: usize) -> Address {
    Address::v4(0x0a37_0001 + node as u32)
}

fn options(seed: u64) -> ResyncOptions {
    ResyncOptions { port: None, peer: None, rate: RATE, seed }
}

fn node(run: u32, seed: u64, can: bool) -> Node {
    let served = ["eth0".to_owned(), "eth1".to_owned()];
    let mut database = Database::new(&served);
    for line in net_file::parse(NET).unwrap() {
        database.apply(&line).unwrap();
    }
    let table = TableConfig { connections_max: 4096, bucket_bits: 0 };
    let port = MemoryPort::new(MemoryPortSize { chunk_octets: 8192, chunks: 64 });
    let mut director = Director::new(table, 4096, port, database.snapshot(), seed ^ u64::from(run));
    if can {
        director.control_mut().set_resync(options(seed.wrapping_add(run.into())));
    }
    let mut service = rule(Protocol::Tcp, vip(false));
    service.persistent_s = Some(500);
    let key = service.key;
    director.execute(Request::AddService(service)).unwrap();
    for server in ["10.2.0.1", "10.2.0.2"] {
        let server = server_rule(endpoint(server, 80), Method::Masquerading);
        director.execute(Request::AddServer { service: key, server }).unwrap();
    }
    Node { director, run, is_listening: false, warm: Vec::new() }
}

impl Pair {
    pub fn new(seed: u64, can: bool) -> Pair {
        Pair {
            seed,
            rng: Rng::new(seed),
            now: Instant::START,
            nodes: [node(0, seed, can), node(1, seed, true)],
            can,
            is_calm: true,
            is_apart: false,
            loses_datagrams: false,
            flying: BTreeMap::new(),
            sent: 0,
            wires: BTreeMap::new(),
            next_wire: 0,
            next_client: 1024,
            told: BTreeSet::new(),
        }
    }

    pub fn fail(&self, what: &str) -> ! {
        let status = |node: usize| {
            let status = self.nodes[node].director.control().sync_status(self.now);
            serde_json::to_string_pretty(&status).unwrap()
        };
        panic!("LVX_SEED={} at {}: {what}\nmaster {}\nbackup {}", self.seed, self.now, status(0), status(1));
    }

    pub fn start_daemon(&mut self, number: usize) {
        let role = if number == MASTER { DaemonRole::Master } else { DaemonRole::Backup };
        super::super::sync::start_daemon(&mut self.nodes[number].director, role);
        self.carry_out(number);
    }

    pub fn stop_daemon(&mut self, number: usize) {
        let role = if number == MASTER { DaemonRole::Master } else { DaemonRole::Backup };
        self.nodes[number].director.execute(Request::StopDaemon(role)).unwrap();
        self.carry_out(number);
    }

    /// Loss of power, and a start with nothing.
    pub fn restart(&mut self, number: usize) {
        let run = self.nodes[number].run + 2;
        self.nodes[number] = node(run, self.seed, number == BACKUP || self.can);
        self.nodes[number].director.advance(self.now);
        let wires: Vec<u32> = self.wires.keys().copied().collect();
        for wire in wires {
            self.send_close(wire, 1 - number);
            self.wires.get_mut(&wire).unwrap().is_dead = true;
        }
        if number == MASTER {
            self.told.clear();
        }
        self.start_daemon(number);
    }

    /// A client opens a connection: three packets of it, the last of which makes a record.
    pub fn open_connection(&mut self) {
        let port = self.next_client;
        self.next_client += 1;
        let from = endpoint("10.1.0.1", port);
        let director = &mut self.nodes[MASTER].director;
        director.receive(ETH0, &frame(STATION_0, from, vip(false), Some(SYN), b""));
        let (_, out) = sent(director);
        let server = Endpoint::new(Address::v4(u32::from_be_bytes(out[30..34].try_into().unwrap())), 80);
        director.receive(ETH1, &frame(STATION_1, server, from, Some(SYN | ACK), b""));
        for _ in 0..2 {
            director.receive(ETH0, &frame(STATION_0, from, vip(false), Some(ACK), b""));
        }
        director.take_transmitted();
        self.told.insert(port);
        self.carry_out(MASTER);
    }

    /// A client sends a FIN, or a RST.
    pub fn close_connection(&mut self) {
        let Some(&port) = self.told.iter().nth(self.rng.below(self.told.len().max(1) as u32) as usize) else { return };
        let mut packet = frame(STATION_0, endpoint("10.1.0.1", port), vip(false), Some(ACK), b"");
        packet[14 + 20 + 13] |= if self.rng.below(2) == 0 { 1 } else { 4 };
        let sum_at = 14 + 20 + 16;
        packet[sum_at..sum_at + 2].fill(0);
        let director = &mut self.nodes[MASTER].director;
        director.receive(ETH0, &packet);
        director.take_transmitted();
        self.carry_out(MASTER);
    }

    fn delay(&mut self, most_ms: u32) -> Duration {
        let most = if self.is_calm { 2000 } else { 1000 * most_ms };
        Duration::from_micros(self.rng.below(most).into())
    }

    fn put(&mut self, at: Instant, flying: Flying) {
        self.sent += 1;
        self.flying.insert((at, self.sent), flying);
    }

    /// What a director wants done outside.
    pub fn carry_out(&mut self, number: usize) {
        for datagram in self.nodes[number].director.take_sync_sent() {
            let to = 1 - number;
            if self.loses_datagrams || self.is_apart || !self.is_calm && self.rng.below(10) < 2 {
                continue;
            }
            let copies = if !self.is_calm && self.rng.below(12) == 0 { 2 } else { 1 };
            for _ in 0..copies {
                let at = self.now + self.delay(300);
                let (run, octets) = (self.nodes[to].run, datagram.datagram.clone());
                self.put(at, Flying::Datagram { to, run, port: datagram.port - 8848, octets });
            }
        }
        for action in self.nodes[number].director.take_link_actions() {
            match action {
                LinkAction::Listen { port: 8848, .. } => self.nodes[number].is_listening = true,
                LinkAction::Listen { .. } => self.fail("another port"),
                LinkAction::Unlisten => self.nodes[number].is_listening = false,
                LinkAction::Open { link, peer, port, .. } => {
                    assert_eq!((peer, port), (address(1 - number), 8848));
                    let at = self.now + self.delay(50);
                    let run = self.nodes[number].run;
                    if !self.is_apart {
                        self.put(at, Flying::Connect { from: number, run, link });
                    }
                }
                LinkAction::Send { link, octets } => self.send_octets(number, link, octets),
                LinkAction::Close { link } => {
                    if let Some(wire) = self.wire_of(number, link) {
                        self.send_close(wire, 1 - number);
                        self.send_close(wire, number);
                    }
                }
                LinkAction::Warm(warm) => self.nodes[number].warm.push(warm),
            }
        }
    }

    fn wire_of(&self, number: usize, link: LinkId) -> Option<u32> {
        let name = (link, self.nodes[number].run);
        self.wires.iter().find_map(|(wire, it)| (it.ends[1 - number] == name).then_some(*wire))
    }

    fn send_octets(&mut self, number: usize, link: LinkId, octets: Vec<u8>) {
        let Some(wire) = self.wire_of(number, link) else { return };
        let mut rest = &octets[..];
        while !rest.is_empty() {
            let length = (1 + self.rng.below(3000) as usize).min(rest.len());
            let (piece, later) = rest.split_at(length);
            rest = later;
            let at = self.now + self.delay(20);
            let it = self.wires.get_mut(&wire).unwrap();
            if it.is_dead || self.is_apart {
                // A stream that lost something is broken; its ends notice when nothing comes.
                it.is_dead = true;
                return;
            }
            let at = at.max(it.last_at[number]);
            it.last_at[number] = at;
            self.put(at, Flying::Octets { wire, to: 1 - number, octets: piece.to_vec() });
        }
    }

    fn send_close(&mut self, wire: u32, to: usize) {
        let at = self.now + self.delay(20);
        let at = at.max(self.wires[&wire].last_at[1 - to]);
        self.wires.get_mut(&wire).unwrap().last_at[1 - to] = at;
        self.put(at, Flying::Closed { wire, to });
    }

    /// A connection breaks, and both ends are told; or neither.
    pub fn break_wires(&mut self, is_told: bool) {
        let wires: Vec<u32> = self.wires.keys().copied().collect();
        for wire in wires {
            self.wires.get_mut(&wire).unwrap().is_dead = true;
            if is_told {
                self.send_close(wire, MASTER);
                self.send_close(wire, BACKUP);
            }
        }
    }

    fn happen(&mut self, flying: Flying) {
        match flying {
            Flying::Datagram { to, run, port, octets } if self.nodes[to].run == run => {
                self.nodes[to].director.receive_sync_from(address(1 - to), port, &octets);
                self.carry_out(to);
            }
            Flying::Connect { from, run, link } if self.nodes[from].run == run => {
                let to = 1 - from;
                let accepted = match self.nodes[to].is_listening {
                    true => self.nodes[to].director.link(|control, now| control.link_accepted(now, address(from))),
                    false => None,
                };
                let Some(accepted) = accepted else {
                    let at = self.now + self.delay(50);
                    return self.put(at, Flying::Refused { to: from, run, link });
                };
                let ends = match from {
                    BACKUP => [(link, run), (accepted, self.nodes[to].run)],
                    _ => [(accepted, self.nodes[to].run), (link, run)],
                };
                let wire = self.next_wire;
                self.next_wire += 1;
                self.wires.insert(wire, Wire { ends, is_dead: false, last_at: [self.now; 2] });
                let at = self.now + self.delay(50);
                self.put(at, Flying::Opened { wire });
                self.carry_out(to);
            }
            Flying::Opened { wire } => {
                if let Some(link) = self.end(wire, BACKUP) {
                    self.nodes[BACKUP].director.link(|control, now| control.link_opened(now, link));
                    self.carry_out(BACKUP);
                }
            }
            Flying::Octets { wire, to, octets } => {
                if let Some(link) = self.end(wire, to) {
                    self.nodes[to].director.link(|control, now| control.link_received(now, link, &octets));
                    self.carry_out(to);
                }
                if let Some(link) = self.end(wire, 1 - to) {
                    let written = octets.len();
                    self.nodes[1 - to].director.link(|control, now| control.link_written(now, link, written));
                    self.carry_out(1 - to);
                }
            }
            Flying::Closed { wire, to } => {
                if let Some(link) = self.end(wire, to) {
                    self.nodes[to].director.link(|control, now| control.link_closed(now, link, LinkEnd::Closed));
                    self.carry_out(to);
                }
            }
            Flying::Refused { to, run, link } if self.nodes[to].run == run => {
                self.nodes[to].director.link(|control, now| control.link_closed(now, link, LinkEnd::Refused));
                self.carry_out(to);
            }
            Flying::Datagram { .. } | Flying::Connect { .. } | Flying::Refused { .. } => {}
        }
    }

    /// The name of a wire's end, if its director still runs.
    fn end(&self, wire: u32, number: usize) -> Option<LinkId> {
        let (link, run) = self.wires.get(&wire)?.ends[1 - number];
        (self.nodes[number].run == run).then_some(link)
    }

    /// Lets time pass, event by event.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let deadlines = self.nodes.iter().filter_map(|node| node.director.control().next_deadline());
            let next = deadlines.chain(self.flying.keys().next().map(|&(at, _)| at)).min();
            let Some(at) = next.filter(|&at| at <= end) else { break };
            self.now = self.now.max(at);
            for number in [MASTER, BACKUP] {
                self.nodes[number].director.advance(self.now);
                self.carry_out(number);
                if self.nodes[number].director.control().next_deadline().is_some_and(|at| at <= self.now) {
                    self.fail("a timer does not go on");
                }
            }
            while let Some(entry) = self.flying.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let flying = entry.remove();
                self.happen(flying);
            }
        }
        self.now = end;
        for number in [MASTER, BACKUP] {
            self.nodes[number].director.advance(end);
            self.carry_out(number);
        }
    }

    pub fn rows(&mut self, number: usize) -> BTreeMap<(Endpoint, Endpoint), ConnectionInfo> {
        let Ok(Response::Connections(rows)) = self.nodes[number].director.execute(Request::Connections) else {
            panic!()
        };
        self.carry_out(number);
        rows.into_iter().map(|row| ((row.client, row.virtual_service), row)).collect()
    }

    /// What the master told of, the backup has: the same server, the same state.
    pub fn check(&mut self) {
        let (ours, theirs) = (self.rows(MASTER), self.rows(BACKUP));
        for (key, row) in ours {
            let is_told = self.told.contains(&row.client.port) || row.client.port == 0;
            if !is_told {
                continue;
            }
            match theirs.get(&key) {
                None => self.fail(&format!("the backup does not know {row:?}")),
                Some(other) if (&other.state, other.destination) != (&row.state, row.destination) => {
                    self.fail(&format!("the backup has {other:?}, the master {row:?}"));
                }
                Some(_) => {}
            }
        }
    }

    pub fn warm(&self) -> Warm {
        self.nodes[BACKUP].director.control().sync_is_warm(self.now)
    }
}

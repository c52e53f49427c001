//! Stream descriptions (`bench/profiles`): read, checked, and made into frames at speed.
//!
//! What the fields mean and what a frame is, octet by octet, stands in `bench/profiles/README.md`; `profiles.py` there is
//! the reference, to which `tests/tools.rs` holds this. It knows nothing of the benchmark's network.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;

use lvx::base::{Address, MacAddress};
use lvx::wire::checksum::{self, Update};
use serde::Deserialize;

/// Octets of a frame with its check sequence.
const OCTETS_MIN: usize = 64;
const OCTETS_MAX: usize = 1518;
const CHECK_SEQUENCE_OCTETS: usize = 4;

/// Most flows of a profile.
const FLOWS_MAX: u32 = 1 << 20;

/// Most that a size may weigh.
const WEIGHT_MAX: u32 = 1000;

/// What fills frames.
const PAYLOAD: &[u8] = b"a lvx veth sample.";

/// Where fields of a frame are.
const IP: usize = 14;
const IP_IDENTIFICATION: usize = 18;
const IP_CHECKSUM: usize = 24;
const SOURCE: usize = 26;
const DESTINATION: usize = 30;
const SEGMENT: usize = 34;

const SYN: u8 = 2;
const ACK: u8 = 16;

/// The identification that marks a stamped frame; others have 1.
pub const STAMPED: u16 = 0x6c76;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    Tcp,
    Udp,
}

/// How connections are made before a trial.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Opening {
    /// Trials make them.
    None,
    /// One frame of each flow.
    Same,
    /// A SYN of each flow.
    Syn,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From clients to the service.
    Inbound,
    /// Replies of the real server.
    Outbound,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Size {
    octets: usize,
    weight: u32,
}

/// A description as it stands in its file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    #[serde(rename = "about")]
    _about: String,
    protocol: Transport,
    flags: Option<String>,
    frames: Vec<Size>,
    clients: u32,
    ports: u32,
    opening: Opening,
    directions: Vec<Direction>,
}

/// Who sends to whom, as it stands in its file.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stations {
    client_station: String,
    director_station_in: String,
    server_station: String,
    director_station_out: String,
    clients: Ipv4Addr,
    client_port: u16,
    service: SocketAddrV4,
    server: SocketAddrV4,
}

/// Who sends to whom.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Network {
    pub client_station: MacAddress,
    pub director_station_in: MacAddress,
    pub server_station: MacAddress,
    pub director_station_out: MacAddress,
    /// The first client's address and port.
    pub clients: SocketAddrV4,
    pub service: SocketAddrV4,
    pub server: SocketAddrV4,
}

/// One description.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The file's name without its end.
    pub name: String,
    pub protocol: Transport,
    pub opening: Opening,
    pub network: Network,
    /// True where replies are sent too.
    pub has_replies: bool,
    flags: u8,
    sizes: Vec<Size>,
    clients: u32,
    ports: u32,
}

impl Profile {
    /// Reads a description, and `network.json` beside it. With `octets`, all frames have that size.
    pub fn load(path: &Path, octets: Option<usize>) -> Result<Self, String> {
        let name = |path: &Path| path.display().to_string();
        let read = |path: &Path| std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", name(path)));
        let network_path = path.with_file_name("network.json");
        let description: Description =
            serde_json::from_str(&read(path)?).map_err(|error| format!("{}: {error}", name(path)))?;
        let stations: Stations =
            serde_json::from_str(&read(&network_path)?).map_err(|error| format!("{}: {error}", name(&network_path)))?;
        let network = stations.network().map_err(|error| format!("{}: {error}", name(&network_path)))?;
        let file = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Self::new(file, description, network, octets).map_err(|error| format!("{}: {error}", name(path)))
    }

    fn new(name: String, mut text: Description, network: Network, octets: Option<usize>) -> Result<Self, String> {
        let flags = flags(&text)?;
        if let Some(octets) = octets {
            text.frames = vec![Size { octets, weight: 1 }];
        }
        let count = text.clients.checked_mul(text.ports).filter(|flows| (1..=FLOWS_MAX).contains(flows));
        count.ok_or_else(|| format!("from 1 to {FLOWS_MAX} flows"))?;
        if u32::from(network.clients.port()) + text.ports > 1 << 16 {
            return Err("ports above 65535".to_string());
        }
        if network.clients.ip().to_bits().checked_add(text.clients - 1).is_none() {
            return Err("addresses above 255.255.255.255".to_string());
        }
        if text.frames.is_empty() {
            return Err("`frames` is empty".to_string());
        }
        for size in &text.frames {
            if !(OCTETS_MIN..=OCTETS_MAX).contains(&size.octets) {
                return Err(format!("`octets` is from {OCTETS_MIN} to {OCTETS_MAX}"));
            }
            if !(1..=WEIGHT_MAX).contains(&size.weight) {
                return Err(format!("`weight` is from 1 to {WEIGHT_MAX}"));
            }
            if flags & SYN != 0 && size.octets != OCTETS_MIN {
                return Err("a SYN has no data: 64 octets".to_string());
            }
        }
        if text.opening == Opening::Syn && text.protocol != Transport::Tcp {
            return Err("only TCP opens with a SYN".to_string());
        }
        let has_replies = match text.directions[..] {
            [Direction::Inbound] => false,
            [Direction::Inbound, Direction::Outbound] => true,
            _ => return Err("`directions` is inbound, or inbound and outbound".to_string()),
        };
        if has_replies && text.opening == Opening::None {
            return Err("replies need connections: `opening` is none".to_string());
        }
        Ok(Self {
            name,
            protocol: text.protocol,
            opening: text.opening,
            network,
            has_replies,
            flags,
            sizes: text.frames,
            clients: text.clients,
            ports: text.ports,
        })
    }

    /// Flows in all.
    pub fn flows(&self) -> u32 {
        self.clients * self.ports
    }

    /// Octets of the longest frame, with check sequence.
    pub fn octets_most(&self) -> usize {
        self.sizes.iter().map(|size| size.octets).max().unwrap_or_default()
    }

    /// Octets of the frames in the order in which they repeat, as `profiles.py` says.
    fn pattern(&self) -> Vec<usize> {
        let total: u32 = self.sizes.iter().map(|size| size.weight).sum();
        let mut credit = vec![0i64; self.sizes.len()];
        let mut turn = || {
            for (credit, size) in credit.iter_mut().zip(&self.sizes) {
                *credit += i64::from(size.weight);
            }
            // The first of those with the most: the last when read from behind.
            let (best, _) = credit.iter().enumerate().rev().max_by_key(|(_, credit)| **credit)?;
            credit[best] -= i64::from(total);
            Some(self.sizes[best].octets)
        };
        (0..total).filter_map(|_| turn()).collect()
    }

    /// A maker of the frames of one direction.
    pub fn maker(&self, direction: Direction) -> Maker {
        self.maker_of(direction, self.flags, &self.pattern())
    }

    /// A maker of the frames that open the flows, each once in as many as there are flows.
    pub fn opening_maker(&self) -> Option<Maker> {
        match self.opening {
            Opening::None => None,
            Opening::Same => Some(self.maker_of(Direction::Inbound, self.flags, &self.pattern()[..1])),
            Opening::Syn => Some(self.maker_of(Direction::Inbound, SYN, &[OCTETS_MIN])),
        }
    }

    fn maker_of(&self, direction: Direction, flags: u8, pattern: &[usize]) -> Maker {
        let mut templates: Vec<Template> = Vec::new();
        let mut number_of = |octets: usize| {
            let position = templates.iter().position(|known| known.frame.len() == octets - CHECK_SEQUENCE_OCTETS);
            position.unwrap_or_else(|| {
                templates.push(Template::new(self.frame(octets, direction, flags)));
                templates.len() - 1
            })
        };
        let pattern = pattern.iter().map(|octets| number_of(*octets)).collect();
        let flows = self.flows();
        let stride = if flows.is_multiple_of(7919) { 7907 } else { 7919 };
        Maker {
            templates,
            pattern,
            turn: 0,
            flow: 0,
            flows,
            stride,
            ports: self.ports,
            clients: self.network.clients,
            direction,
        }
    }

    /// The frame of flow 0, written in full.
    fn frame(&self, octets: usize, direction: Direction, flags: u8) -> Vec<u8> {
        let network = &self.network;
        let (to, from, source, destination) = match direction {
            Direction::Inbound => {
                (network.director_station_in, network.client_station, network.clients, network.service)
            }
            Direction::Outbound => {
                (network.director_station_out, network.server_station, network.server, network.clients)
            }
        };
        let is_bare = self.protocol == Transport::Tcp && octets == OCTETS_MIN;
        let end = octets - CHECK_SEQUENCE_OCTETS;
        let ip_octets = if is_bare { 40 } else { end - IP } as u16;
        let mut frame = [to.0, from.0].concat();
        frame.extend([8, 0, 0x45, 0]);
        frame.extend(ip_octets.to_be_bytes());
        frame.extend([0, 1, 0x40, 0, 64, if self.protocol == Transport::Tcp { 6 } else { 17 }, 0, 0]);
        frame.extend(source.ip().octets());
        frame.extend(destination.ip().octets());
        frame.extend(source.port().to_be_bytes());
        frame.extend(destination.port().to_be_bytes());
        match self.protocol {
            Transport::Udp => {
                frame.extend((ip_octets - 20).to_be_bytes());
                frame.extend([0, 0]);
            }
            Transport::Tcp => {
                let acknowledged = u32::from(flags & ACK != 0);
                frame.extend(1u32.to_be_bytes());
                frame.extend(acknowledged.to_be_bytes());
                frame.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
            }
        }
        let data = IP + usize::from(ip_octets) - frame.len();
        frame.extend(PAYLOAD.iter().cycle().take(data));
        frame.resize(end, 0);
        fill_checksums(&mut frame);
        frame
    }
}

impl Stations {
    fn network(&self) -> Result<Network, String> {
        let station = |text: &str| text.parse::<MacAddress>();
        Ok(Network {
            client_station: station(&self.client_station)?,
            director_station_in: station(&self.director_station_in)?,
            server_station: station(&self.server_station)?,
            director_station_out: station(&self.director_station_out)?,
            clients: SocketAddrV4::new(self.clients, self.client_port),
            service: self.service,
            server: self.server,
        })
    }
}

fn flags(text: &Description) -> Result<u8, String> {
    let letters = match (text.protocol, &text.flags) {
        (Transport::Tcp, Some(letters)) => letters.as_str(),
        (Transport::Tcp, None) => return Err("`flags` is missing".to_string()),
        (Transport::Udp, Some(_)) => return Err("UDP has no `flags`".to_string()),
        (Transport::Udp, None) => "",
    };
    letters.chars().try_fold(0, |flags, letter| {
        let bit = "FSRPA".find(letter).map(|position| 1u8 << position).filter(|bit| flags & bit == 0);
        bit.map(|bit| flags | bit).ok_or_else(|| "`flags` are letters of FSRPA, each once".to_string())
    })
}

/// The frame of one size, and its checksums.
struct Template {
    frame: Vec<u8>,
    ip_checksum: u16,
    segment_checksum: u16,
}

impl Template {
    fn new(frame: Vec<u8>) -> Self {
        let number = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let (ip_checksum, segment_checksum) = (number(IP_CHECKSUM), number(segment_checksum_at(&frame)));
        Self { frame, ip_checksum, segment_checksum }
    }
}

/// Writes frame after frame, by patching a template.
pub struct Maker {
    templates: Vec<Template>,
    /// Positions in `templates`.
    pattern: Vec<usize>,
    turn: usize,
    flow: u32,
    flows: u32,
    stride: u32,
    ports: u32,
    clients: SocketAddrV4,
    direction: Direction,
}

impl Maker {
    /// Octets of the next frame, without check sequence.
    pub fn octets(&self) -> usize {
        self.templates[self.pattern[self.turn]].frame.len()
    }

    /// Writes the next frame into as many octets as it has.
    #[inline]
    pub fn write(&mut self, out: &mut [u8]) {
        let template = &self.templates[self.pattern[self.turn]];
        self.turn = if self.turn + 1 == self.pattern.len() { 0 } else { self.turn + 1 };
        let (from, port) = (self.clients.ip().to_bits(), self.clients.port());
        let (to, new_port) = (from + self.flow / self.ports, port + (self.flow % self.ports) as u16);
        self.flow = (self.flow + self.stride) % self.flows;
        out.copy_from_slice(&template.frame);
        let ip = Update::new(template.ip_checksum).remove_u32(from).add_u32(to).finish();
        let segment = Update::new(template.segment_checksum).remove_u32(from).add_u32(to);
        let segment = segment.remove_u16(port).add_u16(new_port).finish();
        let at = segment_checksum_at(out);
        let segment = if is_udp(out) { checksum::not_zero(segment) } else { segment };
        let (address, endpoint) = match self.direction {
            Direction::Inbound => (SOURCE, SEGMENT),
            Direction::Outbound => (DESTINATION, SEGMENT + 2),
        };
        out[IP_CHECKSUM..SOURCE].copy_from_slice(&ip.to_be_bytes());
        out[address..address + 4].copy_from_slice(&to.to_be_bytes());
        out[endpoint..endpoint + 2].copy_from_slice(&new_port.to_be_bytes());
        out[at..at + 2].copy_from_slice(&segment.to_be_bytes());
    }
}

fn is_udp(frame: &[u8]) -> bool {
    frame[IP + 9] == 17
}

fn segment_checksum_at(frame: &[u8]) -> usize {
    if is_udp(frame) { SEGMENT + 6 } else { SEGMENT + 16 }
}

/// Where a stamp stands behind the IP header: data of UDP, sequence numbers of TCP.
const fn stamp_offset(is_udp: bool) -> usize {
    if is_udp { 8 } else { 4 }
}

/// Marks a frame and writes a moment into it, nanoseconds.
pub fn stamp(frame: &mut [u8], moment_ns: u64) {
    frame[IP_IDENTIFICATION..IP_IDENTIFICATION + 2].copy_from_slice(&STAMPED.to_be_bytes());
    let at = SEGMENT + stamp_offset(is_udp(frame));
    frame[at..at + 8].copy_from_slice(&moment_ns.to_be_bytes());
    fill_checksums(frame);
}

/// The moment in a marked frame whose IP header, without options, begins at `ip`.
pub fn stamped(frame: &[u8], ip: usize) -> Option<u64> {
    let at = ip + 20 + stamp_offset(*frame.get(ip + 9)? == 17);
    Some(u64::from_be_bytes(frame.get(at..at + 8)?.try_into().ok()?))
}

/// Computes both checksums anew.
fn fill_checksums(frame: &mut [u8]) {
    frame[IP_CHECKSUM..SOURCE].fill(0);
    let sum = checksum::of(&frame[IP..SEGMENT]);
    frame[IP_CHECKSUM..SOURCE].copy_from_slice(&sum.to_be_bytes());
    let end = IP + usize::from(u16::from_be_bytes([frame[IP + 2], frame[IP + 3]]));
    let at = segment_checksum_at(frame);
    frame[at..at + 2].fill(0);
    let address = |at: usize| Address::v4(u32::from_be_bytes(frame[at..at + 4].try_into().expect("four octets")));
    let protocol = frame[IP + 9];
    let pseudo = checksum::pseudo_header(address(SOURCE), address(DESTINATION), protocol, (end - SEGMENT) as u32);
    let sum = pseudo.add_bytes(&frame[SEGMENT..end]).checksum();
    let sum = if protocol == 17 { checksum::not_zero(sum) } else { sum };
    frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

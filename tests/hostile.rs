//! Hostile frames: recorded packets of every kind, mangled from a seed, into the directors that they were recorded for.
//!
//! Nothing may panic, nothing may grow, and no frame may leave that the input does not justify. `LVX_HOSTILE_FRAMES` says
//! how many frames (10 million), `LVX_HOSTILE_SEED` which.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{env, fs, thread};

use lvx::base::Rng;
use lvx::command::names::FileNames;
use lvx::director::replay::{Replay, Sent};
use lvx::forward::Verdict;
use serde_json::Value;

const FRAMES_DEFAULT: u64 = 10_000_000;
/// Pieces that one frame may lead to: a datagram of 64 KiB in the least pieces that an MTU of 1280 leaves, twice.
const PIECES_MAX: usize = 128;
/// Octets that the process may grow by between the first round and the last.
const GROWTH_MAX: u64 = 64 << 20;

/// After so many frames time goes on, by so much: fragments, connections and answers have their times.
const FRAMES_AT_ONCE: u64 = 2048;
const PAUSE: Duration = Duration::from_secs(11);

/// Addresses that are remembered for one director; then comes another.
const KNOWN_MAX: usize = 200_000;

const STATIONS: [(&str, [u8; 6]); 2] = [("eth0", [2, 0, 0, 0, 0, 0xfe]), ("eth1", [2, 0, 0, 0, 1, 0xfe])];

/// The network of the recorded cases, and a VLAN on each side.
fn network() -> String {
    let mut text =
        "link add eth0 address 02:00:00:00:00:fe mtu 1500\nlink add eth1 address 02:00:00:00:01:fe mtu 1500\n\
        link add link eth0 name eth0.7 type vlan id 7\nlink add link eth1 name eth1.8 type vlan id 8\n\
        addr add 10.0.0.254/24 dev eth0\naddr add 10.2.0.254/16 dev eth1\naddr add fd00::254/64 dev eth0\n\
        addr add fd00:2::254/64 dev eth1\naddr add 10.7.0.254/24 dev eth0.7\n\
        neigh add 10.0.0.1 lladdr 02:00:00:00:00:01 dev eth0\nneigh add fd00::1 lladdr 02:00:00:00:00:01 dev eth0\n\
        route add default via 10.0.0.1 dev eth0\nroute add default via fd00::1 dev eth0\n\
        route add local 10.9.0.0/16 dev lo\nroute add local fd00:9::/64 dev lo\n"
            .to_owned();
    for number in 1..=40 {
        for network in ["10.2.0.", "fd00:2::"] {
            text.push_str(&format!("neigh add {network}{number} lladdr 02:00:00:00:02:{number:02x} dev eth1\n"));
        }
    }
    text
}

/// One recorded case: what sets the director up, and the frames.
struct Case {
    name: String,
    setup: Vec<Value>,
    frames: Vec<(usize, Vec<u8>)>,
}

fn cases() -> Vec<Case> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("hostile-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    for family in ["packets", "states"] {
        let archive = source.join(format!("{family}.tar.gz"));
        let unpacked = Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(&directory).status().unwrap();
        assert!(unpacked.success(), "{} cannot be unpacked", archive.display());
    }
    let mut files = Vec::new();
    let mut directories = vec![directory.clone()];
    while let Some(inside) = directories.pop() {
        for entry in fs::read_dir(inside).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "json") {
                files.push(path);
            }
        }
    }
    files.sort();
    let cases = files.iter().filter_map(|path| read_case(path)).collect();
    fs::remove_dir_all(&directory).unwrap();
    cases
}

fn read_case(path: &Path) -> Option<Case> {
    let case: Value = serde_json::from_slice(&fs::read(path).unwrap()).ok()?;
    let steps = case["steps"].as_array()?;
    let setup = steps.iter().filter(|step| step.get("send").is_none()).cloned().collect();
    let frames = steps.iter().filter_map(|step| {
        let side = usize::from(step.get("send")?.as_str()? != "client");
        Some((side, framed(side, &octets(step["hex"].as_str()?))))
    });
    let frames: Vec<_> = frames.collect();
    (!frames.is_empty()).then(|| Case { name: path.file_stem().unwrap().to_string_lossy().into_owned(), setup, frames })
}

fn octets(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
}

fn framed(side: usize, packet: &[u8]) -> Vec<u8> {
    let ether_type: [u8; 2] = if packet.first().is_some_and(|first| first >> 4 == 6) { [0x86, 0xdd] } else { [8, 0] };
    [&STATIONS[side].1[..], &[2, 0, 0, 0, 0, 1], &ether_type, packet].concat()
}

/// The director of a case, with what the recorded ones do not have: FTP's helper, and full NAT for a few.
fn director(case: &Case, number: usize) -> Replay {
    let mut replay = Replay::new(&network(), FileNames::default()).unwrap();
    let run = |replay: &mut Replay, line: &str| {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        // What a case has recorded as refused is refused.
        let _ = replay.command(&words, None);
    };
    for step in &case.setup {
        if let (Some(name), Some(value)) = (step["sysctl"].as_str(), step["value"].as_str()) {
            let _ = replay.set_sysctl(name.trim_start_matches("vs."), value);
        } else if let Some(words) = step["argv"].as_array() {
            let words: Vec<String> = words.iter().map(|word| word.as_str().unwrap_or_default().to_owned()).collect();
            // The services are what matters; they stay.
            if !words.iter().any(|word| matches!(word.as_str(), "-C" | "-D" | "-d" | "-L")) {
                let _ = replay.command(&words, step["stdin"].as_str());
            }
        }
    }
    replay.use_helpers();
    if number.is_multiple_of(4) {
        for (vip, server) in [("10.9.0.1:8000", "10.2.0.5:80"), ("[fd00:9::1]:8000", "[fd00:2::5]:80")] {
            run(&mut replay, &format!("ipvsadm -A -t {vip} -s rr --mss-clamp 1000"));
            let way = ["toa", "proxy"][number / 4 % 2];
            run(&mut replay, &format!("ipvsadm -a -t {vip} -r {server} --fullnat --client-address {way}"));
        }
    }
    replay
}

/// Mangles a frame as a sender with bad intent or a broken card would.
fn mangle(rng: &mut Rng, frame: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..=rng.below(3) {
        let length = frame.len() as u32;
        let anywhere = |rng: &mut Rng| 12 + rng.below(length.saturating_sub(12).max(1)) as usize;
        match rng.below(16) {
            0 => frame.truncate(rng.below(length + 1) as usize),
            1 => frame.extend((0..rng.below(64)).map(|octet| octet as u8)),
            2 => {
                // A word that lies: lengths, offsets, ports.
                let at = 14 + 2 * rng.below(40) as usize;
                let word = [0, 1, 7, 8, 0x7fff, 0x8000, 0xffff, length as u16][rng.below(8) as usize];
                if let Some(place) = frame.get_mut(at..at + 2) {
                    place.copy_from_slice(&word.to_be_bytes());
                }
            }
            3 => {
                // Flags and offset of a fragment.
                let word = [0x2000, 0x0001, 0x2001, 0x1fff, 0x4000, 0x00b9][rng.below(6) as usize] as u16;
                if let Some(place) = frame.get_mut(20..22) {
                    place.copy_from_slice(&word.to_be_bytes());
                }
            }
            4 => {
                let tag = [0x81, 0x00, 0, [7, 8, 9][rng.below(3) as usize]];
                let tag = if rng.below(4) == 0 { [0x88, 0xa8, 0, 7] } else { tag };
                if frame.len() >= 14 {
                    frame.splice(12..12, tag);
                }
            }
            5 => {
                // Inside another packet, or quoted by an error.
                if frame.len() > 14 && frame[12..14] == [8, 0] {
                    let inner = frame.split_off(14);
                    let (protocol, between): (u8, &[u8]) = match rng.below(4) {
                        0 => (4, &[]),
                        1 => (47, &[0, 0, 8, 0]),
                        2 => (1, &[3, 4, 0, 0, 0, 0, 2, 0]),
                        _ => (1, &[11, 0, 0, 0, 0, 0, 0, 0]),
                    };
                    let total = (20 + between.len() + inner.len()) as u16;
                    let [high, low] = total.to_be_bytes();
                    let (source, destination) = match inner.get(12..20) {
                        Some(both) if rng.below(2) == 0 => (&both[4..], &both[..4]),
                        Some(both) => (&both[..4], &both[4..]),
                        None => (&[10, 1, 0, 1][..], &[10, 9, 0, 1][..]),
                    };
                    frame.extend([0x45, 0, high, low, 0, 9, 0, 0, 64, protocol, 0, 0]);
                    frame.extend_from_slice(source);
                    frame.extend_from_slice(destination);
                    frame.extend_from_slice(between);
                    frame.extend_from_slice(&inner);
                }
            }
            6 => {
                // Extension headers of IPv6, a fragment header among them.
                if frame.len() > 54 && frame[12..14] == [0x86, 0xdd] {
                    let next = std::mem::replace(&mut frame[20], [0, 43, 44, 60, 51][rng.below(5) as usize]);
                    let more = rng.next_u32() as u8;
                    frame.splice(54..54, [next, 0, 0, more & 0xf9, 0, 0, 0, 1]);
                    let payload = (frame.len() - 54) as u16;
                    frame[18..20].copy_from_slice(&payload.to_be_bytes());
                }
            }
            7 => {
                let from = rng.below(other.len() as u32) as usize;
                frame.truncate(anywhere(rng));
                frame.extend_from_slice(&other[from..]);
            }
            8 => {
                // The other way round: an answer to what nobody asked.
                if frame.len() >= 34 && frame[12..14] == [8, 0] {
                    let (source, destination) = frame[26..34].split_at_mut(4);
                    source.swap_with_slice(destination);
                }
            }
            _ => {
                let at = anywhere(rng);
                if let Some(octet) = frame.get_mut(at) {
                    *octet = if rng.below(2) == 0 { rng.next_u32() as u8 } else { *octet ^ (1 << rng.below(8)) };
                }
            }
        }
    }
    // So that more than the header checksum is tried.
    if rng.below(4) != 0 && frame.len() >= 34 && frame[12..14] == [8, 0] {
        let header = usize::from(frame[14] & 0xf).max(5) * 4;
        if frame.len() >= 14 + header {
            frame[24..26].fill(0);
            let sum = checksum(&frame[14..14 + header]);
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
        }
    }
}

fn checksum(octets: &[u8]) -> u16 {
    let mut sum: u32 = octets.chunks(2).map(|two| u32::from(two[0]) << 8 | u32::from(*two.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !sum as u16
}

/// What a frame that left says of itself; a reason when it cannot be right.
fn look_at(frame: &[u8]) -> Result<(IpAddr, u8), String> {
    let mut at = 12;
    while matches!(frame.get(at..at + 2), Some([0x81, 0x00] | [0x88, 0xa8])) {
        at += 4;
    }
    let ip = frame.get(at + 2..).ok_or("no packet")?;
    match frame[at..at + 2] {
        [8, 0] => {
            let header = ip.first_chunk::<20>().ok_or("a short header")?;
            let octets = usize::from(header[0] & 0xf) * 4;
            let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
            if header[0] >> 4 != 4 || octets < 20 || total < octets || ip.len() < total {
                return Err("lengths that contradict each other".into());
            }
            if checksum(&ip[..octets]) != 0 {
                return Err("a wrong header checksum".into());
            }
            if header[8] == 0 {
                return Err("TTL 0".into());
            }
            let to: [u8; 4] = header[16..20].try_into().unwrap();
            Ok((to.into(), header[9]))
        }
        [0x86, 0xdd] => {
            let header = ip.first_chunk::<40>().ok_or("a short header")?;
            let total = 40 + usize::from(u16::from_be_bytes([header[4], header[5]]));
            if header[0] >> 4 != 6 || ip.len() < total || header[7] == 0 {
                return Err("lengths that contradict each other, or no hop left".into());
            }
            let to: [u8; 16] = header[24..40].try_into().unwrap();
            Ok((to.into(), header[6]))
        }
        _ => Err("another EtherType".into()),
    }
}

/// The addresses that a frame has where headers have them, or quoted ones, behind tags or not: what leaves goes to one
/// of those that came, or to a real server.
fn remember(frame: &[u8], known: &mut HashSet<IpAddr>) {
    for tags in [0, 4, 8] {
        for at in [26, 30, 54, 58, 74, 78] {
            if let Some(four) = frame.get(tags + at..tags + at + 4) {
                known.insert(<[u8; 4]>::try_from(four).unwrap().into());
            }
        }
        for at in [22, 38, 70, 86] {
            if let Some(sixteen) = frame.get(tags + at..tags + at + 16) {
                known.insert(<[u8; 16]>::try_from(sixteen).unwrap().into());
            }
        }
    }
}

/// Whether a frame has the octets of an address anywhere.
fn has_address(frame: &[u8], address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => frame.windows(4).any(|four| four == address.octets()),
        IpAddr::V6(address) => frame.windows(16).any(|sixteen| sixteen == address.octets()),
    }
}

fn is_server(to: &IpAddr) -> bool {
    match to {
        IpAddr::V4(to) => to.octets()[..2] == [10, 2],
        IpAddr::V6(to) => to.octets()[..6] == [0xfd, 0, 0, 2, 0, 0],
    }
}

/// Whether what left is what the frame may lead to.
fn judge(frame: &[u8], verdict: Verdict, sent: &[Sent], known: &HashSet<IpAddr>) -> Result<(), String> {
    let most = match verdict {
        Verdict::Pass | Verdict::Hold => 0,
        Verdict::Drop(_) => 1,
        Verdict::Transmit(_) => PIECES_MAX,
    };
    if sent.len() > most {
        return Err(format!("{} frames left with verdict {verdict}", sent.len()));
    }
    for one in sent {
        let (to, protocol) = look_at(&one.frame)?;
        let is_error = protocol == 1 || protocol == 58;
        if matches!(verdict, Verdict::Drop(_)) && !is_error {
            return Err(format!("a dropped packet was answered with protocol {protocol}"));
        }
        if !is_server(&to) && !known.contains(&to) && !has_address(frame, &to) {
            return Err(format!("it went to {to}, which nobody named"));
        }
    }
    Ok(())
}

/// Whether what left while time passed is what earlier frames may lead to: word to their senders that the rest of a
/// datagram did not come.
fn judge_late(sent: &[Sent], known: &HashSet<IpAddr>) -> Result<(), String> {
    for one in sent {
        let (to, protocol) = look_at(&one.frame)?;
        if !matches!(protocol, 1 | 58) || !is_server(&to) && !known.contains(&to) {
            return Err(format!("time alone sent protocol {protocol} to {to}"));
        }
    }
    Ok(())
}

fn resident_octets() -> u64 {
    let text = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

/// Feeds one director; returns how many frames came to each verdict.
fn torment(case: &Case, number: usize, frames: u64, seed: u64) -> BTreeMap<String, u64> {
    let mut verdicts = BTreeMap::new();
    let mut rng = Rng::new(seed ^ (number as u64) << 32);
    let mut replay = director(case, number);
    let mut known = HashSet::new();
    // The recorded packets first: connections that the mangled ones meet.
    for (side, frame) in &case.frames {
        remember(frame, &mut known);
        let _ = replay.receive(STATIONS[*side].0, frame);
    }
    for round in 0..frames {
        let (side, mut frame) = case.frames[rng.below(case.frames.len() as u32) as usize].clone();
        let other = &case.frames[rng.below(case.frames.len() as u32) as usize].1;
        if rng.below(16) != 0 {
            mangle(&mut rng, &mut frame, other);
        }
        let told = |why: String| panic!("{}, seed {seed}, frame {round}: {why}\n{frame:02x?}", case.name);
        match replay.receive(STATIONS[side].0, &frame) {
            Ok((verdict, sent)) => {
                let name = match verdict {
                    Verdict::Transmit(_) => "transmit".to_owned(),
                    other => other.to_string(),
                };
                *verdicts.entry(name).or_default() += 1;
                judge(&frame, verdict, &sent, &known).unwrap_or_else(told);
                if matches!(verdict, Verdict::Transmit(_) | Verdict::Hold) {
                    remember(&frame, &mut known);
                }
            }
            Err(error) => told(error.to_string()),
        }
        if round % FRAMES_AT_ONCE == FRAMES_AT_ONCE - 1 {
            judge_late(&replay.advance(PAUSE), &known).unwrap_or_else(told);
        }
        if known.len() > KNOWN_MAX {
            // What connections of earlier know is forgotten here; so they must end.
            replay = director(case, number);
            known.clear();
        }
    }
    // Longer than fragments wait.
    replay.advance(Duration::from_secs(100));
    assert_eq!(replay.chunks_held(), 0, "{}: frames are lost", case.name);
    verdicts
}

#[test]
fn hostile_frames_do_no_harm() {
    let number = |name: &str, default| env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (frames, seed) = (number("LVX_HOSTILE_FRAMES", FRAMES_DEFAULT), number("LVX_HOSTILE_SEED", 1));
    let cases = cases();
    let each = frames / cases.len() as u64 + 1;
    // The first round brings in what every later one needs.
    for (position, case) in cases.iter().enumerate().take(8) {
        torment(case, position, each.min(20_000), seed);
    }
    let before = resident_octets();
    let threads = thread::available_parallelism().map_or(1, |count| count.get());
    let mut verdicts = BTreeMap::<String, u64>::new();
    thread::scope(|scope| {
        let cases = &cases;
        let torment_part = move |part: usize| {
            let mine = cases.iter().enumerate().filter(move |(position, _)| position % threads == part);
            mine.map(|(position, case)| torment(case, position, each, seed)).collect::<Vec<_>>()
        };
        let parts: Vec<_> = (0..threads).map(|part| scope.spawn(move || torment_part(part))).collect();
        for part in parts {
            for (name, count) in part.join().expect("no panic").into_iter().flatten() {
                *verdicts.entry(name).or_default() += count;
            }
        }
    });
    let grown = resident_octets().saturating_sub(before);
    assert!(grown < GROWTH_MAX, "the process has grown by {grown} octets");
    println!("{verdicts:#?}");
    let total = each * cases.len() as u64;
    for name in ["transmit", "pass", "hold", "drop:malformed"] {
        let count = verdicts.get(name).copied().unwrap_or(0);
        assert!(count > total / 200, "only {count} of {total} frames came to {name}: they try too little");
    }
    println!("{} frames of {} recorded cases, seed {seed}", each * cases.len() as u64, cases.len());
}

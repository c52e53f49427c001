//! A request as ipvsadm's words, in numbers and in one way only: what `lvxadm` sends and logs show.

use std::fmt;

use crate::base::Family;
use crate::command::request::{DaemonRole, DaemonRule, Request, ServerRule, ServiceRule};
use crate::service::{Method, Protocol, SchedulerFlags, ServiceKey, Tunnel, TunnelChecksum};

impl Request {
    /// The words after the program's name. Parsing them gives an equal request, if its values are those that parsing
    /// can give.
    pub fn to_words(&self) -> Vec<String> {
        let mut words = Words::default();
        match self {
            Request::AddService(rule) => words.add("-A").service_rule(rule),
            Request::EditService(rule) => words.add("-E").service_rule(rule),
            Request::DeleteService(key) => words.add("-D").key(key),
            Request::Clear => words.add("-C"),
            Request::AddServer { service, server } => words.add("-a").key(service).server_rule(server),
            Request::EditServer { service, server } => words.add("-e").key(service).server_rule(server),
            Request::DeleteServer { service, server } => words.add("-d").key(service).option("-r", server),
            Request::Zero(None) => words.add("-Z"),
            Request::Zero(Some(key)) => words.add("-Z").key(key),
            Request::SetTimeouts { tcp_s, tcp_fin_s, udp_s } => words.add("--set").add(tcp_s).add(tcp_fin_s).add(udp_s),
            Request::StartDaemon(rule) => words.option("--start-daemon", role(rule.role)).daemon(rule),
            Request::StopDaemon(daemon) => words.option("--stop-daemon", role(*daemon)),
            Request::Services(None) => words.add("-L").add("-n"),
            Request::Services(Some(key)) => words.add("-L").add("-n").key(key),
            Request::Connections => words.add("-L").add("-n").add("-c"),
            Request::Timeouts => words.add("-L").add("--timeout"),
            Request::Daemons => words.add("-L").add("--daemon"),
        };
        words.0
    }
}

/// The words as a shell would take them.
impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, word) in self.to_words().iter().enumerate() {
            let space = if place == 0 { "" } else { " " };
            // No shell can quote a NUL; such a word is shown escaped, for reading only.
            match shlex::try_quote(word) {
                Ok(quoted) => write!(f, "{space}{quoted}")?,
                Err(_) => write!(f, "{space}{word:?}")?,
            }
        }
        Ok(())
    }
}

const fn role(role: DaemonRole) -> &'static str {
    match role {
        DaemonRole::Master => "master",
        DaemonRole::Backup => "backup",
    }
}

#[derive(Default)]
struct Words(Vec<String>);

impl Words {
    fn add(&mut self, word: impl ToString) -> &mut Self {
        self.0.push(word.to_string());
        self
    }

    fn option(&mut self, option: &str, value: impl ToString) -> &mut Self {
        self.add(option).add(value)
    }

    /// The option, unless its value is the default.
    fn unless<T: ToString + PartialEq>(&mut self, default: T, option: &str, value: T) -> &mut Self {
        if value == default { self } else { self.option(option, value) }
    }

    fn key(&mut self, key: &ServiceKey) -> &mut Self {
        match *key {
            ServiceKey::Address { protocol, endpoint } => self.option(protocol_option(protocol), endpoint),
            ServiceKey::Mark { family: Family::V4, mark } => self.option("-f", mark),
            ServiceKey::Mark { family: Family::V6, mark } => self.option("-f", mark).add("-6"),
        }
    }

    fn service_rule(&mut self, rule: &ServiceRule) -> &mut Self {
        self.key(&rule.key).option("-s", &rule.scheduler);
        if let Some(timeout_s) = rule.persistent_s {
            self.option("-p", timeout_s);
        }
        match rule.key.family() {
            Family::V4 if rule.mask != u32::MAX => self.option("-M", std::net::Ipv4Addr::from_bits(rule.mask)),
            Family::V4 => self,
            Family::V6 => self.unless(128, "-M", rule.mask),
        };
        if let Some(engine) = &rule.engine {
            self.option("--pe", engine);
        }
        if rule.one_packet {
            self.add("-o");
        }
        let bits = [SchedulerFlags::FLAG_1, SchedulerFlags::FLAG_2, SchedulerFlags::FLAG_3];
        let set = bits.into_iter().zip(["flag-1", "flag-2", "flag-3"]).filter(|(bit, _)| rule.flags.has(*bit));
        let flags = set.map(|(_, word)| word).collect::<Vec<_>>().join(",");
        self.unless(String::new(), "-b", flags).unless(0, "--mss-clamp", rule.mss_max)
    }

    fn server_rule(&mut self, rule: &ServerRule) -> &mut Self {
        self.option("-r", rule.endpoint).add(match rule.method {
            Method::Masquerading => "-m",
            Method::Tunnelling => "-i",
            Method::LocalNode | Method::DirectRouting | Method::Bypass => "-g",
        });
        self.option("-w", rule.weight).unless(0, "-x", rule.upper).unless(0, "-y", rule.lower);
        if rule.full_nat.is_on() {
            self.add("--fullnat");
        }
        if let Some(word) = rule.full_nat.word() {
            self.option("--client-address", word);
        }
        match rule.tunnel {
            Tunnel::Ipip => self,
            Tunnel::Gue { port, checksum } => {
                self.option("--tun-type", "gue").option("--tun-port", port).add(checksum_option(checksum))
            }
            Tunnel::Gre { checksum: true } => self.option("--tun-type", "gre").add("--tun-csum"),
            Tunnel::Gre { checksum: false } => self.option("--tun-type", "gre").add("--tun-nocsum"),
        }
    }

    fn daemon(&mut self, rule: &DaemonRule) -> &mut Self {
        self.option("--mcast-interface", &rule.interface).option("--syncid", rule.syncid);
        self.unless(0, "--sync-maxlen", rule.sync_maxlen);
        if let Some(group) = rule.group {
            self.option("--mcast-group", group);
        }
        self.unless(0, "--mcast-port", rule.port).unless(0, "--mcast-ttl", rule.ttl)
    }
}

const fn protocol_option(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "-t",
        Protocol::Udp => "-u",
        Protocol::Sctp => "--sctp-service",
    }
}

const fn checksum_option(checksum: TunnelChecksum) -> &'static str {
    match checksum {
        TunnelChecksum::None => "--tun-nocsum",
        TunnelChecksum::Full => "--tun-csum",
        TunnelChecksum::Remote => "--tun-remcsum",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Address, Endpoint, Rng};
    use crate::command::Parsed;
    use crate::command::names::NoNames;
    use crate::command::parse::parse;
    use crate::command::request::MSS_MIN;
    use crate::service::FullNat;

    fn pick<T: Copy>(rng: &mut Rng, choices: &[T]) -> T {
        choices[rng.below(choices.len() as u32) as usize]
    }

    fn chance(rng: &mut Rng) -> bool {
        rng.below(2) == 0
    }

    fn address(rng: &mut Rng, family: Family) -> Address {
        match family {
            Family::V4 => Address::v4(rng.next_u32()),
            // Of every shape that texts of addresses have: embedded IPv4, long runs of zeroes, none.
            Family::V6 => loop {
                let bits = u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64());
                let mask = pick(rng, &[u128::MAX, 0xffff_ffff, 0xffff, u128::MAX << 64, 0xffff << 64 | 0xffff]);
                let prefix = pick(rng, &[0, 0xffff_0000_0000, 0x2001_0db8 << 96]);
                let address = Address::v6(bits & mask | prefix);
                if address.family() == Family::V6 {
                    break address;
                }
            },
        }
    }

    fn family(rng: &mut Rng) -> Family {
        pick(rng, &[Family::V4, Family::V6])
    }

    fn key(rng: &mut Rng) -> ServiceKey {
        let family = family(rng);
        if rng.below(3) == 0 {
            return ServiceKey::Mark { family, mark: rng.next_u32().max(1) };
        }
        let protocol = pick(rng, &[Protocol::Tcp, Protocol::Udp, Protocol::Sctp]);
        ServiceKey::Address { protocol, endpoint: Endpoint::new(address(rng, family), port(rng)) }
    }

    fn port(rng: &mut Rng) -> u16 {
        rng.next_u32() as u16
    }

    fn service_rule(rng: &mut Rng) -> ServiceRule {
        let key = key(rng);
        let is_zero_port = matches!(key, ServiceKey::Address { endpoint, .. } if endpoint.port == 0);
        let takes_one_packet = !matches!(key, ServiceKey::Address { protocol, .. } if protocol != Protocol::Udp);
        let takes_mss = !matches!(key, ServiceKey::Address { protocol, .. } if protocol != Protocol::Tcp);
        let mask = match (chance(rng), key.family()) {
            (true, Family::V4) => rng.next_u32(),
            (true, Family::V6) => rng.below(128) + 1,
            (false, Family::V4) => u32::MAX,
            (false, Family::V6) => 128,
        };
        ServiceRule {
            key,
            scheduler: pick(rng, &["rr", "wlc", "sh", "mh", "none", "r r", "-x", "it's", "quinze-lettres-", "\u{fe}"])
                .into(),
            flags: SchedulerFlags(rng.below(8) as u8),
            persistent_s: (is_zero_port || chance(rng)).then(|| rng.below(2_678_400) + 1),
            mask,
            engine: chance(rng).then(|| pick(rng, &["sip", "a b", "#"]).into()),
            one_packet: takes_one_packet && chance(rng),
            mss_max: if takes_mss && chance(rng) { MSS_MIN + rng.below(1400) as u16 } else { 0 },
        }
    }

    fn server_rule(rng: &mut Rng, service: &ServiceKey) -> ServerRule {
        let method = pick(rng, &[Method::Masquerading, Method::Tunnelling, Method::DirectRouting]);
        let family = if method == Method::Tunnelling { family(rng) } else { service.family() };
        let port = match service {
            ServiceKey::Address { endpoint, .. } if method != Method::Masquerading => endpoint.port,
            _ => port(rng),
        };
        let checksum = pick(rng, &[TunnelChecksum::None, TunnelChecksum::Full, TunnelChecksum::Remote]);
        let tunnels = [
            Tunnel::Ipip,
            Tunnel::Gue { port: rng.below(65_535) as u16 + 1, checksum },
            Tunnel::Gre { checksum: chance(rng) },
        ];
        let small = |rng: &mut Rng| if chance(rng) { 0 } else { rng.next_u32() >> 1 };
        ServerRule {
            endpoint: Endpoint::new(address(rng, family), port),
            method,
            weight: small(rng) as i32,
            upper: small(rng),
            lower: small(rng),
            tunnel: if method == Method::Tunnelling { pick(rng, &tunnels) } else { Tunnel::Ipip },
            full_nat: match method {
                Method::Masquerading => FullNat::from_number(rng.below(4) as u8),
                _ => FullNat::Off,
            },
        }
    }

    fn daemon(rng: &mut Rng) -> DaemonRule {
        DaemonRule {
            role: pick(rng, &[DaemonRole::Master, DaemonRole::Backup]),
            interface: pick(rng, &["eth0", "bond0.12", "a b"]).into(),
            syncid: rng.next_u32() as u8,
            sync_maxlen: if chance(rng) { 0 } else { rng.below(65_507) as u16 + 1 },
            group: chance(rng).then(|| pick(rng, &["239.1.1.1", "ff02::81"]).parse().unwrap()),
            port: port(rng),
            ttl: rng.next_u32() as u8,
        }
    }

    fn request(rng: &mut Rng) -> Request {
        let service = key(rng);
        match rng.below(15) {
            0 => Request::AddService(service_rule(rng)),
            1 => Request::EditService(service_rule(rng)),
            2 => Request::DeleteService(service),
            3 => Request::Clear,
            4 => Request::AddServer { server: server_rule(rng, &service), service },
            5 => Request::EditServer { server: server_rule(rng, &service), service },
            6 => {
                let family = family(rng);
                Request::DeleteServer { service, server: Endpoint::new(address(rng, family), port(rng)) }
            }
            7 => Request::Zero(chance(rng).then_some(service)),
            8 => Request::SetTimeouts { tcp_s: rng.below(2_678_401), tcp_fin_s: 0, udp_s: rng.below(2_678_401) },
            9 => Request::StartDaemon(daemon(rng)),
            10 => Request::StopDaemon(daemon(rng).role),
            11 => Request::Services(chance(rng).then_some(service)),
            12 => Request::Connections,
            13 => Request::Timeouts,
            _ => Request::Daemons,
        }
    }

    #[test]
    fn any_request_survives_its_words_and_a_shell() {
        for seed in 0..4000 {
            let request = request(&mut Rng::new(seed));
            let line = request.to_string();
            let words = shlex::split(&line).unwrap_or_else(|| panic!("seed {seed}: no shell words: {line}"));
            assert_eq!(words, request.to_words(), "seed {seed}");
            match parse("ipvsadm", &words, &NoNames) {
                Ok(Parsed::Request { request: parsed, .. }) => assert_eq!(parsed, request, "seed {seed}: {line}"),
                other => panic!("seed {seed}: {line}: {other:?}"),
            }
        }
    }

    #[test]
    fn words_are_those_of_the_manual() {
        let rule = ServiceRule {
            key: ServiceKey::Mark { family: Family::V6, mark: u32::MAX },
            scheduler: "sh".into(),
            flags: SchedulerFlags(3),
            persistent_s: Some(60),
            mask: 64,
            engine: None,
            one_packet: true,
            mss_max: 1400,
        };
        let line = "-A -f 4294967295 -6 -s sh -p 60 -M 64 -o -b 'flag-1,flag-2' --mss-clamp 1400";
        assert_eq!(Request::AddService(rule).to_string(), line);
        assert_eq!(Request::Services(None).to_string(), "-L -n");
    }
}

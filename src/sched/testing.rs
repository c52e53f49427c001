//! Sequences in a line: a service whose destinations are numbered in the order of adding, as the tables of the
//! specification print them.

use crate::base::{Address, Duration, Endpoint, Instant};
use crate::sched::{Context, by_name};
use crate::service::{
    DestinationId, Destinations, Flow, Method, Protocol, Scheduler, SchedulerFlags, Scheduling, ServiceId, Tunnel,
};

/// What becomes of a new connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Becomes {
    /// TCP: active.
    Active,
    /// UDP: inactive.
    Inactive,
}

/// A service under one scheduler. Destination `n` has the number `n` and, if nothing else is said, the address
/// 10.2.0.n and port 80.
pub struct Bench {
    pub table: Destinations,
    pub scheduling: Scheduling,
    network: Endpoint,
    /// What connections are of.
    pub protocol: Option<Protocol>,
    becomes: Becomes,
    last: u32,
    pub now: Instant,
}

impl Bench {
    /// Destinations 1, 2, ... with these weights, added one by one.
    pub fn new(scheduler: &str, weights: &[i32]) -> Self {
        Self::with_scheduler(by_name(scheduler, &Context::default()).unwrap(), SchedulerFlags(0), weights)
    }

    /// The same with a scheduler at hand.
    pub fn with_scheduler(scheduler: Box<dyn Scheduler>, flags: SchedulerFlags, weights: &[i32]) -> Self {
        let table = Destinations::default();
        let scheduling = Scheduling::new(Some(scheduler), flags, &table);
        let network = Endpoint::new(Address::v4(0x0a02_0000), 80);
        let (becomes, protocol, now) = (Becomes::Active, Some(Protocol::Tcp), Instant::default());
        let mut bench = Self { table, scheduling, network, protocol, becomes, last: 0, now };
        for &weight in weights {
            bench.add(weight);
        }
        bench
    }

    /// Connections become inactive, as those of UDP.
    pub fn udp(mut self) -> Self {
        self.becomes = Becomes::Inactive;
        self
    }

    /// Destinations that are added from here on have the address `network` + n and this port.
    pub fn at(mut self, network: u32, port: u16) -> Self {
        self.network = Endpoint::new(Address::v4(network), port);
        self
    }

    /// Time passes, without a tick.
    pub fn wait(&mut self, duration: Duration) {
        self.now = self.now + duration;
    }

    /// What the scheduler does periodically.
    pub fn tick(&mut self) {
        while self.scheduling.tick(&self.table, self.now) {}
    }

    /// Adds the next destination.
    pub fn add(&mut self, weight: i32) {
        self.last += 1;
        let id = DestinationId(self.last);
        let destination = self.table.make(id);
        let address = Address::v4(self.network.address.low_u32() + self.last);
        destination.assign(ServiceId(1), Endpoint::new(address, self.network.port));
        destination.configure(Method::Masquerading, Tunnel::Ipip, weight, 0, 0);
        destination.set_available(ServiceId(1), true);
        self.scheduling.add(&self.table, id);
    }

    /// The destination added last.
    pub fn last(&self) -> u32 {
        self.last
    }

    /// Adds deleted destination `n` once more.
    pub fn add_again(&mut self, n: u32) {
        self.table.get(DestinationId(n)).set_available(ServiceId(1), true);
        self.scheduling.add(&self.table, DestinationId(n));
    }

    /// Edits destination `n`.
    pub fn edit(&mut self, n: u32, weight: i32) {
        let (upper, lower) = self.table.get(DestinationId(n)).thresholds();
        self.edit_thresholds(n, weight, upper, lower);
    }

    /// Edits destination `n` with its thresholds.
    pub fn edit_thresholds(&mut self, n: u32, weight: i32, upper: u32, lower: u32) {
        let destination = self.table.get(DestinationId(n));
        destination.configure(Method::Masquerading, Tunnel::Ipip, weight, upper, lower);
        self.scheduling.edit(&self.table, DestinationId(n));
    }

    /// Deletes destination `n`.
    pub fn delete(&mut self, n: u32) {
        self.table.get(DestinationId(n)).set_available(ServiceId(1), false);
        assert!(self.scheduling.remove(&self.table, DestinationId(n)), "{n} is in the list");
    }

    /// Gives destination `n` connections.
    pub fn connect(&mut self, n: u32, active: u32, inactive: u32) {
        let id = DestinationId(n);
        for number in 0..active + inactive {
            self.table.bind(id, false);
            if number < active {
                self.table.count_active(id, true);
            }
        }
    }

    /// Ends connections of destination `n`.
    pub fn disconnect(&mut self, n: u32, count: u32) {
        let inactive = self.becomes == Becomes::Inactive;
        (0..count).for_each(|_| self.table.unbind(DestinationId(n), false, inactive));
    }

    /// A new connection from `source`:`port` to `destination`; the chosen destination gets it.
    pub fn pick_for(&mut self, source: Address, source_port: u16, destination: Address) -> Option<u32> {
        let flow =
            Flow { source, source_port, destination, destination_port: 80, protocol: self.protocol, now: self.now };
        let id = self.scheduling.pick(&self.table, &flow)?;
        self.table.bind(id, false);
        if self.becomes == Becomes::Active {
            self.table.count_active(id, true);
        }
        Some(id.0)
    }

    /// A new connection from a fixed client to a fixed virtual address.
    pub fn pick(&mut self) -> Option<u32> {
        self.pick_for(Address::v4(0x0a01_0001), 1025, Address::v4(0x0a09_0001))
    }

    /// The destinations of the next `count` connections: `3 2 1 none`.
    pub fn picks(&mut self, count: usize) -> String {
        names((0..count).map(|_| self.pick()))
    }

    /// The destinations of connections from a fixed client to these addresses.
    pub fn picks_to(&mut self, destinations: &[&str]) -> String {
        let client = Address::v4(0x0a01_0001);
        names(destinations.iter().map(|address| self.pick_for(client, 1025, address.parse().unwrap())))
    }

    /// Follows a recording of the kernel: `a4:2` adds destination 4 with weight 2, `e4:3` edits it, `d4` deletes it,
    /// `10.1.2.3:1025=4` is a connection from there that got destination 4.
    pub fn follow(&mut self, recording: &str) {
        for word in recording.split_whitespace() {
            if let Some((client, expected)) = word.split_once('=') {
                let client: std::net::SocketAddrV4 = client.parse().unwrap();
                let picked = self.pick_for((*client.ip()).into(), client.port(), Address::v4(0x0a09_0001));
                assert_eq!(names(std::iter::once(picked)), expected, "{word}");
                continue;
            }
            let (n, weight) = word[1..].split_once(':').unwrap_or((&word[1..], "0"));
            let (n, weight) = (n.parse().unwrap(), weight.parse().unwrap());
            match &word[..1] {
                "a" if n > self.last => self.add(weight),
                "a" => {
                    self.table.get(DestinationId(n)).set_weight(weight);
                    self.add_again(n);
                }
                "e" => self.edit(n, weight),
                "d" => self.delete(n),
                _ => panic!("{word}"),
            }
        }
    }

    /// Checks that the next connections get these destinations.
    pub fn expect(&mut self, sequence: &str) {
        assert_eq!(self.picks(sequence.split_whitespace().count()), sequence);
    }
}

/// `3 2 1 none`.
pub fn names(picks: impl Iterator<Item = Option<u32>>) -> String {
    let names = picks.map(|pick| pick.map_or("none".into(), |number| number.to_string()));
    names.collect::<Vec<String>>().join(" ")
}

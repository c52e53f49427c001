//! The kernel's routing tables, followed by netlink, in a network namespace of their own.
//!
//! Needs root and `ip`; says *skipped* and why when it lacks them.

#![allow(clippy::disallowed_methods)] // The kernel runs in real time.

use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::{Duration, Instant};

use lvx::base::{Address, InterfaceId, MacAddress};
use lvx::host::netlink::{Netlink, NetlinkEvent};
use lvx::route::{Database, Route};

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

fn ip_text(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

/// Two namespaces, `a` under test and `b` with the neighbours, joined by `e0` and `e1`. Removed when dropped.
struct Net {
    a: String,
    b: String,
}

impl Net {
    /// `None`, with a reason printed, when namespaces cannot be made here.
    fn new(test: &str) -> Option<Self> {
        let net = Net { a: format!("lvxn-{test}-a"), b: format!("lvxn-{test}-b") };
        let made = Command::new("ip").args(["netns", "add", &net.a]).output();
        let reason = match made {
            Err(error) => error.to_string(),
            Ok(output) if !output.status.success() => String::from_utf8_lossy(&output.stderr).trim().to_string(),
            Ok(_) => {
                ip(&format!("netns add {}", net.b));
                for number in 0..2 {
                    let (a, b) = (&net.a, &net.b);
                    ip(&format!("-n {a} link add e{number} type veth peer name e{number} netns {b}"));
                    ip(&format!("-n {a} link set e{number} address 02:00:00:00:0a:0{number} up"));
                    ip(&format!("-n {b} link set e{number} address 02:00:00:00:0b:0{number} up"));
                    ip(&format!("-n {a} addr add 10.80.{number}.1/24 dev e{number}"));
                    ip(&format!("-n {b} addr add 10.80.{number}.2/24 dev e{number}"));
                    ip(&format!("-n {a} addr add fd80:{number}::1/64 dev e{number} nodad"));
                    ip(&format!("-n {b} addr add fd80:{number}::2/64 dev e{number} nodad"));
                }
                return Some(net);
            }
        };
        println!("skipped: {test}: {reason}");
        None
    }

    /// Runs `work` on a thread within namespace `a`, with the runtime of one thread that netlink needs.
    fn within<F: Future<Output = ()>>(&self, work: impl FnOnce(String) -> F + Send + 'static) {
        let name = self.a.clone();
        let thread = std::thread::spawn(move || {
            let namespace = std::fs::File::open(format!("/run/netns/{name}")).unwrap();
            // SAFETY: the descriptor is open; the call changes this thread alone.
            assert_eq!(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) }, 0);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(work(name));
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for name in [&self.a, &self.b] {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}

struct Follower {
    netlink: Netlink,
    database: Database,
    served: Vec<String>,
    complete: bool,
    resets: u32,
}

impl Follower {
    async fn new() -> Self {
        let served = vec!["e0".to_string(), "e1".to_string()];
        let database = Database::new(&served);
        let mut follower = Self { netlink: Netlink::open().unwrap(), database, served, complete: false, resets: 0 };
        follower.until("the first dump", |_| true).await;
        follower
    }

    async fn step(&mut self) {
        // In short portions, which also proves that being cancelled loses nothing.
        let Ok(event) = tokio::time::timeout(Duration::from_millis(1), self.netlink.next()).await else { return };
        let event = event.unwrap();
        match event {
            NetlinkEvent::Reset => (self.complete, self.resets) = (false, self.resets + 1),
            NetlinkEvent::Complete => self.complete = true,
            _ => {}
        }
        assert!(event.apply(&mut self.database, &self.served));
    }

    /// Follows until the condition holds.
    async fn until(&mut self, what: &str, condition: impl Fn(&Database) -> bool) {
        let start = Instant::now();
        while !(self.complete && condition(&self.database)) {
            assert!(start.elapsed() < Duration::from_secs(10), "{what}: {:#?}", self.database);
            self.step().await;
        }
    }
}

/// The next hop of a destination: interface and gateway.
fn hop(database: &Database, destination: &str) -> Option<(InterfaceId, Address, u32)> {
    match database.snapshot().lookup(address(destination), 0) {
        Route::Unicast(hop) => Some((hop.interface?, hop.gateway.unwrap_or(address(destination)), hop.mtu)),
        _ => None,
    }
}

#[test]
fn the_first_dump_holds_what_ip_shows() {
    let Some(net) = Net::new("dump") else { return };
    let name = &net.a;
    ip(&format!("-n {name} route add 203.0.113.0/24 via 10.80.0.2 mtu 1400"));
    ip(&format!("-n {name} -6 route add 2001:db8::/32 via fd80:1::2"));
    ip(&format!("-n {name} route add blackhole 198.51.100.0/24"));
    ip(&format!("-n {name} route add 192.0.2.0/24 via 10.80.1.2 table 1000"));
    ip(&format!("-n {name} neigh add 10.80.0.77 lladdr 02:00:00:00:00:77 dev e0 nud permanent"));
    net.within(|_| async {
        let follower = Follower::new().await;
        let database = &follower.database;
        assert_eq!(hop(database, "203.0.113.9"), Some((InterfaceId(0), address("10.80.0.2"), 1400)));
        assert_eq!(hop(database, "2001:db8::9"), Some((InterfaceId(1), address("fd80:1::2"), 1500)));
        assert_eq!(hop(database, "10.80.1.9"), Some((InterfaceId(1), address("10.80.1.9"), 1500)));
        assert_eq!(database.snapshot().lookup(address("198.51.100.1"), 0), Route::Blackhole);
        assert_eq!(hop(database, "192.0.2.1"), None);
        let snapshot = database.snapshot();
        for local in ["10.80.0.1", "fd80:1::1", "127.0.0.1"] {
            assert!(snapshot.is_local(address(local)), "{local}");
        }
        assert!(!snapshot.is_local(address("10.80.0.2")));
        let mac = MacAddress([2, 0, 0, 0, 0, 0x77]);
        assert_eq!(snapshot.neighbour(InterfaceId(0), address("10.80.0.77")), Some(mac));
        assert_eq!(snapshot.link(InterfaceId(1)).map(|link| link.mac), Some(MacAddress([2, 0, 0, 0, 0x0a, 1])));
    });
}

#[test]
fn changes_are_followed() {
    let Some(net) = Net::new("follow") else { return };
    net.within(|name| async move {
        let mut follower = Follower::new().await;
        ip(&format!("-n {name} route add 203.0.113.0/24 via 10.80.0.2"));
        follower.until("a route", |database| hop(database, "203.0.113.9").is_some()).await;
        ip(&format!("-n {name} route replace 203.0.113.0/24 via 10.80.1.2"));
        let moved = |database: &Database| hop(database, "203.0.113.9").is_some_and(|(via, ..)| via == InterfaceId(1));
        follower.until("the route moved", moved).await;
        ip(&format!("-n {name} route del 203.0.113.0/24"));
        follower.until("the route gone", |database| hop(database, "203.0.113.9").is_none()).await;
        ip(&format!("-n {name} addr add 10.80.9.1/32 dev e0"));
        follower.until("an address", |database| database.local_addresses().contains(&address("10.80.9.1"))).await;
        ip(&format!("-n {name} addr del 10.80.9.1/32 dev e0"));
        follower.until("no address", |database| !database.local_addresses().contains(&address("10.80.9.1"))).await;
        ip(&format!("-n {name} link set e0 mtu 1300"));
        follower.until("the MTU", |database| hop(database, "10.80.0.9").is_some_and(|(_, _, mtu)| mtu == 1300)).await;

        // Both hops, then one, then both: the kernel says nothing of the second's return.
        ip(&format!("-n {name} route add 203.0.113.0/24 nexthop via 10.80.0.2 nexthop via 10.80.1.2"));
        let ways = |database: &Database| {
            let snapshot = database.snapshot();
            let mut found: Vec<_> = (0..64u32)
                .filter_map(|number| match snapshot.lookup(address("203.0.113.9"), number.wrapping_mul(0x9e37_79b9)) {
                    Route::Unicast(hop) => hop.interface,
                    _ => None,
                })
                .collect();
            found.sort();
            found.dedup();
            found.len()
        };
        follower.until("two ways", |database| ways(database) == 2).await;
        ip(&format!("-n {name} link set e1 down"));
        follower.until("one way", |database| ways(database) == 1).await;
        let resets = follower.resets;
        ip(&format!("-n {name} link set e1 up"));
        follower.until("two ways again", |database| ways(database) == 2).await;
        assert!(follower.resets > resets);

        ip(&format!("-n {name} link del e1"));
        follower.until("the link gone", |database| database.ifindex("e1").is_none()).await;
    });
}

#[test]
fn an_overrun_leads_to_the_truth_again() {
    let Some(net) = Net::new("overrun") else { return };
    net.within(|name| async move {
        let mut follower = Follower::new().await;
        let resets = follower.resets;
        // The task that reads the socket does not run while this thread does not wait in the runtime.
        let batch: String = (0..40_000)
            .map(|number: u32| {
                format!(
                    "route add 172.{}.{}.{}/32 via 10.80.0.2\n",
                    16 + number / 65536,
                    number >> 8 & 255,
                    number & 255
                )
            })
            .collect();
        let file = std::env::temp_dir().join(format!("lvx-routes-{}", std::process::id()));
        std::fs::write(&file, batch).unwrap();
        ip(&format!("-n {name} -b {}", file.display()));
        std::fs::remove_file(&file).unwrap();
        let last = |database: &Database| hop(database, "172.16.156.63").is_some();
        follower.until("the last of many routes", last).await;
        assert!(follower.resets > resets, "the socket holds more than expected: make more routes");
        assert!(hop(&follower.database, "172.16.0.0").is_some());
    });
}

#[test]
fn neighbours_are_kept_and_left_as_found() {
    let Some(net) = Net::new("keep") else { return };
    let name = &net.a;
    ip(&format!("-n {name} neigh add 10.80.0.77 lladdr 02:00:00:00:00:77 dev e0 nud permanent"));
    ip(&format!("-n {name} neigh add 10.80.1.2 lladdr 02:00:00:00:0b:01 dev e1 nud stale"));
    net.within(|name| async move {
        let mut follower = Follower::new().await;
        let (e0, e1) = (follower.database.ifindex("e0").unwrap(), follower.database.ifindex("e1").unwrap());
        for (ifindex, text) in
            [(e0, "10.80.0.2"), (e0, "fd80:0::2"), (e0, "10.80.0.99"), (e0, "10.80.0.77"), (e1, "10.80.1.2")]
        {
            follower.netlink.keep_neighbour(ifindex, address(text)).await.unwrap();
        }
        let resolved = |database: &Database| {
            let snapshot = database.snapshot();
            let known = |text| snapshot.neighbour(InterfaceId(0), address(text));
            known("10.80.0.2") == Some(MacAddress([2, 0, 0, 0, 0x0b, 0])) && known("fd80:0::2").is_some()
        };
        follower.until("resolved neighbours", resolved).await;
        assert_eq!(follower.netlink.kept_neighbours().len(), 4, "the one set by hand is not ours");
        let shown = ip_text(&format!("-n {name} neigh show"));
        assert_eq!(shown.matches("managed").count(), 4, "{shown}");
        follower.netlink.refresh_neighbours().await.unwrap();

        follower.netlink.release_neighbours().await.unwrap();
        let shown = ip_text(&format!("-n {name} neigh show"));
        assert!(!shown.contains("managed"), "{shown}");
        assert!(shown.contains("10.80.0.77 dev e0 lladdr 02:00:00:00:00:77 PERMANENT"), "{shown}");
        assert!(shown.contains("10.80.1.2 dev e1 lladdr 02:00:00:00:0b:01"), "{shown}");
        for gone in ["10.80.0.2 ", "fd80:0::2 ", "10.80.0.99 "] {
            let line = shown.lines().find(|line| line.starts_with(gone));
            assert!(line.is_none_or(|line| line.contains("FAILED")), "{shown}");
        }
    });
}

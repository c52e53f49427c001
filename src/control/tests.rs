//! Requests: the kernel's refusals, what changes, what the XDP program is told, the trash.

use std::sync::Arc;

use super::*;
use crate::base::{Address, Endpoint, Rng};
use crate::command::Response;
use crate::command::program::Output;
use crate::command::request::{Refusal, Stats};
use crate::conn::TableConfig;
use crate::route::Database;
use crate::service::filter::Match;
use crate::service::{FullNat, Method, Protocol, SchedulerFlags, Tunnel, TunnelChecksum};

pub(super) fn control() -> Control {
    let table = TableConfig { connections_max: 64, bucket_bits: 0 };
    let routes = Database::new(&[]).snapshot();
    let shared = Shared::new(1, table, routes, &mut Rng::new(1));
    Control::new(Arc::new(shared), 4096, Instant::START)
}

fn endpoint(address: &str, port: u16) -> Endpoint {
    Endpoint::new(address.parse().unwrap(), port)
}

pub(super) fn key() -> ServiceKey {
    ServiceKey::Address { protocol: Protocol::Tcp, endpoint: endpoint("10.9.0.1", 80) }
}

pub(super) fn service(scheduler: &str) -> ServiceRule {
    ServiceRule {
        key: key(),
        scheduler: scheduler.to_owned(),
        flags: SchedulerFlags::default(),
        persistent_s: None,
        mask: u32::MAX,
        engine: None,
        one_packet: false,
        mss_max: 0,
    }
}

pub(super) fn server(number: u8) -> ServerRule {
    ServerRule {
        endpoint: Endpoint::new(Address::v4(0x0a02_0000 + u32::from(number)), 80),
        method: Method::Masquerading,
        weight: 1,
        upper: 0,
        lower: 0,
        tunnel: Tunnel::Ipip,
        full_nat: FullNat::Off,
    }
}

pub(super) fn execute(control: &mut Control, request: Request) -> Reply {
    control.execute(Instant::START, request)
}

pub(super) fn add_server(control: &mut Control, server: ServerRule) -> Reply {
    execute(control, Request::AddServer { service: key(), server })
}

fn servers(control: &mut Control) -> Vec<(Endpoint, u32, Stats)> {
    let Ok(Response::Services { services, .. }) = execute(control, Request::Services(None)) else { panic!() };
    let servers = services.into_iter().flat_map(|service| service.servers);
    servers.map(|server| (server.rule.endpoint, server.inactive, server.stats)).collect()
}

#[test]
fn refusals_are_the_kernels_and_change_nothing() {
    let mut control = control();
    assert_eq!(execute(&mut control, Request::EditService(service("rr"))), Err(Refusal::NoService));
    assert_eq!(add_server(&mut control, server(1)), Err(Refusal::NoService));
    assert_eq!(execute(&mut control, Request::AddService(service("nosuch"))), Err(Refusal::NotFound));
    assert_eq!(execute(&mut control, Request::DeleteService(key())), Err(Refusal::NoService));
    execute(&mut control, Request::AddService(service("rr"))).unwrap();
    assert_eq!(execute(&mut control, Request::AddService(service("wrr"))), Err(Refusal::Exists));
    add_server(&mut control, server(1)).unwrap();
    assert_eq!(add_server(&mut control, server(1)), Err(Refusal::Exists));
    assert_eq!(add_server(&mut control, ServerRule { lower: 1, ..server(2) }), Err(Refusal::Range));
    assert_eq!(add_server(&mut control, ServerRule { weight: -1, ..server(2) }), Err(Refusal::Range));
    for address in ["224.0.0.1", "255.255.255.255", "0.0.0.0"] {
        let rule = ServerRule { endpoint: endpoint(address, 80), ..server(2) };
        assert_eq!(add_server(&mut control, rule), Err(Refusal::Invalid), "{address}");
    }
    let mixed = ServerRule { endpoint: endpoint("fd00::1", 80), ..server(2) };
    assert_eq!(add_server(&mut control, mixed), Err(Refusal::Invalid));
    let missing = Request::DeleteServer { service: key(), server: endpoint("10.2.0.9", 80) };
    assert_eq!(execute(&mut control, missing), Err(Refusal::NotFound));
    let change = control.change();
    assert_eq!(servers(&mut control).len(), 1);
    assert_eq!(control.change(), change, "asking changes nothing");
}

#[test]
fn tunnels_of_every_type_are_taken_and_a_gue_without_a_port_is_not() {
    let mut control = control();
    execute(&mut control, Request::AddService(service("rr"))).unwrap();
    let rule = |number, tunnel| ServerRule { method: Method::Tunnelling, tunnel, ..server(number) };
    let gue = |port, checksum| Tunnel::Gue { port, checksum };
    assert_eq!(add_server(&mut control, rule(1, gue(0, TunnelChecksum::None))), Err(Refusal::Invalid));
    let gre = Tunnel::Gre { checksum: true };
    for (number, tunnel) in [(1, gue(6080, TunnelChecksum::Remote)), (2, gre), (3, Tunnel::Ipip)] {
        assert_eq!(add_server(&mut control, rule(number, tunnel)), Ok(Response::Done));
    }
    let edit = Request::EditServer { service: key(), server: rule(2, gue(0, TunnelChecksum::None)) };
    assert_eq!(execute(&mut control, edit), Err(Refusal::Invalid));
    assert_eq!(servers(&mut control).len(), 3);
}

#[test]
fn wrong_persistence_is_refused_and_changes_nothing() {
    let mut control = control();
    let v6 = ServiceKey::Address { protocol: Protocol::Udp, endpoint: endpoint("fd00:9::1", 80) };
    for (rule, refusal) in [
        (ServiceRule { engine: Some("sipp".into()), ..service("rr") }, Refusal::NotFound),
        (ServiceRule { key: v6, mask: 0, ..service("rr") }, Refusal::Invalid),
        (ServiceRule { key: v6, mask: 129, ..service("rr") }, Refusal::Invalid),
    ] {
        assert_eq!(execute(&mut control, Request::AddService(rule)), Err(refusal));
    }
    let persistent = ServiceRule { persistent_s: Some(300), engine: Some("sip".into()), ..service("rr") };
    execute(&mut control, Request::AddService(persistent.clone())).unwrap();
    let wrong = ServiceRule { engine: Some("none".into()), scheduler: "wlc".into(), ..service("rr") };
    assert_eq!(execute(&mut control, Request::EditService(wrong)), Err(Refusal::NotFound));
    let Ok(Response::Services { services, .. }) = execute(&mut control, Request::Services(None)) else { panic!() };
    assert_eq!(services[0].rule, persistent);
}

#[test]
fn automatic_defences_follow_memory() {
    let mut control = control();
    let set = |control: &mut Control, name: &str, value: &str| {
        control.shared().sysctls.write(name, value).unwrap();
        control.sysctls_changed();
    };
    let read = |control: &Control, name: &str| control.shared().sysctls.read(name).unwrap();
    let refused = |control: &Control, of: usize| (0..of).filter(|_| control.shared().defence.takes_packet()).count();
    for knob in ["drop_entry", "drop_packet", "secure_tcp"] {
        set(&mut control, knob, "2");
        assert_eq!(read(&control, knob), "1", "{knob}: there is memory");
    }
    assert_eq!(refused(&control, 100), 0);
    // 1024 pages wanted, 768 there: one of four.
    control.set_pages_available(768);
    control.handle_timeout(Instant::START + Duration::from_secs(1));
    for knob in ["drop_entry", "drop_packet", "secure_tcp"] {
        assert_eq!(read(&control, knob), "2");
    }
    assert_eq!(refused(&control, 100), 25);
    control.set_pages_available(1024);
    control.handle_timeout(Instant::START + Duration::from_secs(2));
    assert_eq!(read(&control, "drop_packet"), "1");
    assert_eq!(refused(&control, 100), 0);
    set(&mut control, "drop_packet", "3");
    set(&mut control, "am_droprate", "5");
    assert_eq!(refused(&control, 100), 20);
    set(&mut control, "drop_packet", "0");
    assert_eq!(refused(&control, 100), 0);
    set(&mut control, "amemthresh", "-1");
    control.set_pages_available(0);
    set(&mut control, "secure_tcp", "1");
    assert_eq!(read(&control, "secure_tcp"), "1", "no memory is less than a negative threshold");
}

#[test]
fn lists_are_newest_first() {
    let mut control = control();
    execute(&mut control, Request::AddService(service("rr"))).unwrap();
    for number in [1, 3, 2] {
        add_server(&mut control, server(number)).unwrap();
    }
    let addresses: Vec<u32> =
        servers(&mut control).iter().map(|(server, ..)| server.address.low_u32() & 0xff).collect();
    assert_eq!(addresses, [2, 3, 1]);
}

#[test]
fn a_server_added_again_comes_back_with_its_counts() {
    let mut control = control();
    execute(&mut control, Request::AddService(service("rr"))).unwrap();
    add_server(&mut control, server(1)).unwrap();
    let id = control.services[0].servers[0].id;
    control.shared.destinations.bind(id, false);
    execute(&mut control, Request::Clear).unwrap();
    assert!(!control.shared.destinations.get(id).is_available());
    control.handle_timeout(Instant::from_seconds(600));
    execute(&mut control, Request::AddService(service("wlc"))).unwrap();
    add_server(&mut control, server(1)).unwrap();
    assert_eq!(control.services[0].servers[0].id, id);
    assert_eq!(servers(&mut control)[0].1, 1);
}

#[test]
fn the_trash_frees_what_was_idle_for_two_minutes() {
    let mut control = control();
    execute(&mut control, Request::AddService(service("rr"))).unwrap();
    add_server(&mut control, server(1)).unwrap();
    let remove = Request::DeleteServer { service: key(), server: server(1).endpoint };
    execute(&mut control, remove).unwrap();
    control.handle_timeout(Instant::from_seconds(120));
    assert_eq!(control.trash.items.len(), 1);
    control.handle_timeout(Instant::from_seconds(180));
    assert_eq!(control.trash.items.len(), 0);
    add_server(&mut control, server(2)).unwrap();
    assert_eq!(control.next_destination, 2, "the cell is used again");
}

#[test]
fn the_filter_follows_the_rules_and_outlives_them() {
    let mut control = control();
    execute(&mut control, Request::AddService(service("rr"))).unwrap();
    let direct = ServerRule { method: Method::DirectRouting, ..server(2) };
    add_server(&mut control, server(1)).unwrap();
    add_server(&mut control, direct).unwrap();
    let mut filter = Filter::default();
    take_filter(&mut control, &mut filter);
    let (vip, masqueraded) = ((6, endpoint("10.9.0.1", 80)), (6, endpoint("10.2.0.1", 80)));
    assert_eq!(filter.services.into_iter().collect::<Vec<_>>(), [vip]);
    assert_eq!(filter.servers.into_iter().collect::<Vec<_>>(), [masqueraded, vip]);
    assert_eq!(filter.virtual_addresses.len(), 1);
    // A connection keeps its server's packets coming after the rule is gone.
    let id = control.services[0].servers[1].id;
    control.shared.destinations.bind(id, false);
    execute(&mut control, Request::Clear).unwrap();
    control.handle_timeout(Instant::from_seconds(1000));
    assert!(control.filter().servers.contains(&masqueraded));
    control.shared.destinations.unbind(id, false, true);
    control.handle_timeout(Instant::from_seconds(2000));
    assert!(control.filter().servers.is_empty());
}

/// What a host does with the actions.
fn take_filter(control: &mut Control, filter: &mut Filter) {
    while let Some(action) = control.poll_action() {
        match action {
            Action::SetFilter(new) => *filter = new,
            Action::ChangeFilter(changes) => {
                for change in changes {
                    filter.apply(change);
                }
            }
            _ => {}
        }
    }
}

/// Whatever is added, edited, removed, revived and forgotten, the host has in the end what the rules ask for.
#[test]
fn changes_of_the_filter_add_up() {
    let mut rng = Rng::new(11);
    let mut control = control();
    let mut filter = Filter::default();
    let mut now = Instant::START;
    let keys = [
        key(),
        ServiceKey::Address { protocol: Protocol::Udp, endpoint: endpoint("10.9.0.1", 0) },
        ServiceKey::Address { protocol: Protocol::Tcp, endpoint: endpoint("10.2.0.1", 80) },
        MARK_KEY,
    ];
    for step in 0..3000 {
        let service_key = keys[rng.below(4) as usize];
        let method = if rng.below(2) == 0 { Method::Masquerading } else { Method::DirectRouting };
        let rule = ServerRule { method, ..server(1 + rng.below(3) as u8) };
        let request = match rng.below(12) {
            0..3 => Request::AddService(ServiceRule { key: service_key, ..service("rr") }),
            3..7 => Request::AddServer { service: service_key, server: rule },
            7..9 => Request::EditServer { service: service_key, server: rule },
            9 => Request::DeleteServer { service: service_key, server: rule.endpoint },
            10 => Request::DeleteService(service_key),
            _ => {
                now = now + Duration::from_secs(u64::from(rng.below(100)));
                control.handle_timeout(now);
                continue;
            }
        };
        let _ = control.execute_unsettled(now, request);
        if rng.below(3) > 0 {
            continue;
        }
        control.settle();
        take_filter(&mut control, &mut filter);
        assert_eq!(&filter, control.filter(), "step {step}");
        let mut expected = FilterBook::default();
        for service in &control.services {
            expected.ask_for_service(&service.rule.key);
            service.servers.iter().for_each(|server| expected.ask_for_server(&service.rule.key, server));
        }
        for ((service_key, _), item) in &control.trash.items {
            expected.ask_for_service(service_key);
            expected.ask_for_server(service_key, &item.server);
        }
        let rules_only = Filter { locals: BTreeSet::new(), ..filter.clone() };
        assert_eq!(&rules_only, expected.filter(), "step {step}");
    }
    execute(&mut control, Request::Clear).unwrap();
    control.handle_timeout(now + Duration::from_secs(1000));
    take_filter(&mut control, &mut filter);
    filter.locals.clear();
    assert_eq!(filter, Filter::default());
}

/// Connections keep the method that they began with, so answers must be steered after the rule has another one.
#[test]
fn a_server_that_masqueraded_once_stays_in_the_filter() {
    let mut control = control();
    execute(&mut control, Request::AddService(service("rr"))).unwrap();
    let ahead = control.filter_ahead(&Request::AddServer { service: key(), server: server(1) });
    let answers = FilterChange { item: Match::Server(6, server(1).endpoint), present: true };
    assert!(ahead.contains(&answers), "before its first connection");
    add_server(&mut control, server(1)).unwrap();
    let direct = ServerRule { method: Method::DirectRouting, ..server(1) };
    execute(&mut control, Request::EditServer { service: key(), server: direct }).unwrap();
    assert!(control.filter().servers.contains(&(6, server(1).endpoint)));
    execute(&mut control, Request::DeleteServer { service: key(), server: server(1).endpoint }).unwrap();
    add_server(&mut control, direct).unwrap();
    assert!(control.filter().servers.contains(&(6, server(1).endpoint)));
}

/// What a server counted since the last tick is its service's even when it leaves before the next.
#[test]
fn counts_of_a_server_that_leaves_are_kept() {
    let mut control = control();
    execute(&mut control, Request::AddService(service("rr"))).unwrap();
    add_server(&mut control, server(1)).unwrap();
    let id = control.services[0].servers[0].id;
    control.shared.workers[0].counters.destination(id).in_packets.add(5);
    execute(&mut control, Request::DeleteServer { service: key(), server: server(1).endpoint }).unwrap();
    control.handle_timeout(Instant::from_seconds(2));
    assert_eq!(control.services[0].tally.stats().in_packets, 5);
    assert_eq!(control.total.stats().in_packets, 5);
}

#[test]
fn a_table_of_services_has_an_end() {
    let mut control = control();
    for number in 0..SERVICES_MAX as u32 {
        let endpoint = Endpoint::new(Address::v4(0x0a09_0000 + number), 80);
        let key = ServiceKey::Address { protocol: Protocol::Udp, endpoint };
        control.services.push(ServiceEntry {
            rule: ServiceRule { key, ..service("rr") },
            id: ServiceId(number),
            scheduling: Arc::new(Lock::new(Scheduling::new(
                None,
                SchedulerFlags::default(),
                &control.shared.destinations,
            ))),
            servers: Vec::new(),
            tally: Tally::default(),
            next_tick: None,
        });
    }
    assert_eq!(execute(&mut control, Request::AddService(service("rr"))), Err(Refusal::NoMemory));
}

/// Persistent services take clients to ports that neither the service nor its server names.
#[test]
fn what_a_service_takes_of_other_ports_is_steered_too() {
    for (port, steered) in [(0, 0), (21, 0), (80, 80)] {
        let mut control = control();
        let endpoint = |port| Endpoint::new("10.9.0.1".parse().unwrap(), port);
        let key = ServiceKey::Address { protocol: Protocol::Tcp, endpoint: endpoint(port) };
        let rule = ServiceRule { key, persistent_s: Some(300), ..service("rr") };
        execute(&mut control, Request::AddService(rule)).unwrap();
        let masqueraded = ServerRule { method: Method::Masquerading, ..server(1) };
        execute(&mut control, Request::AddServer { service: key, server: masqueraded }).unwrap();
        let own = masqueraded.endpoint;
        let answers = if steered == 0 { Endpoint::new(own.address, 0) } else { own };
        let filter = control.filter();
        assert_eq!(Vec::from_iter(filter.services.iter().copied()), [(6, endpoint(steered))], "{port}");
        let servers = Vec::from_iter(filter.servers.iter().copied());
        assert!(servers.contains(&(6, answers)) && servers.contains(&(6, endpoint(steered))), "{port}: {servers:?}");
    }
}

const MARK_KEY: ServiceKey = ServiceKey::Mark { family: crate::base::Family::V4, mark: 7 };

fn mark_rule(port: u16) -> String {
    format!("*mangle\n-A PREROUTING -d 10.9.0.0/16 -p tcp --dport {port} -j MARK --set-mark 7\nCOMMIT\n")
}

#[test]
fn marks_are_steered_when_a_service_wants_them() {
    let mut control = control();
    control.load_marks(&mark_rule(80), None).unwrap();
    assert!(control.filter().marked.is_empty(), "no service has the mark");
    execute(&mut control, Request::AddService(ServiceRule { key: MARK_KEY, ..service("rr") })).unwrap();
    let prefix = crate::service::filter::Prefix::new("10.9.0.0".parse().unwrap(), 16);
    let tcp = |control: &Control| control.filter().marked.get(&prefix).and_then(|spans| spans.spans()[0]);
    assert_eq!(tcp(&control), Some((80, 80)));

    execute(&mut control, Request::AddServer { service: MARK_KEY, server: server(1) }).unwrap();
    assert_eq!(control.filter().servers.len(), 3, "the server answers in any protocol");
    let every_port = Endpoint::new(server(1).endpoint.address, 0);
    assert!(control.filter().servers.contains(&(17, every_port)), "when it is persistent, from any port");

    // A connection outlives the rules that made it.
    let id = control.services[0].servers[0].id;
    control.shared.destinations.bind(id, false);
    let change = control.change();
    control.load_marks(&mark_rule(90), None).unwrap();
    assert_eq!(tcp(&control), Some((80, 90)));
    assert!(control.change() > change);
    control.shared.destinations.unbind(id, false, true);
    control.handle_timeout(Instant::START + TRASH_PERIOD);
    assert_eq!(tcp(&control), Some((90, 90)));
}

#[test]
fn refused_mark_rules_change_nothing() {
    let mut control = control();
    control.load_marks(&mark_rule(80), None).unwrap();
    let (saved, change) = (control.saved_marks(None), control.change());
    let error = control.load_marks("*mangle\n-A PREROUTING -j DROP\nCOMMIT\n", None).unwrap_err();
    assert_eq!(error.line, Some(2));
    assert_eq!((control.saved_marks(None), control.change()), (saved, change));
}

#[test]
fn mark_commands_are_words() {
    let mut control = control();
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let load = control.mark_command(&words("load -6 -"), Some("*mangle\n-A INPUT -j MARK --set-mark 1\nCOMMIT\n"));
    assert_eq!(load, Ok(Output::default()));
    let refused = control.mark_command(&words("load -"), Some("*mangle\nx\nCOMMIT\n")).unwrap();
    assert_eq!((refused.exit, refused.stderr.lines().count()), (1, 1));
    assert!(refused.stderr.contains("line 2"), "{refused:?}");
    let list = |control: &mut Control, line: &str| control.mark_command(&words(line), None).unwrap().stdout;
    let (four, six) = (list(&mut control, "list -4"), list(&mut control, "list -6"));
    assert!(six.contains("\n-A INPUT -j MARK --set-xmark 0x1/0xffffffff\n") && !four.contains("-A"), "{four}{six}");
    let both = list(&mut control, "list");
    assert_eq!(both, four + &six);
    assert_eq!(
        control.mark_command(&words("load -"), Some(&both)),
        Ok(Output::default()),
        "what is listed can be loaded"
    );
    for line in ["", "load", "load /etc/passwd", "load -", "list 4", "nonsense"] {
        assert!(control.mark_command(&words(line), None).is_err(), "{line}");
    }
}

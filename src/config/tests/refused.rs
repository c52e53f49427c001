//! Values that are refused, keyword by keyword, in keepalived's words.

use super::*;
use crate::config::Verdict;

fn instance(line: &str) -> String {
    format!(
        "global_defs {{\n script_user root\n enable_script_security\n}}\nvrrp_script s1 {{\n script /bin/true\n}}\nvrrp_instance V {{\n interface eth0\n virtual_router_id 5\n virtual_ipaddress {{\n  10.0.0.1\n }}\n{line}\n}}\n"
    )
}

fn service(service: &str, server: &str) -> String {
    format!(
        "virtual_server 10.0.0.1 80 {{\n lb_algo rr\n lb_kind NAT\n protocol TCP\n{service}\n real_server 10.0.0.2 80 {{\n{server}\n }}\n}}\n"
    )
}

/// Each line with what is said of it, parted by `|`.
fn check(wrap: impl Fn(&str) -> String, table: &[(&str, &str)]) {
    for (line, said) in table {
        let reading = read_text(&wrap(line));
        let said: Vec<&str> = if said.is_empty() { Vec::new() } else { said.split('|').collect() };
        let own = texts(&reading);
        assert_eq!(own, said, "{line}");
        let verdict = if said.is_empty() { Verdict::Clean } else { Verdict::Flawed };
        assert_eq!(reading.verdict, verdict, "{line}");
    }
}

#[test]
fn values_of_instances_are_refused() {
    check(
        instance,
        &[
            ("state Backup", "(V) unknown state 'Backup', defaulting to BACKUP"),
            ("priority -5", "negative number '-5'|(V) Priority not valid! must be between 1 & 255. Using default 100"),
            ("priority +5", ""),
            ("priority \"10\"0", ""),
            ("advert_int 1x", "invalid number '1x'|(V) Advert interval (1x) not valid! Must be > 0 - ignoring"),
            ("advert_int 0.5", "(V) VRRPv2 advertisement interval 0.500000s must be an integer. rounding"),
            (
                "version 3\nadvert_int 50",
                "(V) VRRPv3 advertisement interval 50.00s is out of range. Must be less than 40.96s. Setting to 40.95s",
            ),
            ("preempt_delay x", "invalid number 'x'"),
            ("nopreempt\nstate MASTER", "(V) nopreempt is incompatible with priority 255. resetting nopreempt"),
            ("preempt_delay 5\nnopreempt", "(V) preempt_delay is incompatible with nopreempt mode - resetting"),
            ("authentication {\nauth_type HASH\n}", "(V) unknown authentication type 'HASH'"),
            ("authentication {\nauth_type PASS\n}", "(V) Authentication specified but no password given. Ignoring"),
            (
                "strict_mode\nauthentication {\nauth_type PASS\nauth_pass 12\n}",
                "(V) Strict mode does not support authentication. Ignoring.",
            ),
            ("mcast_dst_ip 1.2.3.4", "(V) mcast_dst_ip 1.2.3.4 not multicast. Skipping..."),
            (
                "unicast_peer {\n 1.2.3.4 min_ttl 5 max_ttl 300\n 1.2.3.5 foo\n fd00::1\n}",
                "number '300' outside range [0, 255]|(V) foo is missing a value|Configuration error: VRRP instance[V] and unicast peer address[fd00::1] MUST be of the same family !!! Skipping...",
            ),
            (
                "unicast_ttl 300",
                "number '300' outside range [0, 255]|(V): TTL '300' not valid - must be between 0 & 255",
            ),
            (
                "track_interface {\n eth1 weight 300\n eth1\n eth1 weight\n}",
                "number '300' outside range [-254, 254]|(V) weight 300 for eth1 must be between [-253..253] inclusive. Ignoring...|(V) duplicate track_interface eth1 - ignoring|(V) duplicate track_interface eth1 - ignoring",
            ),
            ("track_script {\n s1 weight\n}", "(V) weight without value specified for track script s1 - ignoring"),
            ("track_script {\n s1 foo\n}", "(V) unknown track script option foo - ignoring"),
            ("track_file {\n nope\n}", "(V) track file nope not found, ignoring..."),
            ("smtp_alert maybe", "Invalid vrrp_instance smtp_alert parameter maybe"),
            ("garp_master_repeat 0", "(V): garp_master_repeat must be greater than 0, setting to 1"),
            ("vmac_garp_intvl 5", "Keyword \"vmac_garp_intvl\" is deprecated - please use \"garp_extra_if\""),
            ("down_timer_adverts 0", "number '0' outside range [1, 100]|(V): Invalid down_timer_adverts [1:100] '0'"),
            ("version 2\nversion 3", "(V) vrrp_version 3 conflicts with configured or deduced version 2; ignoring."),
            (
                "notify_master /bin/true\nnotify_master /bin/false",
                "(V) notify_master script already specified - ignoring /bin/false",
            ),
            ("use_vmac a b", "VMAC interface name already specified"),
            ("vmac_xmit_base", "(V) vmac_xmit_base is only valid with a vmac"),
            ("priority 255\nstate BACKUP\nstrict_mode", "(V) State MASTER must match being address owner"),
            (
                "virtual_routes {\n 10.1.0.0/24 gw 10.0.0.2\n}",
                "\"gw\" for routes is deprecated. Please use \"via\"|Warning - cannot track route 10.1.0.0/24 with no interface specified, not tracking",
            ),
            (
                "virtual_ipaddress_excluded {\n 10.0.0.1/x\n}",
                "invalid number 'x'|Invalid address prefix len x for address 10.0.0.1/x - using 32",
            ),
            (
                "virtual_ipaddress_excluded {\n 10.0.0.2 scope 300\n}",
                "Invalid scope '300' specified for 10.0.0.2 - ignoring",
            ),
            (
                "virtual_ipaddress_excluded {\n 10.0.0.2 foo\n}",
                "Unknown configuration entry 'foo' for ip address - ignoring",
            ),
        ],
    );
}

#[test]
fn values_of_global_defs_are_refused() {
    check(
        |line| format!("global_defs {{\n{line}\n}}\n"),
        &[
            ("router_id", "routerid name missing - ignoring"),
            ("smtp_server nosuch.invalid", "Invalid smtp server nosuch.invalid 25"),
            ("smtp_connect_timeout 0", "smtp_conect_timeout must be greater than 0, setting to 1"),
            ("lvs_sync_daemon eth1 V 5", "Please use keyword \"id\" before lvs_sync_daemon SYNCID"),
            (
                "lvs_sync_daemon eth1 ttl 0",
                "number '0' outside range [1, 255]|Invalid lvs_sync_daemon ttl (0) - ignoring",
            ),
            (
                "lvs_timeouts foo 5",
                "Unknown option foo specified for lvs_timeouts|Unknown option 5 specified for lvs_timeouts",
            ),
            (
                "vrrp_garp_interval 0",
                "number '0' outside range [0.000001, 4294.967295]|vrrp_garp_interval '0' is invalid",
            ),
            ("vrrp_mcast_group6 fd00::1", "vrrp_mcast_group6 [fd00::1] is not multicast. Skipping"),
            ("script_user nosuch", "Error setting global script uid/gid"),
            (
                "vrrp_rt_priority 100",
                "vrrp process real-time priority 100 greater than maximum 99 - setting to maximum",
            ),
            ("vrrp_priority x", "invalid number 'x'|Invalid vrrp process priority specified"),
            ("umask 999", "invalid umask value 999"),
            ("dynamic_interfaces foo", "Unknown dynamic_interfaces option 'foo'"),
            ("vrrp_ipsets a", "Unknown keyword 'vrrp_ipsets'"),
            ("enable_snmp_vrrp", ""),
            ("data_use_instance maybe", "Invalid value 'maybe' for global date_use_instance specified"),
        ],
    );
}

#[test]
fn values_of_services_are_refused() {
    check(
        |line| service(line, "weight 1"),
        &[
            ("lb_algo foo", "Invalid lvs_scheduler 'foo' - ignoring"),
            ("lb_kind FOO", "PARSER : unknown [FOO] routing method for virtual server."),
            ("lb_kind TUN type gue", "gue tunnels require port, otherwise cannot have port."),
            ("persistence_timeout 0", "number '0' outside range [1, 2678400]|persistence_timeout invalid"),
            ("persistence_granularity x", "Invalid IPv4 persistence_granularity specified - x"),
            (
                "delay_loop 0",
                "number '0' outside range [0.000001, 18446744073709.551614]|virtual server delay loop '0' invalid - ignoring",
            ),
            (
                "quorum 5",
                "Warning - quorum 5 for [10.0.0.1]:tcp:80 exceeds total weight of real servers 1, reducing quorum to 1",
            ),
            ("hysteresis 1", "Virtual server [10.0.0.1]:tcp:80: hysteresis 1 >= quorum 1; setting hysteresis to 0"),
            ("ops", "Virtual server [10.0.0.1]:tcp:80: one packet scheduling requires UDP - resetting"),
            ("sh-port", "sh-port only applies to sh scheduler - ignoring"),
            ("lb_algo mh\nmh-port", ""),
            (
                "sorry_server fd00::1 80",
                "Address family of virtual server and sorry server fd00::1 don't match - skipping sorry server.",
            ),
            ("sorry_server_inhibit", "Ignoring sorry_server inhibit used before or without sorry_server"),
            ("ip_family foo", "unknown address family foo"),
        ],
    );
    check(
        |line| service("", line),
        &[
            ("weight -1", "negative number '-1'|Real server weight -1 is outside range 0-2147483647"),
            ("lb_kind DR", "Unknown keyword 'lb_kind'"),
            (
                "lvs_method DR\n}\nreal_server 10.0.0.3 81 {\nlvs_method DR",
                "WARNING - virtual server [10.0.0.1]:tcp:80 and real server [10.0.0.3]:tcp:81 ports don't match - resetting",
            ),
            (
                "}\nreal_server 10.0.0.2 80 {",
                "VS [10.0.0.1]:tcp:80: real server [10.0.0.2]:tcp:80 is duplicated - removing second rs",
            ),
            (
                "TCP_CHECK {\nbindto fd00::1\n}",
                "bindto address fd00::1 does not match address family of connect_ip - skipping",
            ),
            ("TCP_CHECK {\nnb_get_retry 3\n}", "Unknown keyword 'nb_get_retry'"),
            (
                "HTTP_GET {\nurl {\nstatus_code 200\n}\n}",
                "HTTP/SSL_GET checker url has no path - ignoring|HTTP/SSL_GET checker has no urls specified - ignoring",
            ),
            (
                "HTTP_GET {\nurl {\npath /\ndigest zz3a0c85a887a256d6939da88aabd8cd\n}\n}",
                "Unable to interpret hex digit in 'zz' at offset 0/1",
            ),
            ("DNS_CHECK {\nname a..b\n}", "DNS_CHECK name 'a..b' has empty label - ignoring"),
            ("UDP_CHECK {\npayload x\n}", "Invalid hex string for UDP_CHECK payload"),
            (
                "MISC_CHECK {\nmisc_timeout x\n}",
                "invalid number 'x'|Invalid misc_timeout value 'x'|No script path has been specified for MISC_CHECKER - skipping",
            ),
            (
                "FILE_CHECK {\ntrack_file nope\n}",
                "track_file nope not found|FILE_CHECK has no track_file specified - ignoring",
            ),
            ("BFD_CHECK {\nname nope\n}", "([10.0.0.2]:tcp:80) BFD_CHECK - BFD nope not configured"),
        ],
    );
}

#[test]
fn groups_of_services_are_judged() {
    check(
        |line| {
            service("", "").replacen(
                "virtual_server 10.0.0.1 80",
                &format!("virtual_server_group g {{\n{line}\n}}\nvirtual_server group g"),
                1,
            )
        },
        &[
            ("10.0.0.1-5 80", ""),
            ("10.0.0.1", "Virtual server [g]:0: zero port only valid for persistent services - setting"),
            ("10.0.0.1-300 80\n10.0.0.7 80", "Virtual server group range '10.0.0.1-300' end '300' too large"),
            (
                "10.0.0.5-3 80\n10.0.0.7 80",
                "Address range end is not greater than address range start - 10.0.0.5-3 - skipping",
            ),
            ("fwmark x\n10.0.0.7 80", "invalid number 'x'|(g): fwmark 'x' must be in [0, 4294967295] - ignoring"),
            ("fwmark 5", "Warning: Virtual server [g]:0: protocol specified for fwmark - protocol will be ignored"),
        ],
    );
}

#[test]
fn a_missing_value_is_fatal_and_the_rest_is_read() {
    let reading = read_text(&instance("priority\nunicast_ttl 300"));
    assert_eq!(reading.verdict, Verdict::Unusable);
    assert_eq!(reading.verdict.exit_status(), 2);
    assert_eq!(
        texts(&reading)[0],
        "*** Configuration line starting `priority` is missing a parameter after keyword `priority` at word position 2"
    );
    assert_eq!(reading.messages.len(), 3);
}

#[test]
fn scripts_are_judged() {
    let mut table = Table::new();
    table.programs.insert("/opt/open".to_owned(), (0, 0o777));
    table.programs.insert("/opt/plain".to_owned(), (0, 0o644));
    let read_with = |table: &Table, text: &str| read(&table.clone().with("/c", text), &invocation("/c", None));
    let with = |line: &str, defs: &str| instance(line).replace("enable_script_security", defs);
    let reading = read_with(&table, &with("notify /opt/open", ""));
    assert_eq!(reading.verdict, Verdict::Insecure);
    assert_eq!(
        texts(&reading),
        [
            "SECURITY VIOLATION - scripts are being executed but script_security not enabled. There are insecure scripts."
        ]
    );
    let reading = read_with(
        &table,
        &with("notify /opt/open\nnotify_stop /opt/plain\nnotify_fault /bin/nosuch", "enable_script_security"),
    );
    assert_eq!(reading.verdict, Verdict::Clean);
    let told = &reading.configuration.instance_notifications["V"];
    assert_eq!((&told.any, &told.stop, &told.fault), (&None, &None, &None));
    assert_eq!(reading.messages.iter().filter(|message| message.help.is_some()).count(), 3);
    let text = "vrrp_script s {\n script \"</dev/tcp/127.0.0.1/80\"\n}\n";
    let reading = read_with(&table, text);
    let script = &reading.configuration.scripts[0].script;
    assert!(script.is_shell_line && script.program() == "</dev/tcp/127.0.0.1/80");
    // The user that is there by default is missing, and root is not to be.
    let reading = read_with(&table, "global_defs {\nenable_script_security\n}\nvrrp_script s {\nscript /bin/true\n}\n");
    assert_eq!(
        texts(&reading),
        [
            "Unable to set default user keepalived_script for script",
            "Unable to set default user for vrrp script s - removing"
        ]
    );
}

#[test]
fn what_keepalived_does_not_start_with_is_refused() {
    for text in [
        "vrrp_instance V {\n interface eth0\n}\n",
        "vrrp_instance V {\n interface eth9\n virtual_router_id 5\n virtual_ipaddress {\n 10.0.0.1\n}\n}\n",
        "vrrp_instance V {\n virtual_router_id 5\n virtual_ipaddress {\n 10.0.0.1\n}\n}\n",
    ] {
        let reading = read_text(text);
        assert!(reading.is_refused && !reading.is_usable() && reading.verdict == Verdict::Flawed, "{text}");
    }
    let dynamic = "global_defs {\n dynamic_interfaces\n}\nvrrp_instance V {\n interface eth9\n virtual_router_id 5\n virtual_ipaddress {\n 10.0.0.1\n}\n}\n";
    assert!(read_text(dynamic).is_usable());
}

//! VRRP: instances, groups, what they track, static items, BFD.

use crate::config::blocks::keyword::Keyword;

const NO_MACVLAN: &str = "lvx sends frames itself and needs no interface of its own for a virtual MAC";

pub static INSTANCE: &[Keyword] = &[
    Keyword::words("state", 1),
    Keyword::words("interface", 1),
    Keyword::words("virtual_router_id", 1),
    Keyword::words("priority", 1),
    Keyword::words("advert_int", 1),
    Keyword::words("version", 1),
    Keyword::block("authentication", AUTHENTICATION),
    Keyword::list("virtual_ipaddress"),
    Keyword::list("virtual_ipaddress_excluded"),
    Keyword::list("virtual_routes"),
    Keyword::list("virtual_rules"),
    Keyword::words("unicast_src_ip", 1),
    Keyword::words("mcast_src_ip", 1),
    Keyword::words("mcast_dst_ip", 1),
    Keyword::list("unicast_peer"),
    Keyword::words("unicast_ttl", 1),
    Keyword::words("unicast_fault_no_peer", 0),
    Keyword::words("check_unicast_src", 0),
    Keyword::words("old_unicast_checksum", 0),
    Keyword::words("track_src_ip", 0),
    Keyword::words("nopreempt", 0),
    Keyword::words("preempt", 0),
    Keyword::words("preempt_delay", 1),
    Keyword::list("track_interface"),
    Keyword::list("track_script"),
    Keyword::list("track_file"),
    Keyword::list("track_process"),
    Keyword::list("track_bfd"),
    Keyword::words("dont_track_primary", 0),
    Keyword::program("notify_master", 1),
    Keyword::program("notify_backup", 1),
    Keyword::program("notify_fault", 1),
    Keyword::program("notify_stop", 1),
    Keyword::program("notify", 1),
    Keyword::program("notify_deleted", 0),
    Keyword::program("notify_master_rx_lower_pri", 1),
    Keyword::words("notify_priority_changes", 0),
    Keyword::words("smtp_alert", 0),
    Keyword::words("garp_master_delay", 1),
    Keyword::words("garp_master_repeat", 1),
    Keyword::words("garp_master_refresh", 1),
    Keyword::words("garp_master_refresh_repeat", 1),
    Keyword::words("garp_lower_prio_delay", 1),
    Keyword::words("garp_lower_prio_repeat", 1),
    Keyword::words("garp_extra_if", 1),
    Keyword::words("vmac_garp_intvl", 1),
    Keyword::words("lower_prio_no_advert", 0),
    Keyword::words("higher_prio_send_advert", 0),
    Keyword::words("down_timer_adverts", 1),
    Keyword::words("use_vmac", 0),
    Keyword::words("vmac_xmit_base", 0),
    Keyword::words("use_vmac_addr", 0).without_effect(NO_MACVLAN),
    Keyword::words("use_ipvlan", 0).without_effect(NO_MACVLAN),
    Keyword::words("vrf", 1).without_effect("lvx sends on the instance's interface itself"),
    Keyword::words("accept", 0),
    Keyword::words("no_accept", 0),
    Keyword::words("strict_mode", 0),
    Keyword::words("skip_check_adv_addr", 0),
    Keyword::words("promote_secondaries", 0).without_effect("lvx does not change that setting of interfaces"),
    Keyword::words("native_ipv6", 0),
    Keyword::words("linkbeat_use_polling", 0),
    Keyword::words("kernel_rx_buf_size", 1).without_effect("lvx sizes its own buffers"),
    Keyword::words("debug", 1).without_effect("it has none in keepalived either"),
    Keyword::words("lvs_sync_daemon_interface", 1),
];

static AUTHENTICATION: &[Keyword] = &[Keyword::words("auth_type", 1), Keyword::words("auth_pass", 1)];

pub static SYNC_GROUP: &[Keyword] = &[
    Keyword::list("group"),
    Keyword::list("track_interface"),
    Keyword::list("track_script"),
    Keyword::list("track_file"),
    Keyword::list("track_process"),
    Keyword::list("track_bfd"),
    Keyword::program("notify_master", 1),
    Keyword::program("notify_backup", 1),
    Keyword::program("notify_fault", 1),
    Keyword::program("notify_stop", 1),
    Keyword::program("notify", 1),
    Keyword::words("smtp_alert", 0),
    Keyword::words("global_tracking", 0),
    Keyword::words("sync_group_tracking_weight", 0),
    Keyword::words("notify_priority_changes", 0),
];

pub static SCRIPT: &[Keyword] = &[
    Keyword::program("script", 0),
    Keyword::words("interval", 1),
    Keyword::words("timeout", 1),
    Keyword::words("weight", 1),
    Keyword::words("rise", 1),
    Keyword::words("fall", 1),
    Keyword::words("user", 1),
    Keyword::words("init_fail", 0),
];

pub static TRACK_PROCESS: &[Keyword] = &[
    Keyword::program("process", 1),
    Keyword::words("param_match", 0),
    Keyword::words("weight", 1),
    Keyword::words("quorum", 1),
    Keyword::words("quorum_max", 1),
    Keyword::words("delay", 1),
    Keyword::words("fork_delay", 1),
    Keyword::words("terminate_delay", 1),
    Keyword::words("full_command", 0),
];

pub static TRACK_FILE: &[Keyword] =
    &[Keyword::words("file", 0), Keyword::words("weight", 1), Keyword::words("init_file", 0)];

pub static TRACK_GROUP: &[Keyword] = &[Keyword::list("group")];

pub static GARP_GROUP: &[Keyword] = &[
    Keyword::words("garp_interval", 1),
    Keyword::words("gna_interval", 1),
    Keyword::words("interface", 1),
    Keyword::list("interfaces"),
];

pub static BFD: &[Keyword] = &[
    Keyword::words("neighbor_ip", 1),
    Keyword::words("neighbour_ip", 1),
    Keyword::words("source_ip", 1),
    Keyword::words("min_rx", 1),
    Keyword::words("min_tx", 1),
    Keyword::words("idle_tx", 1),
    Keyword::words("multiplier", 1),
    Keyword::words("passive", 0),
    Keyword::words("ttl", 1),
    Keyword::words("hoplimit", 1),
    Keyword::words("max_hops", 1),
    Keyword::words("weight", 1),
    Keyword::words("vrrp", 0),
    Keyword::words("checker", 0),
];

//! The keywords, one item each, by block.
//!
//! Source: the manual page of keepalived 2.2.7, and what it was seen to take. Order has no meaning.

mod check;
mod global;
mod service;
mod vrrp;

use crate::config::blocks::keyword::{BOTH, CHECKERS, EVERY, GLOBAL, Keyword, Naming, VRRP};

const NO_NAMESPACES: &str = "lvx runs in the namespace that it is started in";
const NO_FILES: &str = "lvx has its files where its own options say";

/// What stands outside every block.
pub static TOP: &[Keyword] = &[
    Keyword::block("global_defs", global::GLOBAL_DEFS).read_by(GLOBAL),
    Keyword::words("net_namespace", 1).without_effect(NO_NAMESPACES).read_by(GLOBAL),
    Keyword::words("net_namespace_ipvs", 0).without_effect(NO_NAMESPACES).read_by(GLOBAL),
    Keyword::words("namespace_with_ipsets", 0).without_effect(NO_NAMESPACES).read_by(GLOBAL),
    Keyword::words("instance", 0).without_effect(NO_FILES).read_by(GLOBAL),
    Keyword::words("use_pid_dir", 0).without_effect(NO_FILES).read_by(GLOBAL),
    Keyword::words("linkbeat_use_polling", 0).without_effect("the kernel tells of links").read_by(GLOBAL),
    Keyword::words("child_wait_time", 1).without_effect("lvx has no child processes to wait for").read_by(GLOBAL),
    Keyword::named("vrrp_instance", vrrp::INSTANCE, Naming::Unique("vrrp_instance must have a name", "vrrp instance"))
        .read_by(VRRP),
    Keyword::named(
        "vrrp_sync_group",
        vrrp::SYNC_GROUP,
        Naming::Unique("vrrp_sync_group must have a name - skipping", "vrrp sync group"),
    )
    .read_by(VRRP),
    Keyword::named("vrrp_script", vrrp::SCRIPT, Naming::Needed).read_by(VRRP),
    Keyword::named("vrrp_track_process", vrrp::TRACK_PROCESS, Naming::Needed).read_by(VRRP),
    Keyword::named("track_file", vrrp::TRACK_FILE, Naming::Needed).read_by(BOTH),
    Keyword::named("vrrp_track_file", vrrp::TRACK_FILE, Naming::Needed).read_by(BOTH),
    Keyword::named("bfd_instance", vrrp::BFD, Naming::Needed).read_by(EVERY),
    Keyword::named("track_group", vrrp::TRACK_GROUP, Naming::Wanted("track_group must have a name - skipping"))
        .read_by(VRRP),
    Keyword::list("static_ipaddress").read_by(VRRP),
    Keyword::list("static_routes").read_by(VRRP),
    Keyword::list("static_rules").read_by(VRRP),
    Keyword::block("garp_group", vrrp::GARP_GROUP).read_by(VRRP),
    Keyword::list("linkbeat_interfaces").without_effect("the kernel tells of links").read_by(VRRP),
    Keyword::list("interface_up_down_delays").read_by(VRRP),
    Keyword::named("virtual_server", service::VIRTUAL_SERVER, Naming::Needed).read_by(CHECKERS),
    Keyword::named_list("virtual_server_group").read_by(CHECKERS),
    Keyword::block("SSL", check::SSL).read_by(CHECKERS),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(table: &'static [Keyword], path: &str, visit: &mut impl FnMut(&str, &'static [Keyword])) {
        visit(path, table);
        for keyword in table {
            walk(keyword.keywords(), &format!("{path}/{}", keyword.name), visit);
        }
    }

    #[test]
    fn names_are_unique_in_their_block() {
        let mut count = 0;
        walk(TOP, "", &mut |path, table| {
            let mut names: Vec<&str> = table.iter().map(|keyword| keyword.name).collect();
            count += names.len();
            names.sort_unstable();
            let before = names.len();
            names.dedup();
            assert_eq!(names.len(), before, "{path}");
        });
        assert!(count > 300, "{count}");
    }
}

//! What was meant by a word that is no keyword.

use crate::config::blocks::keyword::Keyword;
use crate::config::blocks::tables::TOP;

/// Words of other programs, of other years and of copied tutorials, and what is to be written.
const MISTAKEN: [(&str, &str); 22] = [
    ("raise", "rise"),
    ("virtualrouterid", "virtual_router_id"),
    ("vrid", "virtual_router_id"),
    ("lbkind", "lb_kind"),
    ("lbalgo", "lb_algo"),
    ("lb_algorithm", "lb_algo"),
    ("lb_method", "lb_kind"),
    ("advertint", "advert_int"),
    ("advert_interval", "advert_int"),
    ("authtype", "auth_type"),
    ("authpass", "auth_pass"),
    ("auth_password", "auth_pass"),
    ("virtualipaddress", "virtual_ipaddress"),
    ("virtual_ip", "virtual_ipaddress"),
    ("virtual_ip_address", "virtual_ipaddress"),
    ("vip", "virtual_ipaddress"),
    ("nopreemt", "nopreempt"),
    ("delayloop", "delay_loop"),
    ("realserver", "real_server"),
    ("virtualserver", "virtual_server"),
    ("persistencetimeout", "persistence_timeout"),
    ("track_scripts", "track_script"),
];

/// Words that keepalived had once, or that others added to it.
const ELSEWHERE: [(&str, &str); 9] = [
    ("nat_mask", "a keyword of old keepalived; it is not needed"),
    ("lvs_id", "a keyword of old keepalived; it is router_id today"),
    ("real_server_group", "never was in keepalived; list the real servers in each virtual_server"),
    ("local_address_group", "a keyword of DPVS; here `lvxadm --add-laddr' gives local addresses"),
    ("laddr_group_name", "a keyword of DPVS; here `lvxadm --add-laddr' gives local addresses"),
    ("establish_timeout", "a keyword of DPVS"),
    ("syn_proxy", "a keyword of DPVS"),
    ("auth_hmac", "a keyword of keepalived after 2.2.7"),
    ("no_virtual_ipaddress", "a keyword of keepalived after 2.2.7"),
];

/// What helps with a word that is no keyword of `table`.
pub fn help(name: &str, text: &str, table: &'static [Keyword]) -> Option<String> {
    if name == "}" {
        return Some("no block is open here: a block above was ended early, or is none".to_owned());
    }
    if let Some(odd) = text.chars().find(|character| !character.is_ascii()) {
        let plain: String = name.chars().map(|character| if character.is_ascii() { character } else { '_' }).collect();
        let meant = meant(&plain, table).map(|word| format!(", did you mean {word}?")).unwrap_or_default();
        if name.contains(odd) {
            return Some(format!("the word has the character {odd:?}, which no keyword has{meant}"));
        }
    }
    if let Some((_, what)) = ELSEWHERE.iter().find(|(word, _)| *word == name) {
        return Some((*what).to_owned());
    }
    if let Some(word) = meant(name, table) {
        return Some(format!("did you mean {word}?"));
    }
    let owner = owner(name, TOP, &mut Vec::new())?;
    Some(format!("{name} belongs into {owner}"))
}

/// The keyword of the table that was meant.
fn meant(name: &str, table: &'static [Keyword]) -> Option<&'static str> {
    let squeezed = name.to_ascii_lowercase().replace('-', "_");
    let alias = MISTAKEN.iter().find(|(word, _)| *word == squeezed || *word == squeezed.replace('_', ""));
    if let Some((_, word)) = alias
        && let Some(keyword) = table.iter().find(|keyword| keyword.name == *word)
    {
        return Some(keyword.name);
    }
    let folded =
        |keyword: &&Keyword| keyword.name.to_ascii_lowercase().replace(['_', '-'], "") == squeezed.replace('_', "");
    if let Some(keyword) = table.iter().find(folded) {
        return Some(keyword.name);
    }
    let allowed = (name.chars().count() / 3).min(3);
    let similar = table.iter().filter(|keyword| keyword.name.len().abs_diff(squeezed.len()) <= allowed);
    let distances = similar.map(|keyword| (distance(&squeezed, &keyword.name.to_ascii_lowercase()), keyword.name));
    distances.min().filter(|&(distance, _)| distance <= allowed).map(|(_, name)| name)
}

/// The block that has a keyword of this name.
fn owner(name: &str, table: &'static [Keyword], path: &mut Vec<&'static str>) -> Option<String> {
    for keyword in table {
        if keyword.name == name && !path.is_empty() {
            return Some(path.join(" / "));
        }
        path.push(keyword.name);
        let found = owner(name, keyword.keywords(), path);
        path.pop();
        if found.is_some() {
            return found;
        }
    }
    None
}

/// Octets to insert, remove, replace or swap with their neighbour. Names are short: at most [`NAME_OCTETS_MAX`] count.
fn distance(one: &str, other: &str) -> usize {
    let one: Vec<u8> = one.bytes().take(NAME_OCTETS_MAX).collect();
    let other: Vec<u8> = other.bytes().take(NAME_OCTETS_MAX).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, &byte) in one.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, &wanted) in other.iter().enumerate() {
            let mut least = (row[j] + usize::from(byte != wanted)).min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && byte == other[j - 1] && one[i - 1] == wanted {
                least = least.min(before[j - 1] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[other.len()]
}

/// Octets of a word that are compared.
const NAME_OCTETS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn of(block: &str, name: &str) -> String {
        let table = match block {
            "" => TOP,
            _ => TOP.iter().find(|keyword| keyword.name == block).expect("a block").keywords(),
        };
        help(name, name, table).unwrap_or_default()
    }

    #[test]
    fn tutorials_are_understood() {
        assert_eq!(of("vrrp_instance", "virtualRouterID"), "did you mean virtual_router_id?");
        assert_eq!(of("virtual_server", "lbKind"), "did you mean lb_kind?");
        assert_eq!(of("virtual_server", "lb-kind"), "did you mean lb_kind?");
        assert_eq!(of("vrrp_script", "raise"), "did you mean rise?");
        assert_eq!(of("vrrp_instance", "prioirty"), "did you mean priority?");
        assert_eq!(of("", "vrrp_instnace"), "did you mean vrrp_instance?");
        assert_eq!(of("vrrp_instance", "delay_loop"), "delay_loop belongs into virtual_server");
        assert_eq!(of("vrrp_instance", "zzz"), "");
        let server = TOP.iter().find(|keyword| keyword.name == "virtual_server").expect("a block").keywords();
        let real = server.iter().find(|keyword| keyword.name == "real_server").expect("a block").keywords();
        let broken = help("HTTP\u{1408}ET", "HTTP\u{1408}ET {", real).expect("help");
        assert!(broken.ends_with("did you mean HTTP_GET?"), "{broken}");
    }

    #[test]
    fn distances_are_small_numbers() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abcd", "acbd"), 1);
        assert_eq!(distance("abc", "abc"), 0);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}

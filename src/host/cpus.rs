//! Which processors the workers run on.

use std::collections::BTreeSet;
use std::fs;

/// Parses a list as the kernel and taskset write it: `0,2-3`.
///
/// # Errors
/// A sentence that names the part which is no number or range.
pub fn parse_list(text: &str) -> Result<Vec<usize>, String> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',') {
        let bad = || format!("illegal processor list `{text}': `{part}' is no number or range");
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.trim().parse().map_err(|_| bad())?;
        let last: usize = last.trim().parse().map_err(|_| bad())?;
        if first > last || last > CPU_MAX {
            return Err(bad());
        }
        cpus.extend(first..=last);
    }
    Ok(cpus)
}

/// Highest processor number that is taken for one.
const CPU_MAX: usize = 8191;

/// Processors for `workers` workers that serve `interfaces`: those of the interfaces' NUMA node first; processor 0,
/// where the kernel puts much of its own work, last. Empty when the process may run on none (then nothing is pinned).
pub fn choose(workers: usize, interfaces: &[String]) -> Vec<usize> {
    let allowed: BTreeSet<usize> = core_affinity::get_core_ids().unwrap_or_default().iter().map(|id| id.id).collect();
    let near: BTreeSet<usize> = interfaces.iter().filter_map(|name| node_of(name)).flat_map(cpus_of_node).collect();
    let mut order: Vec<usize> = allowed.iter().copied().collect();
    order.sort_by_key(|cpu| (!near.is_empty() && !near.contains(cpu), *cpu == 0, *cpu));
    order.truncate(workers);
    order
}

/// The NUMA node of an interface's device; virtual devices have none.
fn node_of(interface: &str) -> Option<u32> {
    fs::read_to_string(format!("/sys/class/net/{interface}/device/numa_node")).ok()?.trim().parse().ok()
}

fn cpus_of_node(node: u32) -> Vec<usize> {
    let text = fs::read_to_string(format!("/sys/devices/system/node/node{node}/cpulist")).unwrap_or_default();
    parse_list(&text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_parsed_or_refused() {
        assert_eq!(parse_list("0,2-4").unwrap(), [0, 2, 3, 4]);
        assert_eq!(parse_list(" 1 \n").unwrap(), [1]);
        for bad in ["", "a", "1-", "3-1", "1,,2", "99999999"] {
            assert!(parse_list(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_more_processors_than_workers() {
        assert!(choose(1, &[]).len() <= 1);
    }
}

//! How much memory the host has left, for the automatic defences, and on which pages this process has its own.

/// Octets of this process's memory on transparent huge pages; `None` where the kernel does not say.
pub fn huge_page_octets() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    Some(field(&text, "AnonHugePages")? * 1024)
}

/// Pages that are free or hold no more than buffers; `None` where the kernel does not say.
pub fn pages_available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    parse(&text, rustix::param::page_size() as u64)
}

/// Reads `/proc/meminfo` (its unit is 1024 octets).
fn parse(text: &str, page_octets: u64) -> Option<u64> {
    Some((field(text, "MemFree")? + field(text, "Buffers")?) * 1024 / page_octets)
}

/// The number behind `name:`.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_and_buffers_in_pages() {
        let text = "MemTotal:  100 kB\nMemFree:   40 kB\nMemAvailable: 90 kB\nBuffers:  8 kB\nCached: 7 kB\n";
        assert_eq!(parse(text, 4096), Some(12));
        assert_eq!(parse("MemFree: 40 kB\n", 4096), None);
        assert_eq!(parse("", 4096), None);
        assert!(pages_available().is_some());
    }
}

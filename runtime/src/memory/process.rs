//! What the operating system says of this process.

/// Most bytes of memory this process ever had resident at once, mapped files included; `None`
/// where the system does not say.
pub fn peak_bytes() -> Option<u64> {
    status("VmHWM:")
}

/// Bytes of memory that this process has resident now, without mapped files; `None` where the system
/// does not say.
pub fn anonymous_bytes() -> Option<u64> {
    status("RssAnon:")
}

fn status(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix(field))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

#[cfg(test)]
mod tests {
    #[cfg(target_os = "linux")]
    #[test]
    fn the_peak_is_known_and_plausible() {
        let peak = super::peak_bytes().unwrap();
        assert!(peak > 1 << 18 && peak < 1 << 44, "{peak}");
    }
}

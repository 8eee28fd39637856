//! What the operating system says of this machine.

use serde::Serialize;

/// Bytes of main memory.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Memory {
    /// All of it.
    pub total: u64,
    /// What programs could still have.
    pub available: u64,
}

/// The memory of this machine, or of the container it runs in; `None` where the system does not say.
pub fn memory() -> Option<Memory> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let field = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|l| l.strip_prefix(name))?;
        let kib: u64 = line
            .trim_start_matches(':')
            .trim()
            .strip_suffix(" kB")?
            .parse()
            .ok()?;
        Some(kib << 10)
    };
    let (total, available) = (field("MemTotal")?, field("MemAvailable")?);
    let of_container = |name: &str| {
        let text = std::fs::read_to_string(format!("/sys/fs/cgroup/memory.{name}"));
        text.unwrap_or_default()
    };
    let number = |text: String| text.trim().parse::<u64>().ok();
    let limit = number(of_container("max")).unwrap_or(u64::MAX);
    // Pages of files that nobody used lately go before the limit is felt.
    let stat = of_container("stat");
    let cached = stat.lines().find_map(|l| l.strip_prefix("inactive_file "));
    let cached = cached.and_then(|value| number(value.to_owned()));
    let used = number(of_container("current")).unwrap_or(0);
    let used = used.saturating_sub(cached.unwrap_or(0));
    Some(Memory {
        total: total.min(limit),
        available: available.min(limit.saturating_sub(used)),
    })
}

/// The processor's own name.
pub fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text
        .lines()
        .find(|l| l.starts_with("model name") || l.starts_with("Processor"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

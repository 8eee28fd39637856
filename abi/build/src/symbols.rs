//! `abi/symbols.txt`: every function of the interface, and the version that it came with.

use std::fs;
use std::path::Path;

/// A function of the interface.
pub struct Symbol {
    /// Its name.
    pub name: String,
    /// The version of the interface that it came with: "0.1".
    pub since: String,
}

/// Reads the list.
///
/// # Errors
/// If it cannot be read, or a line is not a name and a version.
pub fn read(root: &Path) -> Result<Vec<Symbol>, String> {
    let path = root.join("abi/symbols.txt");
    let text =
        fs::read_to_string(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let symbol = |line: &str| match line.split_once(' ') {
        Some((name, since)) => Ok(Symbol {
            name: name.into(),
            since: since.into(),
        }),
        None => Err(format!("{}: {line:?} has no version", path.display())),
    };
    text.lines().map(symbol).collect()
}

/// The versions as the linker wants them, each with its functions, the oldest first; nothing else is visible.
pub fn version_script(symbols: &[Symbol]) -> String {
    let mut versions: Vec<&str> = symbols.iter().map(|s| s.since.as_str()).collect();
    versions.sort_by_key(|version| {
        let numbers = version.split('.').map(|n| n.parse().unwrap_or(0));
        numbers.collect::<Vec<u32>>()
    });
    versions.dedup();
    let mut script = String::new();
    let mut before = String::new();
    for version in versions {
        let own = symbols.iter().filter(|s| s.since == version);
        let names: String = own.map(|s| format!("    {};\n", s.name)).collect();
        let hidden = if before.is_empty() {
            "  local:\n    *;\n"
        } else {
            ""
        };
        script += &format!("GRAFT_{version} {{\n  global:\n{names}{hidden}}}{before};\n");
        before = format!(" GRAFT_{version}");
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_versions_stand_on_earlier_ones() {
        let symbol = |name: &str, since: &str| Symbol {
            name: name.into(),
            since: since.into(),
        };
        let script = version_script(&[
            symbol("graft_a", "0.10"),
            symbol("graft_b", "0.2"),
            symbol("graft_c", "0.2"),
        ]);
        let expected = "GRAFT_0.2 {\n  global:\n    graft_b;\n    graft_c;\n  local:\n    *;\n};\n\
                        GRAFT_0.10 {\n  global:\n    graft_a;\n} GRAFT_0.2;\n";
        assert_eq!(script, expected);
    }
}

//! What the command line asks of a plugin's file.

use std::path::{Path, PathBuf};

use clap::Args;
use graft_plugins::Trust;

use crate::failure::Failure;

/// Arguments of commands that load a plugin.
#[derive(Args)]
pub struct TrustArguments {
    /// Load the plugin with this SHA-256 only; `graft plugin info` shows it
    #[arg(long, value_name = "HEX")]
    plugin_sha256: Option<String>,
    /// Load the plugin if this key (minisign's .pub file) signed it; may be repeated for other keys
    #[arg(long, value_name = "FILE")]
    plugin_key: Vec<PathBuf>,
}

impl TrustArguments {
    /// All of it together.
    ///
    /// # Errors
    /// If a digest or a key is none.
    pub fn trust(&self) -> Result<Trust, Failure> {
        let mut trust = Trust::default();
        if let Some(sha256) = &self.plugin_sha256 {
            trust = trust.pin(sha256)?;
        }
        for path in &self.plugin_key {
            trust = trust.key(&read(path)?)?;
        }
        Ok(trust)
    }
}

/// The text of a key file, which has two short lines.
fn read(path: &Path) -> Result<String, Failure> {
    const LARGEST: u64 = 16 << 10;
    let failed = |e: std::io::Error| Failure::Work(format!("cannot read {}: {e}", path.display()));
    if std::fs::metadata(path).map_err(failed)?.len() > LARGEST {
        let path = path.display();
        return Err(Failure::Work(format!(
            "{path} is too long for a public key"
        )));
    }
    std::fs::read_to_string(path).map_err(failed)
}

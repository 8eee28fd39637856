//! What a plugin's file must prove before anything looks into it.
//!
//! The sandbox is what protects the host; this is for those who want to know besides whose plugin they
//! run, or that it is still the one they looked at. Signatures are those of minisign (Ed25519), in a file
//! of their own beside the plugin: `name.wasm.minisig`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use minisign_verify::{PublicKey, Signature};
use sha2::{Digest, Sha256};

use crate::cache::hex;
use crate::error::PluginError;

/// What is asked of a plugin; nothing by default.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    sha256: Option<String>,
    keys: Vec<PublicKey>,
}

/// Most bytes of a signature file: four short lines.
const LARGEST_SIGNATURE: u64 = 16 << 10;

impl Trust {
    /// Asks for the file with this SHA-256, 64 hexadecimal digits, and no other.
    ///
    /// # Errors
    /// If these are no 64 digits.
    pub fn pin(mut self, sha256: &str) -> Result<Self, PluginError> {
        let digits = sha256.trim().to_ascii_lowercase();
        if digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(PluginError::BadPin {
                found: sha256.to_owned(),
            });
        }
        self.sha256 = Some(digits);
        Ok(self)
    }

    /// Asks for a signature by this key, or by another that is given the same way: the text of minisign's
    /// `.pub` file, or its second line.
    ///
    /// # Errors
    /// If it is no public key of minisign.
    pub fn key(mut self, text: &str) -> Result<Self, PluginError> {
        let text = text.trim();
        let key = match text.contains('\n') {
            true => PublicKey::decode(text),
            false => PublicKey::from_base64(text),
        };
        self.keys.push(key.map_err(|error| PluginError::BadKey {
            reason: error.to_string(),
        })?);
        Ok(self)
    }

    /// Whether a signature is asked for.
    pub fn wants_signature(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Checks a plugin's bytes, and the text of its signature file if there is one.
    ///
    /// # Errors
    /// If they are not what is asked for.
    pub fn check(
        &self,
        plugin: &str,
        bytes: &[u8],
        signature: Option<&str>,
    ) -> Result<(), PluginError> {
        self.check_pin(plugin, bytes)?;
        if !self.wants_signature() {
            return Ok(());
        }
        let refused = |reason: String| PluginError::Signature {
            plugin: plugin.to_owned(),
            reason,
        };
        let Some(signature) = signature else {
            return Err(refused("it has none".into()));
        };
        let signature = Signature::decode(signature)
            .map_err(|error| refused(format!("its signature cannot be read: {error}")))?;
        let mut reason = String::new();
        for key in &self.keys {
            match key.verify(bytes, &signature, false) {
                Ok(()) => return Ok(()),
                Err(error) => reason = error.to_string(),
            }
        }
        Err(refused(reason))
    }

    /// Checks a plugin that is part of this library, whose bytes nobody signed apart from it.
    pub(crate) fn check_pin(&self, plugin: &str, bytes: &[u8]) -> Result<(), PluginError> {
        let Some(expected) = &self.sha256 else {
            return Ok(());
        };
        let found = hex(&Sha256::digest(bytes));
        if found == *expected {
            return Ok(());
        }
        Err(PluginError::OtherPlugin {
            plugin: plugin.to_owned(),
            expected: expected.clone(),
            found,
        })
    }
}

/// Where the signature of a plugin file lies.
pub fn signature_of(plugin: &Path) -> PathBuf {
    let mut name: OsString = plugin.into();
    name.push(".minisig");
    name.into()
}

/// The text of a plugin file's signature, if there is one that is not absurdly long.
pub(crate) fn read_signature(plugin: &Path) -> Result<Option<String>, PluginError> {
    let path = signature_of(plugin);
    match fs::metadata(&path) {
        Ok(found) if found.len() <= LARGEST_SIGNATURE => {}
        Ok(found) => {
            return Err(PluginError::Signature {
                plugin: plugin.display().to_string(),
                reason: format!(
                    "{} has {} bytes, which no signature has",
                    path.display(),
                    found.len()
                ),
            });
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(PluginError::Read { path, source }),
    }
    let text = fs::read_to_string(&path);
    text.map(Some)
        .map_err(|source| PluginError::Read { path, source })
}

//! One immutable version of an adapter, named by the hash of its content.

use std::fmt;

use sha2::{Digest, Sha256};

use super::Adapter;

/// SHA-256 over what an adapter computes: its base, and every pair's place, rank, scale and values.
/// Its name, and the file it came from, make no difference.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Generation([u8; 32]);

impl Generation {
    /// The digest.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(super) fn of(adapter: &Adapter) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"graft adapter 1\n");
        let base = adapter.base().fingerprint.as_deref().unwrap_or("");
        hash.update(format!("{base}\n"));
        for (site, pair) in adapter.iter() {
            let (scale, rank) = (pair.scale.to_bits(), pair.rank());
            let sizes = (pair.inputs(), pair.outputs());
            hash.update(format!("{site} {rank} {scale:08x} {sizes:?}\n"));
            for values in [&pair.a, &pair.b] {
                for run in values.chunks(1024) {
                    let bytes: Vec<u8> = run.iter().flat_map(|v| v.to_le_bytes()).collect();
                    hash.update(bytes);
                }
            }
        }
        Self(hash.finalize().into())
    }
}

/// 64 hexadecimal digits.
impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The first 12 digits, enough to tell versions apart by eye.
impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..6]
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

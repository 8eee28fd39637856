//! One immutable version of an adapter, named by the hash of its content.

use std::fmt;

use graft_kernels::QuantType;
use graft_kernels::low_rank::LowRank;
use sha2::{Digest, Sha256};

use super::{Adapter, LoraPair};
use crate::model::Site;

/// SHA-256 over what an adapter computes: its base, and every pair's place, rank, scale and values as they are
/// stored.
/// Its name, and the file it came from, make no difference.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Generation([u8; 32]);

impl Generation {
    /// The digest.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// On the calling thread alone: the workers of a pool have tokens to compute, which would wait for a hash.
    pub(super) fn of(adapter: &Adapter) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"graft adapter 2\n");
        let base = adapter.base().fingerprint.as_deref().unwrap_or("");
        hash.update(format!("{base}\n"));
        for (site, pair) in adapter.iter() {
            hash.update(digest(site, pair));
        }
        Self(hash.finalize().into())
    }
}

/// Of one pair.
fn digest(site: Site, pair: &LoraPair) -> [u8; 32] {
    let mut hash = Sha256::new();
    let (scale, rank) = (pair.scale.to_bits(), pair.rank());
    let sizes = (pair.inputs(), pair.outputs());
    hash.update(format!("{site} {rank} {scale:08x} {sizes:?}\n"));
    for values in [&pair.a, &pair.b] {
        match values.low_rank() {
            LowRank::Stored { quant_type, bytes } => {
                hash.update(format!("{quant_type}\n"));
                hash.update(bytes);
            }
            LowRank::Floats(values) => {
                hash.update(format!("{}\n", QuantType::F32));
                for run in values.chunks(1024) {
                    let bytes: Vec<u8> = run.iter().flat_map(|v| v.to_le_bytes()).collect();
                    hash.update(bytes);
                }
            }
        }
    }
    hash.finalize().into()
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

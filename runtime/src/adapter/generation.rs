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

    /// From 64 hexadecimal digits, as it is written; `None` if they are none.
    pub fn parse(digits: &str) -> Option<Self> {
        let digits = digits.as_bytes();
        let value = |digit: &u8| char::from(*digit).to_digit(16);
        let mut bytes = [0; 32];
        if digits.len() != 2 * bytes.len() {
            return None;
        }
        for (byte, [high, low]) in bytes.iter_mut().zip(digits.as_chunks().0) {
            *byte = (value(high)? << 4 | value(low)?) as u8;
        }
        Some(Self(bytes))
    }

    /// On a few threads of its own: the workers of a pool have tokens to compute, which would wait for a hash.
    pub(super) fn of(adapter: &Adapter) -> Self {
        let pairs: Vec<_> = adapter.iter().collect();
        let mut digests = vec![[0; 32]; pairs.len()];
        let most = (adapter.bytes() / THREAD_BYTES).clamp(1, MOST_THREADS as u64) as usize;
        let threads = most.min(std::thread::available_parallelism().map_or(1, usize::from));
        let share = pairs.len().div_ceil(threads).max(1);
        let work = |pairs: &[(Site, &LoraPair)], digests: &mut [[u8; 32]]| {
            for (digest, &(site, pair)) in digests.iter_mut().zip(pairs) {
                *digest = PairDigest::of(site, pair).finish();
            }
        };
        std::thread::scope(|scope| {
            let mut shares = pairs.chunks(share).zip(digests.chunks_mut(share));
            let own = shares.next();
            for (pairs, digests) in shares {
                scope.spawn(move || work(pairs, digests));
            }
            if let Some((pairs, digests)) = own {
                work(pairs, digests);
            }
        });
        let mut hash = Sha256::new();
        hash.update(b"graft adapter 2\n");
        let base = adapter.base().fingerprint.as_deref().unwrap_or("");
        hash.update(format!("{base}\n"));
        digests.iter().for_each(|digest| hash.update(digest));
        Self(hash.finalize().into())
    }
}

/// Bytes worth a thread, which take it about a millisecond.
const THREAD_BYTES: u64 = 2 << 20;
/// Most threads that read one adapter.
const MOST_THREADS: usize = 4;

/// Digest of one pair; those of several can be made at once.
#[derive(Clone)]
pub(super) struct PairDigest(Sha256);

impl PairDigest {
    /// Of a whole pair.
    pub fn of(site: Site, pair: &LoraPair) -> Self {
        let sizes = (pair.inputs(), pair.outputs());
        let mut digest = Self::begin(site, pair.rank(), pair.scale, sizes);
        for values in [&pair.a, &pair.b] {
            match values.low_rank() {
                LowRank::Stored { quant_type, bytes } => digest.add(quant_type, bytes),
                LowRank::Floats(values) => {
                    digest.add(QuantType::F32, &[]);
                    for run in values.chunks(1024) {
                        let bytes: Vec<u8> = run.iter().flat_map(|v| v.to_le_bytes()).collect();
                        digest.0.update(bytes);
                    }
                }
            }
        }
        digest
    }

    /// Of a pair whose values [`PairDigest::add`] is still to be told.
    pub fn begin(site: Site, rank: usize, scale: f32, sizes: (usize, usize)) -> Self {
        let scale = scale.to_bits();
        let line = format!("{site} {rank} {scale:08x} {sizes:?}\n");
        Self(Sha256::new().chain_update(line))
    }

    /// Adds the values of A, then those of B, as they are stored.
    pub fn add(&mut self, quant_type: QuantType, bytes: &[u8]) {
        self.0.update(format!("{quant_type}\n"));
        self.0.update(bytes);
    }

    /// Of several pairs together, as 64 hexadecimal digits.
    pub fn all(digests: impl Iterator<Item = Self>) -> String {
        let mut hash = Sha256::new().chain_update(b"graft vision pairs 1\n");
        digests.for_each(|digest| hash.update(digest.finish()));
        Generation(hash.finalize().into()).to_string()
    }

    fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
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

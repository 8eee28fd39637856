//! An adapter at smaller ranks, and what that leaves out.

use rayon::prelude::*;

use super::ALPHA;
use super::factored::Factored;
use crate::Result;
use crate::adapter::{Adapter, AdapterError};
use crate::cancel::Cancel;
use crate::model::Site;
use crate::threads::Pool;

/// How much of each site to keep.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Keep {
    /// At most this rank.
    Rank(usize),
    /// The smallest rank that keeps this share of the squared Frobenius norm, above 0 and at most 1.
    Energy(f64),
}

/// An adapter of smaller ranks.
#[derive(Clone, Debug, PartialEq)]
pub struct Compressed {
    /// The adapter; sites at which nothing is added are gone.
    pub adapter: Adapter,
    /// Every site there was, bottom up.
    pub sites: Vec<CompressedSite>,
}

/// What became of one site.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CompressedSite {
    /// Where it is.
    pub site: Site,
    /// The rank there was.
    pub rank_before: usize,
    /// The rank there is; 0 if the site is gone.
    pub rank: usize,
    /// Frobenius norm of `scale · B A` as it was.
    pub norm: f64,
    /// Frobenius norm of what was cut, from the singular values.
    pub cut: f64,
}

impl CompressedSite {
    /// `cut / norm`; 0 where there was nothing.
    pub fn relative(&self) -> f64 {
        relative(self.cut, self.norm)
    }
}

impl Compressed {
    /// What was cut of all sites together, relative to what there was.
    pub fn relative(&self) -> f64 {
        let together = |of: fn(&CompressedSite) -> f64| {
            let squares = self.sites.iter().map(|site| of(site).powi(2));
            squares.sum::<f64>().sqrt()
        };
        relative(together(|site| site.cut), together(|site| site.norm))
    }
}

/// A part of a whole; 0 of nothing.
pub(super) fn relative(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// `adapter` at the ranks that `keep` says: at each site the nearest that there is of its rank (Eckart &
/// Young), each singular value's root in A and in B. Sites are shared among the pool's threads.
///
/// # Errors
/// If a rank of 0 or a share outside 0 to 1 is asked for, nothing is left, or the flag is raised.
pub fn compress(adapter: &Adapter, keep: Keep, pool: &Pool, cancel: &Cancel) -> Result<Compressed> {
    match keep {
        Keep::Rank(0) => return Err(AdapterError::RankZero.into()),
        Keep::Energy(share) if !(share > 0.0 && share <= 1.0) => {
            return Err(AdapterError::Energy { share }.into());
        }
        Keep::Rank(_) | Keep::Energy(_) => {}
    }
    let pairs: Vec<_> = adapter.iter().collect();
    let compressed = pool.run(|| {
        let sites = pairs.par_iter().map(|&(site, pair)| {
            cancel.check()?;
            let factored = Factored::of(pair);
            let rank = factored.rank(keep);
            let report = CompressedSite {
                site,
                rank_before: pair.rank(),
                rank,
                norm: factored.cut(0),
                cut: factored.cut(rank),
            };
            Ok((report, factored.pair(rank)))
        });
        sites.collect::<Result<Vec<_>>>()
    })?;
    let sites = compressed.iter().map(|(report, _)| *report).collect();
    let left = compressed
        .into_iter()
        .filter_map(|(report, pair)| Some((report.site, pair?)));
    let left: Vec<_> = left.collect();
    if left.is_empty() {
        let adapter = adapter.name().to_owned();
        return Err(AdapterError::NothingLeft { adapter }.into());
    }
    let adapter = Adapter::new(adapter.name(), adapter.base().clone(), ALPHA, left)?;
    Ok(Compressed { adapter, sites })
}

//! Several adapters as one.

use std::collections::BTreeMap;

use super::ALPHA;
use crate::adapter::stacked::Stacked;
use crate::adapter::{Adapter, AdapterError};
use crate::model::Site;

/// The weighted sum of adapters as one adapter called `name`, exactly: at each site the ranks add up,
/// A stacked, B's columns side by side and multiplied with scale and weight. It answers as its parts do when
/// they are attached together, to rounding. A weight of 0 is the same as not being there.
///
/// # Errors
/// If a weight is not finite, none is left, the adapters were made for different bases, or do not
/// have the widths of one model.
pub fn combine(
    name: impl Into<String>,
    parts: &[(&Adapter, f32)],
) -> Result<Adapter, AdapterError> {
    if let Some((adapter, weight)) = parts.iter().find(|(_, weight)| !weight.is_finite()) {
        return Err(AdapterError::Weight {
            adapter: adapter.name().to_owned(),
            weight: *weight,
        });
    }
    let parts: Vec<(&Adapter, f32)> = parts.iter().copied().filter(|p| p.1 != 0.0).collect();
    let known = parts.iter().find(|p| p.0.base.fingerprint.is_some());
    let base = known.or(parts.first()).ok_or(AdapterError::NoParts)?.0;
    check_bases(base, parts.iter().map(|p| p.0))?;
    check_widths(parts.iter().map(|p| p.0))?;
    let mut sums: BTreeMap<Site, Stacked> = BTreeMap::new();
    for (adapter, weight) in parts {
        for (site, pair) in adapter.iter() {
            sums.entry(site).or_default().push(pair, weight);
        }
    }
    let pairs = sums
        .into_iter()
        .map(|(site, stack)| Some((site, stack.pair()?)));
    let pairs: Option<Vec<_>> = pairs.collect();
    Adapter::new(
        name,
        base.base.clone(),
        ALPHA,
        pairs.ok_or(AdapterError::Empty)?,
    )
}

fn check_bases<'a>(
    first: &Adapter,
    adapters: impl Iterator<Item = &'a Adapter>,
) -> Result<(), AdapterError> {
    for second in adapters {
        let (a, b) = (&first.base.fingerprint, &second.base.fingerprint);
        if b.is_some() && a != b {
            return Err(AdapterError::Bases {
                first: first.name.clone(),
                first_base: first.base.called(),
                second: second.name.clone(),
                second_base: second.base.called(),
            });
        }
    }
    Ok(())
}

/// Linear layers of a kind have the same widths in all layers of a model, and in all blocks of a tower.
fn check_widths<'a>(adapters: impl Iterator<Item = &'a Adapter>) -> Result<(), AdapterError> {
    let mut seen: BTreeMap<Site, (&Adapter, Site, (usize, usize))> = BTreeMap::new();
    let first_of_kind = |site| match site {
        Site::Layer { linear, .. } => Site::Layer { layer: 0, linear },
        Site::Tower { linear, .. } => Site::Tower { block: 0, linear },
        site => site,
    };
    for adapter in adapters {
        for (site, pair) in adapter.iter() {
            let widths = (pair.inputs(), pair.outputs());
            let &mut (first, first_site, expected) = seen
                .entry(first_of_kind(site))
                .or_insert((adapter, site, widths));
            if widths != expected {
                let called = |adapter: &Adapter, site: Site, (inputs, outputs)| {
                    format!("{}, {site} is {inputs} to {outputs}", adapter.name)
                };
                return Err(AdapterError::Widths {
                    first: called(first, first_site, expected),
                    second: called(adapter, site, widths),
                });
            }
        }
    }
    Ok(())
}

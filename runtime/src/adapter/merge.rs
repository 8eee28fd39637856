//! Baking adapters into a base model: `W + sum of strength · scale · B A`, stored again.
//!
//! Tensor by tensor, rows in parallel, in f32; then the type is chosen anew or kept. Storing
//! rounds, and the report says how much next to how much the adapters changed: where the rounding
//! is as large as the change, a larger type or an unmerged adapter serves better.

use std::path::Path;

use super::Attached;
use super::stacked::Stacked;
use crate::Result;
use crate::cancel::Cancel;
use crate::gguf::{Array, Value};
use crate::model::{Model, ModelOptions, Site};
use crate::quantize::{self, Addition, Mix, Progress, QuantizeOptions, TensorReport};

/// Metadata key that names what was merged.
const MERGED: &str = "graft.merged";

/// How to merge.
#[derive(Clone, Copy, Default)]
pub struct MergeOptions<'a> {
    /// The types of the result; `None` keeps every tensor's own.
    pub mix: Option<Mix>,
    /// Workers; 0 means one per core.
    pub threads: usize,
    /// Told after every tensor.
    pub progress: Option<&'a dyn Fn(Progress<'_>)>,
    /// Stops the work when raised.
    pub cancel: Option<&'a Cancel>,
}

impl std::fmt::Debug for MergeOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MergeOptions")
            .field("mix", &self.mix)
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}

/// What was written.
#[derive(Clone, Debug, PartialEq)]
pub struct MergeReport {
    /// The adapted matrices, bottom up.
    pub sites: Vec<MergedSite>,
    /// The other tensors; those that kept their type are copies.
    pub others: Vec<TensorReport>,
    /// Bytes of all tensors before.
    pub bytes_before: u64,
    /// Bytes of all tensors now.
    pub bytes_after: u64,
}

/// What became of one adapted matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct MergedSite {
    /// Where it is.
    pub site: Site,
    /// Root of the mean square of what the adapters added, per weight.
    pub added_rms: f64,
    /// Types, and what storing the sum has cost.
    pub stored: TensorReport,
}

impl MergeReport {
    /// The site whose rounding is largest beside what was added to it.
    pub fn worst(&self) -> Option<&MergedSite> {
        let ratio = |s: &&MergedSite| s.stored.error.rms / s.added_rms.max(f64::MIN_POSITIVE);
        self.sites
            .iter()
            .max_by(|a, b| ratio(a).total_cmp(&ratio(b)))
    }
}

/// Writes the model file `base` to `output` with `adapters` in its weights. `output` appears whole
/// or not at all.
///
/// # Errors
/// If `base` cannot be read or is not the adapters' base, a sum is not finite or does not fit its
/// type, a kept type is one that graft only reads, the disk refuses, or the flag is raised.
pub fn merge(
    base: &Path,
    adapters: &Attached,
    output: &Path,
    options: &MergeOptions<'_>,
) -> Result<MergeReport> {
    let model = Model::open(
        base,
        &ModelOptions {
            threads: options.threads,
            ..ModelOptions::default()
        },
    )?;
    for (adapter, _) in adapters.entries() {
        adapter.check_base(&model)?;
    }
    let gguf = model.gguf();
    let mut metadata = match options.mix {
        Some(mix) => quantize::metadata_of(gguf, mix),
        None => quantize::joined_metadata(gguf),
    };
    let merged = adapters.entries().iter();
    let merged = merged.map(|(adapter, strength)| format!("{}:{strength}", adapter.name()));
    metadata.insert(MERGED, Value::Array(Array::String(merged.collect())));
    let types = match options.mix {
        Some(mix) => mix.types(gguf.metadata(), gguf.tensors())?,
        None => gguf.tensors().iter().map(|info| info.quant_type).collect(),
    };
    let addition = |info: &crate::gguf::TensorInfo| -> Option<Addition<'_>> {
        let update = Stacked::of(adapters, site_of(&info.name)?)?;
        Some(Box::new(move |first, out| update.add(first, out)))
    };
    let options = QuantizeOptions {
        threads: options.threads,
        progress: options.progress,
        cancel: options.cancel,
        allow_requantize: true,
    };
    let report = quantize::rewrite(gguf, &metadata, &types, output, &options, &addition)?;
    let mut sites = Vec::new();
    let mut others = Vec::new();
    for tensor in report.tensors {
        let update = site_of(&tensor.name).and_then(|site| Stacked::of(adapters, site));
        match (site_of(&tensor.name), update) {
            (Some(site), Some(update)) => sites.push(MergedSite {
                site,
                added_rms: update.rms(),
                stored: tensor,
            }),
            _ => others.push(tensor),
        }
    }
    sites.sort_by_key(|merged| merged.site);
    Ok(MergeReport {
        sites,
        others,
        bytes_before: report.bytes_before,
        bytes_after: report.bytes_after,
    })
}

fn site_of(tensor: &str) -> Option<Site> {
    Site::parse(tensor.strip_suffix(".weight")?)
}

impl Stacked {
    /// All terms at one site; `None` if no adapter acts there.
    fn of(adapters: &Attached, site: Site) -> Option<Self> {
        let mut stacked = Self::default();
        for (adapter, strength) in adapters.entries() {
            if let Some(pair) = adapter.pair(site) {
                stacked.push(pair, *strength);
            }
        }
        (stacked.rank > 0).then_some(stacked)
    }

    /// Adds whole rows of `B A`, from row `first` on.
    fn add(&self, first: usize, out: &mut [f32]) {
        let (inputs, outputs) = (self.inputs(), self.outputs());
        for (row, weights) in out.chunks_exact_mut(inputs).enumerate() {
            for (k, a) in self.a.chunks_exact(inputs).enumerate() {
                let b = self.b[k * outputs + first + row];
                weights.iter_mut().zip(a).for_each(|(w, a)| *w += b * a);
            }
        }
    }

    /// Root of the mean square of `B A`, from the two small products: `tr(AAᵀ BᵀB)`.
    fn rms(&self) -> f64 {
        let dot = |rows: &[f32], width: usize, i: usize, j: usize| -> f64 {
            let (x, y) = (&rows[i * width..][..width], &rows[j * width..][..width]);
            x.iter()
                .zip(y)
                .map(|(&x, &y)| f64::from(x) * f64::from(y))
                .sum()
        };
        let (inputs, outputs) = (self.inputs(), self.outputs());
        let mut sum = 0.0;
        for i in 0..self.rank {
            for j in 0..self.rank {
                sum += dot(&self.a, inputs, i, j) * dot(&self.b, outputs, i, j);
            }
        }
        (sum.max(0.0) / (inputs * outputs) as f64).sqrt()
    }
}

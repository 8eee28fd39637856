//! Baking adapters into a base model: `W + sum of strength · scale · B A`, stored again.
//!
//! Tensor by tensor, rows in parallel, in f32; then the type is chosen anew or kept. Where it is kept,
//! every block has the choice between the scales it had and new ones, and takes those that lose less;
//! so a stored sum is never further from the sum than the base was. Storing rounds all the same, and
//! the report says what share of the change is in the file. Weights that lie on a grid go back to
//! where they were if the change is below half a step: most of a small change to a 4-bit base is lost
//! so, while the same change to the float model that the base was made of survives quantization, since
//! its weights lie anywhere between the steps.

use std::path::Path;

use graft_kernels::QuantType;

use super::stacked::Stacked;
use super::{Adapter, AdapterError, Attached};
use crate::Result;
use crate::cancel::Cancel;
use crate::gguf::{Array, Gguf, Metadata, TensorInfo, Value};
use crate::model::{Model, ModelOptions, Site, Vision};
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
    /// The vision half, and where to write the one with the adapters in it. Its tensors keep their types.
    pub vision: Option<(&'a Path, &'a Path)>,
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
    /// The share of it that the stored weights hold: the part of stored minus base that lies along what
    /// was added. 1 where rounding fell evenly to both sides, 0 where it took everything back.
    pub kept: f64,
    /// Types, and what storing the sum has cost.
    pub stored: TensorReport,
}

impl MergeReport {
    /// The site that holds the least of what was added to it.
    pub fn worst(&self) -> Option<&MergedSite> {
        self.sites.iter().min_by(|a, b| a.kept.total_cmp(&b.kept))
    }

    /// The sites where rounding took more than half of the change back.
    pub fn erased(&self) -> impl Iterator<Item = &MergedSite> {
        self.sites.iter().filter(|site| site.kept < 0.5)
    }
}

/// Writes the model file `base` to `output` with `adapters` in its weights, and the vision half if the options
/// name one. Each file appears whole or not at all.
///
/// A pair at the block above those that run has no place in a vision half that was stored without this block; it
/// changes no feature either way.
///
/// # Errors
/// If `base` cannot be read or is not the adapters' base, an adapter has pairs in a vision half that is not
/// named, or at the embedding or the output of a model that has one matrix for both, a sum is not finite or does
/// not fit its type, a kept type is one that graft only reads, the disk refuses, or the flag is raised.
pub fn merge(
    base: &Path,
    adapters: &Attached,
    output: &Path,
    options: &MergeOptions<'_>,
) -> Result<MergeReport> {
    let model = Model::open(
        base,
        &ModelOptions {
            mmproj: options.vision.map(|(mmproj, _)| mmproj.to_owned()),
            threads: options.threads,
            ..ModelOptions::default()
        },
    )?;
    for (adapter, _) in adapters.entries() {
        check(adapter, &model)?;
    }
    let mut report = merge_language(&model, adapters, output, options)?;
    if let (Some(vision), Some((_, output))) = (model.vision(), options.vision) {
        let seeing = merge_vision(vision, adapters, output, options)?;
        report.sites.extend(seeing.sites);
        report.others.extend(seeing.others);
        report.bytes_before += seeing.bytes_before;
        report.bytes_after += seeing.bytes_after;
    }
    Ok(report)
}

/// Refuses what would be lost.
fn check(adapter: &Adapter, model: &Model) -> Result<()> {
    if adapter.has_vision() && model.vision().is_none() {
        return Err(AdapterError::Unsupported {
            what: "merging pairs of the vision half into a language model".into(),
            advice: "give the vision half as well (--mmproj) and where to write it (--mmproj-output), or keep the \
                     adapter beside the base",
        }
        .into());
    }
    adapter.check_base(model)?;
    let one_matrix = model.gguf().position("output.weight").is_none();
    let outside = [Site::Embedding, Site::Output].map(|site| adapter.pair(site).is_some());
    if one_matrix && outside.contains(&true) {
        return Err(AdapterError::Unsupported {
            what: "merging a pair of the embedding or the output into a model that has one matrix for both".into(),
            advice: "keep the adapter beside the base",
        }
        .into());
    }
    Ok(())
}

fn merge_language(
    model: &Model,
    adapters: &Attached,
    output: &Path,
    options: &MergeOptions<'_>,
) -> Result<MergeReport> {
    let gguf = model.gguf();
    let mut metadata = match options.mix {
        Some(mix) => quantize::metadata_of(gguf, mix),
        None => quantize::joined_metadata(gguf),
    };
    metadata.insert(MERGED, names(adapters));
    let types = match options.mix {
        Some(mix) => mix.types(gguf.metadata(), gguf.tensors())?,
        None => gguf.tensors().iter().map(|info| info.quant_type).collect(),
    };
    let site_of = |tensor: &str| {
        let site = Site::parse(tensor.strip_suffix(".weight")?)?;
        (!site.is_vision()).then_some(site)
    };
    rewrite(gguf, &metadata, &types, adapters, &site_of, output, options)
}

fn merge_vision(
    vision: &Vision,
    adapters: &Attached,
    output: &Path,
    options: &MergeOptions<'_>,
) -> Result<MergeReport> {
    let gguf = vision.gguf();
    let mut metadata = quantize::joined_metadata(gguf);
    metadata.insert(MERGED, names(adapters));
    let types: Vec<_> = gguf.tensors().iter().map(|info| info.quant_type).collect();
    let site_of = |tensor: &str| vision.site_of(tensor);
    rewrite(gguf, &metadata, &types, adapters, &site_of, output, options)
}

/// What was merged, for the file's metadata.
fn names(adapters: &Attached) -> Value {
    let merged = adapters.entries().iter();
    let merged = merged.map(|(adapter, strength)| format!("{}:{strength}", adapter.name()));
    Value::Array(Array::String(merged.collect()))
}

/// One file, with what adapters add at the sites of its tensors.
fn rewrite(
    gguf: &Gguf,
    metadata: &Metadata,
    types: &[QuantType],
    adapters: &Attached,
    site_of: &dyn Fn(&str) -> Option<Site>,
    output: &Path,
    options: &MergeOptions<'_>,
) -> Result<MergeReport> {
    let addition = |info: &TensorInfo| -> Option<Addition<'_>> {
        let update = Stacked::of(adapters, site_of(&info.name)?)?;
        Some(Box::new(move |first, out| update.add(first, out)))
    };
    let options = QuantizeOptions {
        threads: options.threads,
        progress: options.progress,
        cancel: options.cancel,
        allow_requantize: true,
    };
    let (report, added) = quantize::rewrite(gguf, metadata, types, output, &options, &addition)?;
    let mut sites = Vec::new();
    let mut others = Vec::new();
    for (tensor, added) in report.tensors.into_iter().zip(added) {
        match (site_of(&tensor.name), added) {
            (Some(site), Some(added)) => sites.push(MergedSite {
                site,
                added_rms: added.rms,
                kept: added.kept,
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
}

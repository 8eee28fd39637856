//! Two models of one shape to the adapter between them.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use graft_kernels::product::{Mat, MatMut};

use super::compress::relative;
use super::range_finder::largest;
use super::two_files::{TwoFiles, norm};
use super::{ALPHA, Keep};
use crate::Result;
use crate::adapter::{Adapter, AdapterError, BaseIdentity, LoraPair};
use crate::cancel::Cancel;
use crate::model::{LlamaShape, Model, ModelOptions, Site, SiteKind, product_parallel};
use crate::quantize::Progress;
use crate::random::SplitMix;
use crate::threads::Pool;

/// Every difference begins with the same random vectors.
const SEED: u64 = 0;

/// How to look for the adapter between two models.
#[derive(Clone, Copy)]
pub struct DifferenceOptions<'a> {
    /// The most rank of a site; one whose sides are shorter gets less.
    pub rank: usize,
    /// Workers; 0 means one per core.
    pub threads: usize,
    /// Told after every site.
    pub progress: Option<&'a dyn Fn(Progress<'_>)>,
    /// Stops the work when raised.
    pub cancel: Option<&'a Cancel>,
}

impl std::fmt::Debug for DifferenceOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DifferenceOptions")
            .field("rank", &self.rank)
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}

/// The adapter from one model to another, and what it lacks.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// For the base; sites that are the same in both models are not in it.
    pub adapter: Adapter,
    /// Every linear site, bottom up, and the embedding and the output where both models have them in one shape.
    pub sites: Vec<DifferenceSite>,
    /// Every tensor that no adapter reaches, in the order of the base's file, then those that only the
    /// tuned model has.
    pub outside: Vec<OutsideTensor>,
}

/// How two models differ at one site, in Frobenius norms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DifferenceSite {
    /// Where it is.
    pub site: Site,
    /// Rank of the adapter here; 0 where the models are the same.
    pub rank: usize,
    /// Of the base's weights.
    pub weights: f64,
    /// Of the difference.
    pub difference: f64,
    /// Of the difference less what the adapter adds, as its values are stored.
    pub left_out: f64,
}

impl DifferenceSite {
    /// `left_out / difference`; 0 where the models are the same.
    pub fn relative(&self) -> f64 {
        relative(self.left_out, self.difference)
    }
}

/// A tensor that no adapter reaches: a norm, or what only one model has.
#[derive(Clone, Debug, PartialEq)]
pub struct OutsideTensor {
    /// Its name.
    pub name: String,
    /// Frobenius norm of the difference relative to that of the base; infinite if the base is zero. `None`
    /// if only one model has the tensor, or they have it in different shapes.
    pub change: Option<f64>,
}

impl Difference {
    /// What the adapter leaves out of all sites, relative to how much they differ.
    pub fn relative(&self) -> f64 {
        let together = |of: fn(&DifferenceSite) -> f64| {
            let squares = self.sites.iter().map(|site| of(site).powi(2));
            squares.sum::<f64>().sqrt()
        };
        relative(
            together(|site| site.left_out),
            together(|site| site.difference),
        )
    }
}

/// The adapter that brings the model file `base` nearest to `tuned`, named after the latter: at each
/// site the largest singular values of the difference of the decoded weights. Where models use their embedding
/// as the output too, a change of it is one of both. Memory: one
/// matrix in f32 and a few vectors of its sides for each rank.
///
/// # Errors
/// If a file cannot be read or holds a weight that is not finite, the models are not of one shape, the
/// rank is 0 or larger than any site takes, no site differs, or the flag is raised.
pub fn difference(
    base: &Path,
    tuned: &Path,
    options: &DifferenceOptions<'_>,
) -> Result<Difference> {
    let (base_model, tuned_model) = (open(base)?, open(tuned)?);
    let shape = base_model.llama().shape();
    same_shape(shape, tuned_model.llama().shape()).map_err(|reason| AdapterError::OtherShape {
        base: base.to_owned(),
        tuned: tuned.to_owned(),
        reason,
    })?;
    let rank = options.rank;
    check_rank(rank, shape)?;
    let never = Cancel::new();
    let cancel = options.cancel.unwrap_or(&never);
    let pool = Pool::new(options.threads)?;
    let files = TwoFiles {
        base: (base, base_model.gguf()),
        tuned: (tuned, tuned_model.gguf()),
        cancel,
    };
    let places = places(&files, shape.layers);
    let outside = pool.run(|| outside(&files, &places))?;
    let mut sites = Vec::new();
    let mut pairs = Vec::new();
    let weights = |site: Site| {
        let (outputs, inputs) = shape.sizes(site).expect("a site of this shape");
        (outputs * inputs) as u64
    };
    let of = places.iter().map(|&(site, _)| weights(site)).sum();
    let mut done = 0;
    for (site, tensor) in &places {
        let site = *site;
        let sizes = shape.sizes(site).expect("a site of this shape");
        let (report, pair) = pool.run(|| at_site(&files, (site, tensor), sizes, rank))?;
        sites.push(report);
        pairs.extend(pair.map(|pair| (site, pair)));
        done += weights(site);
        if let Some(progress) = options.progress {
            progress(Progress {
                tensor: &site.to_string(),
                weights: done,
                of,
            });
        }
    }
    if pairs.is_empty() {
        return Err(AdapterError::NoDifference {
            base: base.to_owned(),
            tuned: tuned.to_owned(),
        }
        .into());
    }
    let identity = BaseIdentity {
        fingerprint: Some(base_model.fingerprint().to_owned()),
        name: Some(base_model.name()),
    };
    Ok(Difference {
        adapter: Adapter::new(tuned_model.name(), identity, ALPHA, pairs)?,
        sites,
        outside,
    })
}

/// Every site at which the models can be compared, bottom up, with the tensor that is there.
fn places(files: &TwoFiles<'_>, layers: usize) -> Vec<(Site, String)> {
    let named = |site: Site| (site, format!("{site}.weight"));
    let embedding = named(Site::Embedding);
    let output = named(Site::Output);
    let tied = [files.base.1, files.tuned.1].map(|gguf| gguf.position(&output.1).is_none());
    let output = match tied {
        [true, true] => (Site::Output, embedding.1.clone()),
        _ => output,
    };
    let first = files.alike(&embedding.1).then_some(embedding);
    let last = files.alike(&output.1).then_some(output);
    let layers = Site::of_layers(layers).map(named);
    first.into_iter().chain(layers).chain(last).collect()
}

/// What must be equal for an adapter to lead from one model to the other. The vocabulary need not: the embedding
/// and the output are left out then; nor need the length of a context.
fn same_shape(base: &LlamaShape, tuned: &LlamaShape) -> Result<(), String> {
    let sizes = |s: &LlamaShape| {
        [
            ("the width", s.width as f64),
            ("the number of layers", s.layers as f64),
            ("the number of heads", s.heads as f64),
            ("the number of key/value heads", s.kv_heads as f64),
            ("the head width", s.head_width as f64),
            ("the feed-forward width", s.feed_forward as f64),
            ("the epsilon of norms", f64::from(s.norm_eps)),
            ("the rotary base", f64::from(s.rope_base)),
            ("the rotary scale", f64::from(s.rope_scale)),
        ]
    };
    let mut both = sizes(base).into_iter().zip(sizes(tuned));
    match both.find(|((_, base), (_, tuned))| base != tuned) {
        Some(((what, base), (_, tuned))) => {
            Err(format!("{what} is {base} in one and {tuned} in the other"))
        }
        None => Ok(()),
    }
}

fn check_rank(rank: usize, shape: &LlamaShape) -> Result<(), AdapterError> {
    let most = SiteKind::ALL.map(|kind| {
        let (outputs, inputs) = shape.linear(kind);
        outputs.min(inputs)
    });
    let most = most.into_iter().max().unwrap_or(0);
    match rank {
        0 => Err(AdapterError::RankZero),
        _ if rank > most => Err(AdapterError::RankTooLarge { rank, most }),
        _ => Ok(()),
    }
}

/// Opens one of the two models; an error says which.
fn open(path: &Path) -> Result<Arc<Model>> {
    let options = ModelOptions {
        threads: 1,
        ..ModelOptions::default()
    };
    Model::open(path, &options).map_err(|error| match error {
        crate::Error::Model(_) | crate::Error::Tokenizer(_) => AdapterError::InModel {
            path: path.to_owned(),
            reason: error.to_string(),
        }
        .into(),
        error => error,
    })
}

/// The tensors that are at none of these places.
fn outside(files: &TwoFiles<'_>, places: &[(Site, String)]) -> Result<Vec<OutsideTensor>> {
    let (base, tuned) = (files.base.1, files.tuned.1);
    let inside: HashSet<&str> = places.iter().map(|(_, tensor)| &tensor[..]).collect();
    let only_tuned = tuned.tensors().iter();
    let only_tuned = only_tuned.filter(|info| base.position(&info.name).is_none());
    let names = base
        .tensors()
        .iter()
        .chain(only_tuned)
        .map(|info| &info.name);
    let compared = names.filter(|name| !inside.contains(&name[..]));
    let compared = compared.map(|name| {
        let change = match files.alike(name) {
            true => {
                let squares = files.compare(name)?;
                Some(relative_change(squares.difference, squares.base))
            }
            false => None,
        };
        let name = name.clone();
        Ok(OutsideTensor { name, change })
    });
    compared.collect()
}

/// From sums of squares; a change of nothing is infinite.
fn relative_change(difference: f64, base: f64) -> f64 {
    match difference > 0.0 {
        true => (difference / base).sqrt(),
        false => 0.0,
    }
}

/// One site: its report, and its pair if the models differ there.
fn at_site(
    files: &TwoFiles<'_>,
    (site, tensor): (Site, &str),
    (outputs, inputs): (usize, usize),
    rank: usize,
) -> Result<(DifferenceSite, Option<LoraPair>)> {
    let mut matrix = vec![0.0; outputs * inputs];
    let squares = files.subtract(tensor, &mut matrix)?;
    let mut report = DifferenceSite {
        site,
        rank: 0,
        weights: squares.base.sqrt(),
        difference: squares.difference.sqrt(),
        left_out: squares.difference.sqrt(),
    };
    if squares.difference == 0.0 {
        return Ok((report, None));
    }
    let random = SplitMix::of(SEED, site.index() as u64);
    let factored = largest(&matrix, (outputs, inputs), rank, random, files.cancel)?;
    let pair = factored.pair(factored.rank(Keep::Rank(rank)));
    if let Some(pair) = &pair {
        files.cancel.check()?;
        // Measured, where `difference² - kept²` would lose half of its digits.
        let b = Mat::new(&pair.b, outputs, pair.rank());
        let a = Mat::new(&pair.a, pair.rank(), inputs);
        let rest = MatMut::new(&mut matrix, outputs, inputs);
        product_parallel(rest, true, -1.0, b, a);
        report.rank = pair.rank();
        report.left_out = norm(&matrix);
    }
    Ok((report, pair))
}

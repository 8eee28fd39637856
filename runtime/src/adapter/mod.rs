//! The life of a LoRA adapter: files, what is attached to a session, merging into a base model, and what
//! adapters become together.

mod algebra;
mod attached;
pub mod companion;
mod error;
pub mod folder;
mod generation;
pub mod gguf_file;
mod merge;
pub mod mlx;
mod pair;
pub mod peft;
mod registry;
mod stacked;
#[cfg(test)]
mod tests;
mod values;

pub use algebra::{
    Compressed, CompressedSite, Difference, DifferenceOptions, DifferenceSite, Keep, OutsideTensor,
    combine, compress, difference,
};
pub use attached::{Attached, VisionPart};
pub use error::AdapterError;
pub use generation::Generation;
pub use merge::{MergeOptions, MergeReport, MergedSite, merge};
pub use pair::LoraPair;
pub use registry::{Lease, Limits, Named, Publish, Registry};
pub use values::Values;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::model::{AdapterView, LlamaShape, LoraRef, Model, Site};
use graft_kernels::ops::dropout::Dropout;

/// The model an adapter was made for, as far as its file says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BaseIdentity {
    /// [`Model::fingerprint`] of the base.
    pub fingerprint: Option<String>,
    /// Its name, for messages.
    pub name: Option<String>,
}

impl BaseIdentity {
    /// The name, and where there is one the beginning of the fingerprint: models of one name differ by it.
    fn called(&self) -> String {
        let name = self.name.as_deref().unwrap_or("an unnamed model");
        match &self.fingerprint {
            Some(fingerprint) => called(name, fingerprint),
            None => name.to_owned(),
        }
    }
}

/// Says that a model has no such layer.
fn beyond(site: Site, shape: &LlamaShape) -> String {
    format!("it adapts {site}, the model has {} layers", shape.layers)
}

/// A model for messages.
fn called(name: &str, fingerprint: &str) -> String {
    let short: String = fingerprint.chars().take(12).collect();
    format!("{name} ({short})")
}

/// A low-rank adapter: immutable once made, shared by any number of sessions.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    name: String,
    base: BaseIdentity,
    alpha: f32,
    pairs: BTreeMap<Site, LoraPair>,
}

impl Adapter {
    /// An adapter from its pairs; `alpha` is what files say, the pairs carry their own scale.
    ///
    /// # Errors
    /// If it has no pairs, two at one site, or values that are not finite.
    pub fn new(
        name: impl Into<String>,
        base: BaseIdentity,
        alpha: f32,
        pairs: impl IntoIterator<Item = (Site, LoraPair)>,
    ) -> Result<Self, AdapterError> {
        let mut places = BTreeMap::new();
        for (site, pair) in pairs {
            pair.check(site)?;
            if places.insert(site, pair).is_some() {
                return Err(AdapterError::Twice { site });
            }
        }
        if places.is_empty() {
            return Err(AdapterError::Empty);
        }
        Ok(Self {
            name: name.into(),
            base,
            alpha,
            pairs: places,
        })
    }

    /// An adapter of no pairs, which changes nothing: of a run in which something else learns.
    pub(crate) fn none(base: BaseIdentity) -> Self {
        Self {
            name: "none".into(),
            base,
            alpha: 1.0,
            pairs: BTreeMap::new(),
        }
    }

    /// Whether it has no pairs.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Reads an adapter file, or a folder of PEFT or mlx-lm, and checks that it fits `model`.
    ///
    /// # Errors
    /// If it cannot be read, is malformed, or was made for another base.
    pub fn open(path: &Path, model: &Model) -> crate::Result<Arc<Self>> {
        let adapter = if path.is_dir() {
            folder::read(path, model.llama().shape())?
        } else {
            gguf_file::read(path)?
        };
        adapter.check_base(model)?;
        Ok(Arc::new(adapter))
    }

    /// Refuses a base model that the adapter was not made for: by fingerprint if the adapter carries
    /// one, by shapes in any case.
    ///
    /// # Errors
    /// Names both models.
    pub fn check_base(&self, model: &Model) -> Result<(), AdapterError> {
        self.check_fingerprint(model)?;
        let sizes = |site: Site| match (model.sizes(site), model.vision()) {
            (None, None) if site.is_vision() => Err(format!(
                "it adapts {site} of the vision half, and the model was opened without one: give it (--mmproj)"
            )),
            (None, _) if site.is_vision() => Err(format!(
                "it adapts {site}, which the model's vision half does not have"
            )),
            (sizes, _) => sizes.ok_or_else(|| beyond(site, model.llama().shape())),
        };
        self.check_sizes(sizes)
            .map_err(|reason| self.does_not_fit(model, reason))
    }

    /// The same for the language model alone: what the adapter adds in a vision half is not looked at.
    ///
    /// # Errors
    /// As [`Adapter::check_base`].
    pub fn check_language(&self, model: &Model) -> Result<(), AdapterError> {
        self.check_fingerprint(model)?;
        self.check_shape(model.llama().shape())
            .map_err(|reason| self.does_not_fit(model, reason))
    }

    /// The same as far as the model goes: what the adapter adds in a vision half is looked at where the model has
    /// one. For everything but attaching it.
    ///
    /// # Errors
    /// As [`Adapter::check_base`].
    pub fn check_what_is_there(&self, model: &Model) -> Result<(), AdapterError> {
        match model.vision() {
            Some(_) => self.check_base(model),
            None => self.check_language(model),
        }
    }

    fn check_fingerprint(&self, model: &Model) -> Result<(), AdapterError> {
        if let Some(fingerprint) = &self.base.fingerprint
            && fingerprint != model.fingerprint()
        {
            return Err(AdapterError::OtherBase {
                adapter: self.name.clone(),
                made_for: self.base.called(),
                found: called(&model.name(), model.fingerprint()),
            });
        }
        Ok(())
    }

    fn does_not_fit(&self, model: &Model, reason: String) -> AdapterError {
        let made_for = self.base.name.clone();
        AdapterError::DoesNotFit {
            adapter: self.name.clone(),
            made_for: made_for.unwrap_or_else(|| "an unnamed model".into()),
            found: model.name(),
            reason,
        }
    }

    /// Refuses a language model that the pairs do not fit; those of a vision half are not looked at.
    fn check_shape(&self, shape: &LlamaShape) -> Result<(), String> {
        self.check_sizes(|site| match (site.is_vision(), self.pair(site)) {
            (true, Some(pair)) => Ok((pair.outputs(), pair.inputs())),
            _ => shape.sizes(site).ok_or_else(|| beyond(site, shape)),
        })
    }

    /// `sizes` says `(outputs, inputs)` of a site, or why there is none.
    fn check_sizes(
        &self,
        sizes: impl Fn(Site) -> Result<(usize, usize), String>,
    ) -> Result<(), String> {
        for (site, pair) in self.iter() {
            let (outputs, inputs) = sizes(site)?;
            if (pair.inputs(), pair.outputs()) != (inputs, outputs) {
                return Err(format!(
                    "{site} is {inputs} to {outputs} in the model, {} to {} in the adapter",
                    pair.inputs(),
                    pair.outputs()
                ));
            }
        }
        Ok(())
    }

    /// The adapter's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The model it was made for.
    pub fn base(&self) -> &BaseIdentity {
        &self.base
    }

    /// Alpha, as files state it.
    pub fn alpha(&self) -> f32 {
        self.alpha
    }

    /// The pair at a site.
    pub fn pair(&self, site: Site) -> Option<&LoraPair> {
        self.pairs.get(&site)
    }

    /// Changes the pair at a site in place.
    #[cfg(test)]
    pub(crate) fn pair_mut(&mut self, site: Site) -> Option<&mut LoraPair> {
        self.pairs.get_mut(&site)
    }

    /// All pairs, in the order of sites: bottom up, the vision half's last.
    pub fn iter(&self) -> impl Iterator<Item = (Site, &LoraPair)> {
        self.pairs.iter().map(|(&site, pair)| (site, pair))
    }

    /// All pairs in the same order, to change; for training.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (Site, &mut LoraPair)> {
        self.pairs.iter_mut().map(|(&site, pair)| (site, pair))
    }

    /// Whether it adds anything in the vision half.
    pub fn has_vision(&self) -> bool {
        // The vision half's sites come last.
        let last = self.pairs.last_key_value();
        last.is_some_and(|(site, _)| site.is_vision())
    }

    /// The name of its content. Reads every value, so keep the answer.
    pub fn generation(&self) -> Generation {
        Generation::of(self)
    }

    /// Bytes its values take in memory: of a file's values, the file's.
    pub fn bytes(&self) -> u64 {
        let bytes = self.iter().map(|(_, pair)| pair.a.bytes() + pair.b.bytes());
        bytes.sum::<usize>() as u64
    }

    /// Number of trained values.
    pub fn parameters(&self) -> usize {
        self.iter()
            .map(|(_, pair)| pair.a.len() + pair.b.len())
            .sum()
    }
}

impl AdapterView for Adapter {
    fn count(&self) -> usize {
        1
    }

    fn term(&self, _: usize, site: Site) -> Option<LoraRef<'_>> {
        self.pair(site).map(|pair| pair.term(1.0, Dropout::NONE))
    }

    fn max_rank(&self) -> usize {
        self.iter().map(|(_, pair)| pair.rank()).max().unwrap_or(0)
    }
}

//! What learns, and its gradients.

use graft_kernels::ops::dropout::Dropout;

use crate::Result;
use crate::adapter::{Adapter, LoraPair};
use crate::memory::{Arena, Floats, Hold, Part};
use crate::model::{
    AdapterView, GradientView, LoraGradient, LoraRef, PROJECTOR_TENSORS, ProjectorParameters, Site,
};

/// The parameters in training: an adapter and, if asked for, the whole projector.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameters {
    /// The low-rank pairs.
    pub adapter: Adapter,
    /// f32 copies of the projector.
    pub projector: Option<ProjectorParameters>,
}

/// Which learning rate an array follows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Group {
    /// The low-rank pairs.
    Adapter,
    /// The projector.
    Projector,
}

impl Parameters {
    /// Every array: its name in files, its group, its length. All walks are in this order.
    pub fn names(&self) -> Vec<(String, Group, usize)> {
        let pairs = self.adapter.iter().flat_map(|(site, pair)| {
            let name = |half| format!("{site}.weight.lora_{half}");
            [
                (name('a'), Group::Adapter, pair.a.len()),
                (name('b'), Group::Adapter, pair.b.len()),
            ]
        });
        let projector = self.projector.iter().flat_map(|p| {
            let named = PROJECTOR_TENSORS.iter().zip(&p.arrays);
            named.map(|(name, array)| ((*name).to_owned(), Group::Projector, array.len()))
        });
        pairs.chain(projector).collect()
    }

    /// Every array, to read.
    pub fn arrays(&self) -> Vec<&[f32]> {
        let pairs = self
            .adapter
            .iter()
            .flat_map(|(_, p)| [p.a.as_slice(), p.b.as_slice()]);
        let projector = self
            .projector
            .iter()
            .flat_map(|p| p.arrays.iter().map(Vec::as_slice));
        pairs.chain(projector).collect()
    }

    /// Every array, to change.
    pub fn arrays_mut(&mut self) -> Vec<&mut [f32]> {
        let pairs = self
            .adapter
            .iter_mut()
            .flat_map(|LoraPair { a, b, .. }| [a.as_mut_slice(), b.as_mut_slice()]);
        let projector = self.projector.iter_mut().flat_map(|p| p.arrays.iter_mut());
        pairs.chain(projector.map(Vec::as_mut_slice)).collect()
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.arrays().iter().map(|a| a.len()).sum()
    }

    /// Whether nothing learns.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Gradients of [`Parameters`], added up over an update.
#[derive(Debug)]
pub struct Gradients {
    pairs: Vec<Option<[Floats; 2]>>,
    /// Of the projector.
    pub projector: Option<ProjectorParameters>,
    _projector: Hold,
}

impl Gradients {
    /// Zeros.
    ///
    /// # Errors
    /// If the arena refuses.
    pub fn new(parameters: &Parameters, arena: &Arena) -> Result<Self> {
        let mut pairs = Vec::new();
        for (site, pair) in parameters.adapter.iter() {
            pairs.resize_with(pairs.len().max(site.index() + 1), || None);
            let lens = [pair.a.len(), pair.b.len()];
            pairs[site.index()] = Some(arena.arrays(Part::Gradients, lens)?);
        }
        let projector = parameters.projector.as_ref();
        let values = projector.map_or(0, ProjectorParameters::len);
        Ok(Self {
            pairs,
            _projector: arena.hold(Part::Gradients, values * size_of::<f32>())?,
            projector: projector.map(ProjectorParameters::zeros),
        })
    }

    /// Every array, in the order of [`Parameters::names`].
    pub fn arrays(&self) -> Vec<&[f32]> {
        let pairs = self.pairs.iter().flatten();
        let pairs = pairs.flat_map(|[a, b]| [&a[..], &b[..]]);
        let projector = self
            .projector
            .iter()
            .flat_map(|p| p.arrays.iter().map(Vec::as_slice));
        pairs.chain(projector).collect()
    }

    /// Back to zero.
    pub fn clear(&mut self) {
        for [a, b] in self.pairs.iter_mut().flatten() {
            a.fill(0.0);
            b.fill(0.0);
        }
        let projector = self.projector.iter_mut();
        projector.for_each(|p| p.arrays.iter_mut().for_each(|a| a.fill(0.0)));
    }
}

impl GradientView for Gradients {
    fn at(&mut self, site: Site) -> Option<LoraGradient<'_>> {
        let [da, db] = self.pairs.get_mut(site.index())?.as_mut()?;
        Some(LoraGradient { da, db })
    }
}

/// The adapter in training as the layers see it, with this micro-batch's dropout.
#[derive(Clone, Copy, Debug)]
pub struct Training<'a> {
    /// The pairs.
    pub adapter: &'a Adapter,
    /// Probability of an input being dropped.
    pub rate: f32,
    /// The run's seed.
    pub seed: u64,
    /// Counts the sequences of the run.
    pub sequence: u64,
}

impl AdapterView for Training<'_> {
    fn count(&self) -> usize {
        1
    }

    fn term(&self, _: usize, site: Site) -> Option<LoraRef<'_>> {
        let dropout = if self.rate == 0.0 {
            Dropout::NONE
        } else {
            Dropout {
                rate: self.rate,
                seed: self.seed,
                stream: (self.sequence << 16) | site.index() as u64,
                first: 0,
            }
        };
        self.adapter.pair(site).map(|pair| pair.term(1.0, dropout))
    }

    fn max_rank(&self) -> usize {
        self.adapter.max_rank()
    }
}

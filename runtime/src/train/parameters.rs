//! What learns, and its gradients.

use graft_kernels::ops::dropout::Dropout;

use super::GradientPlace;
use crate::Result;
use crate::adapter::{Adapter, LoraPair};
use crate::memory::{Arena, Floats, Hold, Part};
use crate::model::{
    AdapterView, GradientView, LoraGradient, LoraRef, PROJECTOR_TENSORS, ProjectorParameters, Site,
    SiteKind,
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
        let pairs = self.adapter.iter().flat_map(|(_, p)| [&p.a[..], &p.b[..]]);
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
            .flat_map(|(_, LoraPair { a, b, .. })| [&mut a[..], &mut b[..]]);
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
    pairs: Pairs,
    /// Of the projector.
    pub projector: Option<ProjectorParameters>,
    _projector: Hold,
}

/// Gradients of A and B.
#[derive(Debug)]
enum Pairs {
    /// Of every site.
    Whole(Vec<Option<[Floats; 2]>>),
    /// Of one layer at a time: buffers that are large enough for each kind of site, and the lengths at
    /// every site.
    Layer(Vec<[Floats; 2]>, Vec<Option<[usize; 2]>>),
}

impl Gradients {
    /// Zeros; `place` tells whether there is room for all layers or for one at a time.
    ///
    /// # Errors
    /// If the arena refuses.
    pub fn new(parameters: &Parameters, place: GradientPlace, arena: &Arena) -> Result<Self> {
        let mut lens = Vec::new();
        // The trainer takes adapters in layers only, whose sites have small numbers.
        let sites = parameters.adapter.iter();
        for (site, pair) in sites.filter(|(site, _)| site.in_layer().is_some()) {
            lens.resize(lens.len().max(site.index() + 1), None);
            lens[site.index()] = Some([pair.a.len(), pair.b.len()]);
        }
        let pairs = match place {
            GradientPlace::Whole => {
                let pair = |lens: &Option<[usize; 2]>| match lens {
                    Some(lens) => arena.arrays(Part::Gradients, *lens).map(Some),
                    None => Ok(None),
                };
                Pairs::Whole(lens.iter().map(pair).collect::<Result<_, _>>()?)
            }
            GradientPlace::Layer => {
                let mut most = [[0; 2]; SiteKind::ALL.len()];
                for (site, pair) in parameters.adapter.iter() {
                    if let Some((_, kind)) = site.in_layer() {
                        let [a, b] = &mut most[kind as usize];
                        (*a, *b) = ((*a).max(pair.a.len()), (*b).max(pair.b.len()));
                    }
                }
                let buffers = most.iter().map(|&lens| arena.arrays(Part::Gradients, lens));
                Pairs::Layer(buffers.collect::<Result<_, _>>()?, lens)
            }
        };
        let projector = parameters.projector.as_ref();
        let values = projector.map_or(0, ProjectorParameters::len);
        Ok(Self {
            pairs,
            _projector: arena.hold(Part::Gradients, values * size_of::<f32>())?,
            projector: projector.map(ProjectorParameters::zeros),
        })
    }

    /// Every array, in the order of [`Parameters::names`]; the projector's alone if those of the pairs
    /// are there for one layer at a time.
    pub fn arrays(&self) -> Vec<&[f32]> {
        let pairs: &[Option<[Floats; 2]>] = match &self.pairs {
            Pairs::Whole(pairs) => pairs,
            Pairs::Layer(..) => &[],
        };
        let pairs = pairs.iter().flatten().flat_map(|[a, b]| [&a[..], &b[..]]);
        let projector = self
            .projector
            .iter()
            .flat_map(|p| p.arrays.iter().map(Vec::as_slice));
        pairs.chain(projector).collect()
    }

    /// Back to zero.
    pub fn clear(&mut self) {
        match &mut self.pairs {
            Pairs::Whole(pairs) => pairs.iter_mut().flatten().flatten().for_each(zero),
            Pairs::Layer(buffers, _) => buffers.iter_mut().flatten().for_each(zero),
        }
        let projector = self.projector.iter_mut();
        projector.for_each(|p| p.arrays.iter_mut().for_each(|a| a.fill(0.0)));
    }
}

fn zero(values: &mut Floats) {
    values.fill(0.0);
}

impl GradientView for Gradients {
    fn at(&mut self, site: Site) -> Option<LoraGradient<'_>> {
        match &mut self.pairs {
            Pairs::Whole(pairs) => {
                let [da, db] = pairs.get_mut(site.index())?.as_mut()?;
                Some(LoraGradient { da, db })
            }
            Pairs::Layer(buffers, lens) => {
                let [a, b] = (*lens.get(site.index())?)?;
                let [da, db] = &mut buffers[site.in_layer()?.1 as usize];
                let (da, db) = (&mut da[..a], &mut db[..b]);
                Some(LoraGradient { da, db })
            }
        }
    }
}

/// Which inputs the pairs do not see while one sequence or pack goes through the model.
#[derive(Clone, Copy, Debug, Default)]
pub struct DropoutStream {
    /// Probability of an input being dropped.
    pub rate: f32,
    /// The run's seed.
    pub seed: u64,
    /// Counts the sequences of the run.
    pub sequence: u64,
}

impl DropoutStream {
    /// The adapter as the layers see it.
    pub fn view(self, adapter: &Adapter) -> Training<'_> {
        Training {
            adapter,
            stream: self,
        }
    }
}

/// The adapter in training as the layers see it, with this micro-batch's dropout.
#[derive(Clone, Copy, Debug)]
pub struct Training<'a> {
    adapter: &'a Adapter,
    stream: DropoutStream,
}

impl AdapterView for Training<'_> {
    fn count(&self) -> usize {
        1
    }

    fn term(&self, _: usize, site: Site) -> Option<LoraRef<'_>> {
        let DropoutStream {
            rate,
            seed,
            sequence,
        } = self.stream;
        let dropout = if rate == 0.0 {
            Dropout::NONE
        } else {
            Dropout {
                rate,
                seed,
                stream: (sequence << 16) | site.index() as u64,
                first: 0,
            }
        };
        self.adapter.pair(site).map(|pair| pair.term(1.0, dropout))
    }

    fn max_rank(&self) -> usize {
        self.adapter.max_rank()
    }
}

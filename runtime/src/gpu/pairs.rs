//! Adapters in a device's memory.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use graft_gpu::{Arena, Device, LoraLayer, Part, Recorder, Tensor};
use graft_kernels::Kernels;

use crate::Result;
use crate::model::{AdapterView, LlamaShape, LoraRef, RowSpan, Site};

/// `(outputs, inputs)` of the matrix at a site.
pub(super) type Sizes<'a> = dyn Fn(Site) -> Option<(usize, usize)> + 'a;

/// The pairs of one adapter at some sites.
#[derive(Debug)]
pub(super) struct Pairs(HashMap<Site, [Tensor; 2]>);

impl Pairs {
    /// Writes what `view` adds with adapter `n` at these sites, in memory of its own.
    ///
    /// # Errors
    /// If they do not fit the budget, or the device is lost.
    pub fn upload(
        device: &Device,
        view: &dyn AdapterView,
        n: usize,
        sites: impl Iterator<Item = Site>,
        sizes: &Sizes<'_>,
    ) -> Result<Self> {
        let sites = sites.filter_map(|site| Some((site, sizes(site)?)));
        let terms = sites.filter_map(|(site, sizes)| Some((site, sizes, view.term(n, site)?)));
        let terms: Vec<_> = terms.collect();
        let bytes = terms.iter().map(|(_, (outputs, inputs), term)| {
            device.tensor_bytes(term.rank, *inputs) + device.tensor_bytes(*outputs, term.rank)
        });
        let arena = device.arena_of(Part::Trained, bytes)?;
        let mut recorder = Recorder::new(device)?;
        let sites = terms.iter().map(|(site, ..)| *site);
        let pairs = Self::write(&mut recorder, &arena, view, n, sites, sizes)?;
        recorder.submit()?;
        Ok(pairs)
    }

    /// Cuts them from an arena and records that they are written.
    ///
    /// # Errors
    /// If they do not fit, or the device is lost.
    pub fn write(
        recorder: &mut Recorder,
        arena: &Arena,
        view: &dyn AdapterView,
        n: usize,
        sites: impl Iterator<Item = Site>,
        sizes: &Sizes<'_>,
    ) -> Result<Self> {
        let sites = sites.filter_map(|site| Some((site, sizes(site)?)));
        let terms = sites.filter_map(|(site, sizes)| Some((site, sizes, view.term(n, site)?)));
        let pairs =
            terms.map(|(site, sizes, term)| Ok((site, write(recorder, arena, &term, sizes)?)));
        Ok(Self(pairs.collect::<Result<_>>()?))
    }
}

/// Cuts and writes the two matrices of a term.
fn write(
    recorder: &mut Recorder,
    arena: &Arena,
    term: &LoraRef<'_>,
    (outputs, inputs): (usize, usize),
) -> Result<[Tensor; 2]> {
    let kernels = Kernels::detect();
    let mut room = Vec::new();
    let a = arena.tensor(term.rank, inputs)?;
    recorder.write(&a, term.a.floats(kernels, &mut room, term.rank * inputs))?;
    let b = arena.tensor(outputs, term.rank)?;
    recorder.write(&b, term.b.floats(kernels, &mut room, outputs * term.rank))?;
    Ok([a, b])
}

/// Adapters that sessions use now, each once; one that nobody holds any more leaves at the next look.
#[derive(Debug, Default)]
pub(super) struct PairStore(Mutex<HashMap<usize, Kept>>);

#[derive(Debug)]
struct Kept {
    /// As long as it is here, no other adapter has its address.
    owner: Weak<dyn Any + Send + Sync>,
    pairs: Arc<Pairs>,
}

/// What the adapters of a pass add, ready on the device.
pub(super) struct Resident<'a> {
    view: &'a dyn AdapterView,
    pairs: Vec<Arc<Pairs>>,
}

/// One term at a site.
#[derive(Clone, Debug)]
pub(super) struct DeviceTerm<'a> {
    /// A and B, and what they are multiplied with.
    pub layer: LoraLayer<'a>,
    pub rank: usize,
    pub rows: RowSpan,
}

impl PairStore {
    /// The adapters of a pass, written to the device where they are not there yet.
    ///
    /// # Errors
    /// As [`Pairs::upload`].
    pub fn resident<'a>(
        &self,
        device: &Device,
        view: &'a dyn AdapterView,
        sites: impl Fn() -> Vec<Site>,
        shape: &LlamaShape,
    ) -> Result<Resident<'a>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, kept| kept.owner.strong_count() > 0);
        let sizes = |site| shape.sizes(site);
        let upload = |n| Pairs::upload(device, view, n, sites().into_iter(), &sizes).map(Arc::new);
        let pairs = (0..view.count()).map(|n| {
            let Some(owner) = view.owner(n) else {
                return upload(n);
            };
            let address = Arc::as_ptr(&owner).cast::<()>() as usize;
            if let Some(found) = kept.get(&address) {
                return Ok(Arc::clone(&found.pairs));
            }
            let pairs = upload(n)?;
            let found = Kept {
                owner: Arc::downgrade(&owner),
                pairs: Arc::clone(&pairs),
            };
            kept.insert(address, found);
            Ok(pairs)
        });
        let pairs = pairs.collect::<Result<_>>()?;
        Ok(Resident { view, pairs })
    }
}

impl<'a> Resident<'a> {
    /// The pairs of each of a pass's adapters.
    pub fn new(view: &'a dyn AdapterView, pairs: Vec<Arc<Pairs>>) -> Self {
        Self { view, pairs }
    }

    /// All that is added at `site`.
    pub fn terms(&self, site: Site) -> impl Iterator<Item = DeviceTerm<'_>> {
        self.pairs.iter().enumerate().filter_map(move |(n, pairs)| {
            let [a, b] = pairs.0.get(&site)?;
            let term = self.view.term(n, site)?;
            Some(DeviceTerm {
                layer: LoraLayer {
                    a,
                    b,
                    scale: f64::from(term.scale),
                    dropout: term.dropout,
                },
                rank: term.rank,
                rows: term.rows,
            })
        })
    }
}

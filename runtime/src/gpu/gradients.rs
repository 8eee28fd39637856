//! A layer's gradients: sums on the device, and their way to the processor while the layer below is at work.

use std::collections::VecDeque;
use std::ops::Range;

use graft_gpu::{Arena, Device, Download, Recorder, Tensor};

use crate::Result;
use crate::model::{GradientView, LlamaShape, Site, SiteKind};

/// Sums of one layer, and what is on its way down of the layers above.
#[derive(Debug)]
pub(super) struct LayerGradients {
    /// Of all pairs, one behind the other: they come down as one.
    sums: Tensor,
    coming: VecDeque<Coming>,
    /// What was read back of a layer.
    read: Vec<f32>,
}

/// The gradients of one layer, on their way.
#[derive(Debug)]
struct Coming {
    layer: usize,
    places: Vec<Place>,
    floats: Floats,
}

/// Where the gradients of a site's pair are among a layer's: of A, then of B.
type Place = (Site, [Range<usize>; 2]);

#[derive(Debug)]
enum Floats {
    Under(Download),
    /// More than may be under way at once.
    Here(Vec<f32>),
}

/// A pair that learns: site, rank, `(outputs, inputs)`.
pub(super) type Learning = (Site, usize, (usize, usize));

impl LayerGradients {
    /// Bytes for pairs of up to this rank.
    pub fn bytes(device: &Device, shape: &LlamaShape, rank: usize) -> u64 {
        device.tensor_bytes(Self::floats(shape, rank), 1)
    }

    /// A run may train nothing in the layers; an array of none has no place in an arena of none.
    fn floats(shape: &LlamaShape, rank: usize) -> usize {
        let sizes = SiteKind::ALL.map(|kind| shape.linear(kind));
        let sizes = sizes.map(|(outputs, inputs)| outputs + inputs);
        rank.max(1) * sizes.iter().sum::<usize>()
    }

    /// Cuts them from an arena.
    ///
    /// # Errors
    /// If it has no room.
    pub fn cut(arena: &Arena, shape: &LlamaShape, rank: usize) -> Result<Self> {
        Ok(Self {
            sums: arena.tensor(Self::floats(shape, rank), 1)?,
            coming: VecDeque::new(),
            read: Vec::new(),
        })
    }

    /// Forgets what is under way, of a pass that did not come to its end.
    pub fn forget(&mut self) {
        self.coming.clear();
    }

    /// Zeros for a layer's pairs, by site; those that were there are overwritten.
    ///
    /// # Errors
    /// If they are more than was planned, or the device is lost.
    pub fn begin(
        &self,
        recorder: &mut Recorder,
        learning: &[Learning],
    ) -> Result<Vec<(Site, [Tensor; 2])>> {
        let mut end = 0;
        let mut cut = |rows: usize, width: usize| -> Result<Tensor> {
            let begin = end;
            end += rows * width;
            Ok(self.sums.slice(begin..end)?.reshape(rows, width)?)
        };
        let sums = learning.iter().map(|&(site, rank, (outputs, inputs))| {
            Ok((site, [cut(rank, inputs)?, cut(outputs, rank)?]))
        });
        let sums = sums.collect::<Result<Vec<_>>>()?;
        recorder.fill(&self.sums.slice(0..end)?, 0.0)?;
        Ok(sums)
    }

    /// Submits a layer's backward, and sends its gradients on their way.
    ///
    /// # Errors
    /// If the device is lost.
    pub fn submit(
        &mut self,
        mut recorder: Recorder,
        layer: usize,
        learning: &[Learning],
    ) -> Result<()> {
        let mut end = 0;
        let mut place = |len: usize| {
            let begin = end;
            end += len;
            begin..end
        };
        let places = learning.iter().map(|&(site, rank, (outputs, inputs))| {
            (site, [place(rank * inputs), place(outputs * rank)])
        });
        let places = places.collect();
        let sums = self.sums.slice(0..end)?;
        let device = recorder.device().clone();
        let floats = match end <= device.slot_floats() {
            true => {
                let download = recorder.read(&sums)?;
                recorder.submit()?;
                Floats::Under(download)
            }
            false => {
                recorder.submit()?;
                // The array of a layer that was added before.
                let mut floats = std::mem::take(&mut self.read);
                floats.resize(end, 0.0);
                device.read(&sums, &mut floats)?;
                Floats::Here(floats)
            }
        };
        self.coming.push_back(Coming {
            layer,
            places,
            floats,
        });
        Ok(())
    }

    /// Waits for the gradients of the highest layer of which they are under way, if they are of more than `ahead`
    /// layers, and adds them.
    ///
    /// # Errors
    /// If the device is lost.
    pub fn take(
        &mut self,
        ahead: usize,
        gradients: &mut dyn GradientView,
    ) -> Result<Option<usize>> {
        if self.coming.len() <= ahead {
            return Ok(None);
        }
        let Some(coming) = self.coming.pop_front() else {
            return Ok(None);
        };
        match coming.floats {
            Floats::Under(download) => {
                self.read.resize(download.len(), 0.0);
                download.wait(&mut self.read)?;
            }
            Floats::Here(floats) => self.read = floats,
        }
        for (site, places) in coming.places {
            let Some(gradient) = gradients.at(site) else {
                continue;
            };
            for (to, place) in [gradient.da, gradient.db].into_iter().zip(places) {
                let more = self.read[place].iter();
                to.iter_mut().zip(more).for_each(|(to, more)| *to += more);
            }
        }
        Ok(Some(coming.layer))
    }
}

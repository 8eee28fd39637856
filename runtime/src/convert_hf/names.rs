//! Tensor names: three generations of LLaVA checkpoints and plain language models, one spelling.
//!
//! ```text
//!             original                              until 4.51             in memory since 4.52
//! language    model.layers.N.                       language_model.model.  model.language_model.
//! head        lm_head.weight                        language_model.lm_head lm_head.weight
//! projector   model.mm_projector.                   multi_modal_projector. model.multi_modal_projector.
//! tower       model.vision_tower.vision_tower.      vision_tower.          model.vision_tower.
//!             (in each a further `vision_model.`, or none)
//! ```

use std::collections::BTreeMap;

use super::ConvertHfError;
use super::checkpoint::{Checkpoint, Source};

/// Parts of a checkpoint, in which names are unique.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Part {
    /// `embed_tokens`, `layers.N`, `norm`, `lm_head`.
    Language,
    /// `embeddings`, `pre_layrnorm`, `encoder.layers.N`, `post_layernorm`.
    Tower,
    /// `linear_1`, `linear_2`.
    Projector,
    /// What LLaVA-1.6 puts at the end of each row of patches.
    Newline,
}

/// Part and plain name; `None` for buffers that follow from the configuration.
fn plain(name: &str) -> Option<(Part, String)> {
    if name.ends_with("rotary_emb.inv_freq") || name.ends_with("embeddings.position_ids") {
        return None;
    }
    let inner = name.strip_prefix("model.").unwrap_or(name);
    if let Some(rest) = inner.strip_prefix("vision_tower.") {
        return Some((Part::Tower, tower_name(rest).to_owned()));
    }
    if let Some(rest) = inner.strip_prefix("multi_modal_projector.") {
        return Some((Part::Projector, rest.to_owned()));
    }
    if let Some(rest) = inner.strip_prefix("mm_projector.") {
        let rest = match rest.split_once('.') {
            Some(("0", leaf)) => format!("linear_1.{leaf}"),
            Some(("2", leaf)) => format!("linear_2.{leaf}"),
            _ => rest.to_owned(),
        };
        return Some((Part::Projector, rest));
    }
    if inner == "image_newline" {
        return Some((Part::Newline, inner.to_owned()));
    }
    let language = ["model.language_model.", "language_model.model.", "model."];
    let rest = language
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))
        .or_else(|| {
            name.strip_prefix("language_model.")
                .filter(|n| *n == "lm_head.weight")
        })
        .unwrap_or(name);
    Some((Part::Language, rest.to_owned()))
}

fn tower_name(rest: &str) -> &str {
    let rest = rest.strip_prefix("vision_tower.").unwrap_or(rest);
    rest.strip_prefix("vision_model.").unwrap_or(rest)
}

/// Parts of a whole CLIP model that no LLaVA uses.
const NOT_OF_THE_TOWER: [&str; 4] = [
    "text_model.",
    "text_projection.",
    "visual_projection.",
    "logit_scale",
];

/// The tensors of a checkpoint by part and plain name; each is taken at most once.
#[derive(Debug)]
pub(super) struct Tensors<'c> {
    checkpoint: &'c Checkpoint,
    left: BTreeMap<(Part, String), &'c str>,
}

impl<'c> Tensors<'c> {
    /// The tensors of a language model or a LLaVA.
    pub(super) fn of_model(checkpoint: &'c Checkpoint) -> Result<Self, ConvertHfError> {
        Self::new(checkpoint, plain)
    }

    /// The tensors of a CLIP model or a vision tower alone.
    pub(super) fn of_tower(checkpoint: &'c Checkpoint) -> Result<Self, ConvertHfError> {
        Self::new(checkpoint, |name| {
            let skipped = name.ends_with("embeddings.position_ids")
                || NOT_OF_THE_TOWER.iter().any(|p| name.starts_with(p));
            (!skipped).then(|| (Part::Tower, tower_name(name).to_owned()))
        })
    }

    fn new(
        checkpoint: &'c Checkpoint,
        plain: impl Fn(&str) -> Option<(Part, String)>,
    ) -> Result<Self, ConvertHfError> {
        let mut left = BTreeMap::new();
        for name in checkpoint.names() {
            let Some(key) = plain(name) else { continue };
            if let Some(first) = left.insert(key, name) {
                return Err(ConvertHfError::Twice {
                    first: first.to_owned(),
                    second: name.to_owned(),
                });
            }
        }
        Ok(Self { checkpoint, left })
    }

    /// Takes a tensor, which must have this shape (slowest axis first).
    pub(super) fn take(
        &mut self,
        part: Part,
        name: &str,
        shape: &[usize],
    ) -> Result<Source<'c>, ConvertHfError> {
        let Some(full) = self.left.remove(&(part, name.to_owned())) else {
            return Err(ConvertHfError::MissingTensor {
                tensor: match part {
                    Part::Language => name.to_owned(),
                    Part::Tower => format!("vision_tower.{name}"),
                    Part::Projector => format!("multi_modal_projector.{name}"),
                    Part::Newline => name.to_owned(),
                },
            });
        };
        let source = self.checkpoint.source(full)?;
        if source.shape != shape {
            return Err(ConvertHfError::TensorShape {
                tensor: full.to_owned(),
                expected: shape.to_vec(),
                found: source.shape.to_vec(),
            });
        }
        Ok(source)
    }

    pub(super) fn has(&self, part: Part, name: &str) -> bool {
        self.left.contains_key(&(part, name.to_owned()))
    }

    /// The shape of a tensor that was not taken yet.
    pub(super) fn shape(&self, part: Part, name: &str) -> Option<&'c [usize]> {
        let full = self.left.get(&(part, name.to_owned()))?;
        self.checkpoint.shape(full)
    }

    /// Leaves out the tensors of a part whose plain names satisfy `unneeded`; returns their number.
    pub(super) fn leave_out(&mut self, part: Part, unneeded: impl Fn(&str) -> bool) -> usize {
        let before = self.left.len();
        self.left
            .retain(|(p, name), _| *p != part || !unneeded(name));
        before - self.left.len()
    }

    /// Refuses whatever nobody took: no tensor is ever dropped silently.
    pub(super) fn finish(self) -> Result<(), ConvertHfError> {
        match self.left.into_iter().next() {
            None => Ok(()),
            Some(((Part::Language, name), full)) if name.ends_with(".bias") => {
                Err(ConvertHfError::Bias {
                    tensor: full.to_owned(),
                })
            }
            Some((_, full)) => Err(ConvertHfError::UnknownTensor {
                tensor: full.to_owned(),
            }),
        }
    }
}

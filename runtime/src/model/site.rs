//! Where an adapter can act, and what a linear layer sees of one.
//!
//! The adapters themselves live higher up; a layer only asks "what is added here?".

use std::fmt;
use std::ops::Range;

use graft_kernels::low_rank::LowRank;
use graft_kernels::ops::dropout::Dropout;

/// One of the seven linear layers of a transformer layer.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum SiteKind {
    /// Queries: W → H·D.
    Q,
    /// Keys: W → K·D.
    K,
    /// Values: W → K·D.
    V,
    /// Attention output: H·D → W.
    O,
    /// Gate of the feed-forward part: W → F.
    Gate,
    /// Its other factor: W → F.
    Up,
    /// Back to the model width: F → W.
    Down,
}

impl SiteKind {
    /// All kinds, in the order a layer uses them.
    pub const ALL: [Self; 7] = [
        Self::Q,
        Self::K,
        Self::V,
        Self::O,
        Self::Gate,
        Self::Up,
        Self::Down,
    ];

    /// The name in GGUF files, after `blk.<layer>.`.
    pub fn gguf_name(self) -> &'static str {
        match self {
            Self::Q => "attn_q",
            Self::K => "attn_k",
            Self::V => "attn_v",
            Self::O => "attn_output",
            Self::Gate => "ffn_gate",
            Self::Up => "ffn_up",
            Self::Down => "ffn_down",
        }
    }

    /// The name in Hugging Face checkpoints and PEFT configurations.
    pub fn hf_name(self) -> &'static str {
        match self {
            Self::Q => "q_proj",
            Self::K => "k_proj",
            Self::V => "v_proj",
            Self::O => "o_proj",
            Self::Gate => "gate_proj",
            Self::Up => "up_proj",
            Self::Down => "down_proj",
        }
    }
}

/// A linear layer that can be adapted.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Site {
    /// Transformer layer, from 0.
    pub layer: usize,
    /// Which of its linear layers.
    pub linear: SiteKind,
}

impl Site {
    /// Every site of a model with `layers` layers, bottom up.
    pub fn all(layers: usize) -> impl Iterator<Item = Self> {
        (0..layers).flat_map(|layer| {
            SiteKind::ALL
                .into_iter()
                .map(move |linear| Self { layer, linear })
        })
    }

    /// The name in Hugging Face checkpoints, such as `model.layers.3.self_attn.q_proj`.
    pub fn hf_path(self) -> String {
        let part = match self.linear {
            SiteKind::Q | SiteKind::K | SiteKind::V | SiteKind::O => "self_attn",
            SiteKind::Gate | SiteKind::Up | SiteKind::Down => "mlp",
        };
        format!(
            "model.layers.{}.{part}.{}",
            self.layer,
            self.linear.hf_name()
        )
    }

    /// Reads what follows the list of layers in [`Site::hf_path`], such as `3.self_attn.q_proj`.
    pub fn parse_hf(path: &str) -> Option<Self> {
        let (layer, rest) = path.split_once('.')?;
        let name = rest.rsplit('.').next()?;
        let linear = SiteKind::ALL.into_iter().find(|k| k.hf_name() == name)?;
        let layer = layer.parse().ok()?;
        let site = Self { layer, linear };
        (site.hf_path().strip_prefix("model.layers.") == Some(path)).then_some(site)
    }

    /// Position in [`Site::all`]: dense tables are indexed by it.
    pub fn index(self) -> usize {
        self.layer * SiteKind::ALL.len() + self.linear as usize
    }

    /// Reads what [`fmt::Display`] writes, such as `blk.3.attn_q`.
    pub fn parse(name: &str) -> Option<Self> {
        let (layer, kind) = name.strip_prefix("blk.")?.split_once('.')?;
        let linear = SiteKind::ALL.into_iter().find(|k| k.gguf_name() == kind)?;
        let layer = layer.parse().ok()?;
        let site = Self { layer, linear };
        (site.to_string() == name).then_some(site) // "blk.+1." and "blk.01." are not names
    }
}

/// The GGUF tensor name without `.weight`.
impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blk.{}.{}", self.layer, self.linear.gguf_name())
    }
}

/// Some rows of a pass, one behind the other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RowSpan {
    /// Rows before it.
    pub first: usize,
    /// Rows in it, as far as the pass has them.
    pub count: usize,
}

impl RowSpan {
    /// All rows of any pass.
    pub const ALL: Self = Self {
        first: 0,
        count: usize::MAX,
    };

    /// Which of a pass's `tokens` rows these are.
    pub fn within(self, tokens: usize) -> Range<usize> {
        let first = self.first.min(tokens);
        first..first + self.count.min(tokens - first)
    }
}

/// What one adapter adds at one site: `y += scale * B (A dropout(x))`.
#[derive(Clone, Copy, Debug)]
pub struct LoraRef<'a> {
    /// `[R, inputs]`.
    pub a: LowRank<'a>,
    /// `[outputs, R]`.
    pub b: LowRank<'a>,
    /// R.
    pub rank: usize,
    /// `alpha / rank` times the strength the adapter is attached with.
    pub scale: f32,
    /// Which inputs the term does not see: [`Dropout::NONE`] except while training. Its stream
    /// must tell sites and micro-batches apart.
    pub dropout: Dropout,
    /// The rows it is added to: [`RowSpan::ALL`] except where sequences with different adapters share a pass.
    pub rows: RowSpan,
}

/// The adapters attached to a pass, as the layers see them.
pub trait AdapterView: Sync {
    /// Number of adapters.
    fn count(&self) -> usize;
    /// What adapter `n < count()` adds at `site`, if anything.
    fn term(&self, n: usize, site: Site) -> Option<LoraRef<'_>>;
    /// Largest rank of any term: sizes the scratch.
    fn max_rank(&self) -> usize;
}

impl<'s> dyn AdapterView + 's {
    /// All that is added at `site`.
    pub fn terms(&self, site: Site) -> impl Iterator<Item = LoraRef<'_>> {
        (0..self.count()).filter_map(move |n| self.term(n, site))
    }
}

/// No adapters: the base model alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unadapted;

impl AdapterView for Unadapted {
    fn count(&self) -> usize {
        0
    }
    fn term(&self, _: usize, _: Site) -> Option<LoraRef<'_>> {
        None
    }
    fn max_rank(&self) -> usize {
        0
    }
}

/// Gradients of one low-rank term; backward adds to them.
#[derive(Debug)]
pub struct LoraGradient<'a> {
    /// `[R, inputs]`.
    pub da: &'a mut [f32],
    /// `[outputs, R]`.
    pub db: &'a mut [f32],
}

/// Where backward puts the gradients of the adapter in training, which is the first
/// (`n = 0`) of the pass's [`AdapterView`].
pub trait GradientView {
    /// The arrays of `site`, or `None` if nothing is trained there.
    fn at(&mut self, site: Site) -> Option<LoraGradient<'_>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for (i, site) in Site::all(12).enumerate() {
            assert_eq!(Site::parse(&site.to_string()), Some(site));
            assert_eq!(site.index(), i);
            let path = site.hf_path();
            let path = path.strip_prefix("model.layers.").unwrap();
            assert_eq!(Site::parse_hf(path), Some(site));
        }
        for name in [
            "blk.+1.attn_q",
            "blk.01.attn_q",
            "blk.1.attn_norm",
            "output",
        ] {
            assert_eq!(Site::parse(name), None);
        }
        for path in [
            "01.mlp.up_proj",
            "1.self_attn.up_proj",
            "1.up_proj",
            "q_proj",
        ] {
            assert_eq!(Site::parse_hf(path), None);
        }
    }
}

//! Where an adapter can act, and what a linear layer sees of one.
//!
//! The adapters themselves live higher up; a layer only asks "what is added here?".

use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

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

/// One of the six linear layers of a block of the vision tower.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum TowerKind {
    /// Queries.
    Q,
    /// Keys.
    K,
    /// Values.
    V,
    /// Attention output.
    O,
    /// First of the feed-forward part: to its width.
    Up,
    /// Second: back to the tower's width.
    Down,
}

impl TowerKind {
    /// All kinds, in the order a block uses them.
    pub const ALL: [Self; 6] = [Self::Q, Self::K, Self::V, Self::O, Self::Up, Self::Down];

    /// The name in mmproj files, after `v.blk.<block>.`. Files of the first converters have the last two
    /// names the other way round ([`super::Vision::site_of`]); adapters never do.
    pub fn gguf_name(self) -> &'static str {
        match self {
            Self::Q => "attn_q",
            Self::K => "attn_k",
            Self::V => "attn_v",
            Self::O => "attn_out",
            Self::Up => "ffn_up",
            Self::Down => "ffn_down",
        }
    }

    /// The name in Hugging Face checkpoints, after the block's number.
    pub fn hf_name(self) -> &'static str {
        match self {
            Self::Q => "self_attn.q_proj",
            Self::K => "self_attn.k_proj",
            Self::V => "self_attn.v_proj",
            Self::O => "self_attn.out_proj",
            Self::Up => "mlp.fc1",
            Self::Down => "mlp.fc2",
        }
    }
}

/// One of the two linear layers of the projector.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ProjectorKind {
    /// Features to the model's width.
    First,
    /// Between two of the model's width.
    Second,
}

impl ProjectorKind {
    /// Both, in order.
    pub const ALL: [Self; 2] = [Self::First, Self::Second];

    /// The name in mmproj files.
    pub fn gguf_name(self) -> &'static str {
        match self {
            Self::First => "mm.0",
            Self::Second => "mm.2",
        }
    }

    /// The name in Hugging Face checkpoints, after the projector's.
    pub fn hf_name(self) -> &'static str {
        match self {
            Self::First => "linear_1",
            Self::Second => "linear_2",
        }
    }
}

/// A matrix that can be adapted. The order is that of the language model bottom up, then the vision half's.
///
/// A pair at a site changes the matrix as the file stores it, `[outputs, inputs]`: of the embedding, which is
/// looked up and not multiplied, the outputs are the vocabulary and the inputs the model's width.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Site {
    /// The token embeddings.
    Embedding,
    /// A linear layer of a transformer layer.
    Layer {
        /// Transformer layer, from 0.
        layer: usize,
        /// Which of its linear layers.
        linear: SiteKind,
    },
    /// The output matrix, after the final norm.
    Output,
    /// A linear layer of the vision tower.
    Tower {
        /// Block, from 0.
        block: usize,
        /// Which of its linear layers.
        linear: TowerKind,
    },
    /// A linear layer of the projector.
    Projector(ProjectorKind),
}

impl Site {
    /// Every site in the layers of a model with `layers` of them, bottom up.
    pub fn of_layers(layers: usize) -> impl Iterator<Item = Self> {
        (0..layers).flat_map(|layer| {
            SiteKind::ALL
                .into_iter()
                .map(move |linear| Self::Layer { layer, linear })
        })
    }

    /// Every site of a vision half whose tower has `blocks` blocks.
    pub fn of_vision(blocks: usize) -> impl Iterator<Item = Self> {
        let tower = (0..blocks).flat_map(|block| {
            TowerKind::ALL
                .into_iter()
                .map(move |linear| Self::Tower { block, linear })
        });
        tower.chain(ProjectorKind::ALL.into_iter().map(Self::Projector))
    }

    /// Layer and kind of a site inside a transformer layer.
    pub fn in_layer(self) -> Option<(usize, SiteKind)> {
        match self {
            Self::Layer { layer, linear } => Some((layer, linear)),
            _ => None,
        }
    }

    /// Whether it is in the vision half: what is added there changes image features and nothing else.
    pub fn is_vision(self) -> bool {
        matches!(self, Self::Tower { .. } | Self::Projector(_))
    }

    /// A name in Hugging Face checkpoints, such as `model.layers.3.self_attn.q_proj`; where classes differ, that
    /// of `LlamaForCausalLM` or a part of it without what stands before.
    pub fn hf_path(self) -> String {
        match self {
            Self::Embedding => "model.embed_tokens".into(),
            Self::Layer { layer, linear } => {
                let part = match linear {
                    SiteKind::Q | SiteKind::K | SiteKind::V | SiteKind::O => "self_attn",
                    SiteKind::Gate | SiteKind::Up | SiteKind::Down => "mlp",
                };
                format!("model.layers.{layer}.{part}.{}", linear.hf_name())
            }
            Self::Output => "lm_head".into(),
            Self::Tower { block, linear } => {
                format!("vision_tower.encoder.layers.{block}.{}", linear.hf_name())
            }
            Self::Projector(linear) => format!("multi_modal_projector.{}", linear.hf_name()),
        }
    }

    /// Reads what follows the list of layers in [`Site::hf_path`], such as `3.self_attn.q_proj`.
    pub fn parse_hf(path: &str) -> Option<Self> {
        let (layer, rest) = path.split_once('.')?;
        let name = rest.rsplit('.').next()?;
        let linear = SiteKind::ALL.into_iter().find(|k| k.hf_name() == name)?;
        let layer = layer.parse().ok()?;
        let site = Self::Layer { layer, linear };
        (site.hf_path().strip_prefix("model.layers.") == Some(path)).then_some(site)
    }

    /// Reads what follows the list of blocks of a vision tower, such as `3.mlp.fc1`.
    pub fn parse_hf_block(path: &str) -> Option<Self> {
        let (number, name) = path.split_once('.')?;
        let linear = TowerKind::ALL.into_iter().find(|k| k.hf_name() == name)?;
        let block = number.parse().ok()?;
        let exact = format!("{block}") == number; // "+1" and "01" are not numbers of blocks
        exact.then_some(Self::Tower { block, linear })
    }

    /// A number that no other site has. Those inside layers count from 0 in the order of [`Site::of_layers`]:
    /// dense tables of them are indexed by it. All others lie far above.
    pub fn index(self) -> usize {
        const OTHERS: usize = 1 << 30;
        match self {
            Self::Layer { layer, linear } => layer * SiteKind::ALL.len() + linear as usize,
            Self::Embedding => OTHERS,
            Self::Output => OTHERS + 1,
            Self::Projector(linear) => OTHERS + 2 + linear as usize,
            Self::Tower { block, linear } => {
                OTHERS + 4 + block * TowerKind::ALL.len() + linear as usize
            }
        }
    }

    /// Reads what [`fmt::Display`] writes, such as `blk.3.attn_q`.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "token_embd" => return Some(Self::Embedding),
            "output" => return Some(Self::Output),
            _ => {}
        }
        if let Some(linear) = ProjectorKind::ALL
            .into_iter()
            .find(|k| k.gguf_name() == name)
        {
            return Some(Self::Projector(linear));
        }
        let site = if let Some(rest) = name.strip_prefix("v.blk.") {
            let (block, kind) = rest.split_once('.')?;
            let linear = TowerKind::ALL.into_iter().find(|k| k.gguf_name() == kind)?;
            let block = block.parse().ok()?;
            Self::Tower { block, linear }
        } else {
            let (layer, kind) = name.strip_prefix("blk.")?.split_once('.')?;
            let linear = SiteKind::ALL.into_iter().find(|k| k.gguf_name() == kind)?;
            let layer = layer.parse().ok()?;
            Self::Layer { layer, linear }
        };
        (site.to_string() == name).then_some(site) // "blk.+1." and "blk.01." are not names
    }
}

/// The GGUF tensor name without `.weight`.
impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedding => f.write_str("token_embd"),
            Self::Layer { layer, linear } => write!(f, "blk.{layer}.{}", linear.gguf_name()),
            Self::Output => f.write_str("output"),
            Self::Tower { block, linear } => write!(f, "v.blk.{block}.{}", linear.gguf_name()),
            Self::Projector(linear) => f.write_str(linear.gguf_name()),
        }
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
    /// What adapter `n` belongs to, if its pairs never change while that lives: they may be copied once then.
    fn owner(&self, _n: usize) -> Option<Arc<dyn Any + Send + Sync>> {
        None
    }
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
        for (i, site) in Site::of_layers(12).enumerate() {
            assert_eq!(Site::parse(&site.to_string()), Some(site));
            assert_eq!(site.index(), i);
            let path = site.hf_path();
            let path = path.strip_prefix("model.layers.").unwrap();
            assert_eq!(Site::parse_hf(path), Some(site));
        }
        for site in Site::of_vision(12).chain([Site::Embedding, Site::Output]) {
            assert_eq!(Site::parse(&site.to_string()), Some(site));
            if let Site::Tower { .. } = site {
                let path = site.hf_path();
                let path = path.strip_prefix("vision_tower.encoder.layers.").unwrap();
                assert_eq!(Site::parse_hf_block(path), Some(site));
            }
        }
        for name in [
            "blk.+1.attn_q",
            "blk.01.attn_q",
            "blk.1.attn_norm",
            "output_norm",
            "v.blk.01.attn_q",
            "v.blk.1.attn_output",
            "v.patch_embd",
            "mm.1",
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
        for path in ["01.mlp.fc1", "+1.mlp.fc1", "1.fc1", "1.self_attn.o_proj"] {
            assert_eq!(Site::parse_hf_block(path), None);
        }
    }

    #[test]
    fn every_site_has_a_number_of_its_own_and_the_vision_half_comes_last() {
        let mut sites: Vec<Site> = Site::of_vision(3).chain(Site::of_layers(3)).collect();
        sites.extend([Site::Output, Site::Embedding]);
        sites.sort_unstable();
        let first = sites.iter().position(|site| site.is_vision()).unwrap();
        assert!(sites[first..].iter().all(|site| site.is_vision()));
        let mut numbers: Vec<usize> = sites.iter().map(|site| site.index()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), sites.len());
    }
}

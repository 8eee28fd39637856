//! Which type each tensor of a file gets: the mixes of llama.cpp, by their names.
//!
//! A mix gives most matrices one type and the few that matter more (output, values, the end of the
//! feed-forward part in some layers) one with more bits. What is small or not a matrix keeps its
//! type. Source: `llama_tensor_get_type_impl` in llama.cpp's `llama-quant.cpp`, without importance
//! matrices and experts; the tests hold a list of what it chose.

use std::fmt;
use std::str::FromStr;

use graft_kernels::QuantType;

use super::QuantizeError;
use crate::Result;
use crate::gguf::{Metadata, TensorInfo};

/// How a whole file is stored.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[allow(missing_docs)] // the names are llama.cpp's own
pub enum Mix {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3KS,
    Q3KM,
    Q3KL,
    Q4KS,
    Q4KM,
    Q5KS,
    Q5KM,
    Q6K,
    IQ4NL,
}

impl Mix {
    /// Every mix, smallest files last.
    pub const ALL: [Self; 18] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q8_0,
        Self::Q6K,
        Self::Q5KM,
        Self::Q5KS,
        Self::Q5_1,
        Self::Q5_0,
        Self::Q4KM,
        Self::Q4KS,
        Self::Q4_1,
        Self::Q4_0,
        Self::IQ4NL,
        Self::Q3KL,
        Self::Q3KM,
        Self::Q3KS,
        Self::Q2K,
    ];

    /// The name, such as `Q4_K_M`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q2K => "Q2_K",
            Self::Q3KS => "Q3_K_S",
            Self::Q3KM => "Q3_K_M",
            Self::Q3KL => "Q3_K_L",
            Self::Q4KS => "Q4_K_S",
            Self::Q4KM => "Q4_K_M",
            Self::Q5KS => "Q5_K_S",
            Self::Q5KM => "Q5_K_M",
            Self::Q6K => "Q6_K",
            Self::IQ4NL => "IQ4_NL",
        }
    }

    /// The value of `general.file_type` for such a file.
    pub fn file_type(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q8_0 => 7,
            Self::Q5_0 => 8,
            Self::Q5_1 => 9,
            Self::Q2K => 10,
            Self::Q3KS => 11,
            Self::Q3KM => 12,
            Self::Q3KL => 13,
            Self::Q4KS => 14,
            Self::Q4KM => 15,
            Self::Q5KS => 16,
            Self::Q5KM => 17,
            Self::Q6K => 18,
            Self::IQ4NL => 25,
            Self::BF16 => 32,
        }
    }

    /// The type of most matrices.
    pub fn most(self) -> QuantType {
        match self {
            Self::F32 => QuantType::F32,
            Self::F16 => QuantType::F16,
            Self::BF16 => QuantType::BF16,
            Self::Q4_0 => QuantType::Q4_0,
            Self::Q4_1 => QuantType::Q4_1,
            Self::Q5_0 => QuantType::Q5_0,
            Self::Q5_1 => QuantType::Q5_1,
            Self::Q8_0 => QuantType::Q8_0,
            Self::Q2K => QuantType::Q2K,
            Self::Q3KS | Self::Q3KM | Self::Q3KL => QuantType::Q3K,
            Self::Q4KS | Self::Q4KM => QuantType::Q4K,
            Self::Q5KS | Self::Q5KM => QuantType::Q5K,
            Self::Q6K => QuantType::Q6K,
            Self::IQ4NL => QuantType::IQ4NL,
        }
    }

    /// The type of every tensor of a file with this metadata and directory, in its order.
    ///
    /// # Errors
    /// If the file is neither a llama model nor a vision file, or a size in it is malformed.
    pub fn types(self, metadata: &Metadata, tensors: &[TensorInfo]) -> Result<Vec<QuantType>> {
        let model = ModelFacts::read(metadata, tensors)?;
        let chosen = tensors.iter().map(|info| {
            if !is_converted(info) {
                return info.quant_type;
            }
            let wanted = match self {
                Self::F32 | Self::F16 | Self::BF16 => self.most(),
                _ if model.vision => self.of_vision(&info.name),
                _ => self.of_llama(info, &model),
            };
            fitting(wanted, info.shape[0])
        });
        Ok(chosen.collect())
    }

    fn of_llama(self, info: &TensorInfo, model: &ModelFacts) -> QuantType {
        use QuantType as Q;
        let most = self.most();
        let name = info.name.as_str();
        if name == "output.weight" || (model.tied && name == "token_embd.weight") {
            return match most {
                _ if !info.shape[0].is_multiple_of(most.block_len()) => Q::Q8_0,
                Q::Q8_0 => Q::Q8_0,
                _ => Q::Q6K,
            };
        }
        let last = name.trim_end_matches(".weight");
        let last = last.rsplit('.').next().unwrap_or(last);
        match last {
            "attn_v" => {
                let (nth, of) = (model.nth(name, ".attn_v.weight"), model.values);
                let chosen = match self {
                    Self::Q2K if model.sharing >= 4 => Q::Q4K,
                    Self::Q2K => Q::Q3K,
                    Self::Q3KM if nth < 2 => Q::Q5K,
                    Self::Q3KM => Q::Q4K,
                    Self::Q3KL => Q::Q5K,
                    Self::IQ4NL if model.sharing >= 4 => Q::Q5K,
                    Self::Q4KM | Self::Q5KM if more_bits(nth, of) => Q::Q6K,
                    Self::Q4KS if nth < 4 => Q::Q5K,
                    _ => most,
                };
                match chosen {
                    // Its values are an eighth of the queries' size: more bits cost little.
                    Q::Q3K | Q::Q4K if model.is_70b => Q::Q5K,
                    chosen => chosen,
                }
            }
            "ffn_down" => {
                let (nth, of) = (model.nth(name, ".ffn_down.weight"), model.layers);
                match self {
                    Self::Q2K => Q::Q3K,
                    Self::Q3KM if nth < of / 16 => Q::Q5K,
                    Self::Q3KM => Q::Q4K,
                    Self::Q3KL => Q::Q5K,
                    Self::Q4KM | Self::Q5KM if more_bits(nth, of) => Q::Q6K,
                    Self::Q4KS | Self::IQ4NL if nth < of / 8 => Q::Q5K,
                    _ => most,
                }
            }
            "attn_output" => match self {
                Self::Q2K => Q::Q3K,
                Self::Q3KM => Q::Q4K,
                Self::Q3KL => Q::Q5K,
                _ => most,
            },
            _ => most,
        }
    }

    /// Vision files: the tower in the mix's type. The projector is small and stands between every
    /// patch and the model, so it keeps eight bits or more.
    fn of_vision(self, name: &str) -> QuantType {
        if name.starts_with("mm.") {
            return QuantType::Q8_0;
        }
        self.most()
    }
}

/// The first and last eighth of the layers and every third between.
fn more_bits(layer: usize, layers: usize) -> bool {
    let eighth = layers / 8;
    layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2
}

/// Matrices named `….weight` are converted, except norms and what a vision tower adds to its input.
fn is_converted(info: &TensorInfo) -> bool {
    let matrix = info.shape[1..].iter().any(|&n| n > 1);
    let kept = ["_norm.weight", ".position_embd", ".patch_embd"];
    matrix && info.name.ends_with("weight") && !kept.iter().any(|part| info.name.contains(part))
}

/// `wanted`, or a type of about its precision whose blocks fill rows of `width` weights.
fn fitting(wanted: QuantType, width: usize) -> QuantType {
    use QuantType as Q;
    let fits = |ty: Q| width.is_multiple_of(ty.block_len());
    if fits(wanted) {
        return wanted;
    }
    let smaller = match wanted {
        Q::Q2K | Q::Q3K => Q::Q4_0,
        Q::Q4K => Q::Q5_0,
        Q::Q5K => Q::Q5_1,
        Q::Q6K => Q::Q8_0,
        Q::IQ4XS => Q::IQ4NL,
        _ => Q::F16,
    };
    if fits(smaller) { smaller } else { Q::F16 }
}

/// What the rules ask about a file.
struct ModelFacts {
    vision: bool,
    /// Whether the token embedding is the output matrix as well.
    tied: bool,
    layers: usize,
    /// Number of value matrices.
    values: usize,
    /// Query heads per key/value head.
    sharing: u32,
    is_70b: bool,
    /// Layer numbers of each kind that is counted, ascending.
    present: Vec<(&'static str, Vec<usize>)>,
}

impl ModelFacts {
    fn read(metadata: &Metadata, tensors: &[TensorInfo]) -> Result<Self> {
        if metadata.opt_str("general.type")? == Some("adapter") {
            return Err(QuantizeError::IsAdapter.into());
        }
        let architecture = metadata.str("general.architecture")?;
        let vision = architecture == "clip";
        if !vision && architecture != "llama" {
            let found = architecture.to_owned();
            return Err(QuantizeError::Architecture { found }.into());
        }
        let experts = metadata.opt_u32("llama.expert_count")?.unwrap_or(0);
        if experts > 0 {
            return Err(QuantizeError::Experts { experts }.into());
        }
        let present = [".attn_v.weight", ".ffn_down.weight"].map(|ending| {
            let names = tensors.iter().map(|info| info.name.as_str());
            let mut layers: Vec<usize> = names.filter_map(|name| layer_of(name, ending)).collect();
            layers.sort_unstable();
            (ending, layers)
        });
        let (layers, heads, kv_heads) = if vision {
            (0, 1, 1)
        } else {
            let heads = metadata.u32("llama.attention.head_count")?;
            let kv_heads = metadata.opt_u32("llama.attention.head_count_kv")?;
            let layers = metadata.u32("llama.block_count")? as usize;
            (layers, heads, kv_heads.unwrap_or(heads).max(1))
        };
        Ok(Self {
            vision,
            tied: tensors.iter().all(|info| info.name != "output.weight"),
            layers,
            values: present[0].1.len(),
            sharing: heads / kv_heads,
            is_70b: layers == 80 && heads != kv_heads,
            present: present.into(),
        })
    }

    /// Position of a tensor among those with this ending, by layer.
    fn nth(&self, name: &str, ending: &str) -> usize {
        let layers = self.present.iter().find(|(e, _)| *e == ending);
        let place = layers
            .zip(layer_of(name, ending))
            .map(|((_, layers), layer)| layers.partition_point(|&l| l < layer));
        place.unwrap_or(0)
    }
}

fn layer_of(name: &str, ending: &str) -> Option<usize> {
    name.strip_prefix("blk.")?
        .strip_suffix(ending)?
        .parse()
        .ok()
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Reads names in any case; `Q3_K`, `Q4_K` and `Q5_K` mean the middle (`_M`) of their mixes.
impl FromStr for Mix {
    type Err = QuantizeError;

    fn from_str(name: &str) -> Result<Self, QuantizeError> {
        let upper = name.to_ascii_uppercase();
        let wanted = match upper.as_str() {
            "Q3_K" | "Q4_K" | "Q5_K" => format!("{upper}_M"),
            _ => upper,
        };
        Self::ALL
            .into_iter()
            .find(|mix| mix.name() == wanted)
            .ok_or_else(|| QuantizeError::UnknownMix {
                name: name.to_owned(),
                known: Self::ALL.map(Self::name).join(", "),
            })
    }
}

//! Adapters as GGUF files: llama.cpp's LoRA format, in and out.
//!
//! ```text
//! general.type "adapter"   general.architecture "llama"   adapter.type "lora"   adapter.lora.alpha f32
//! <matrix>.weight.lora_a   [inputs, R]     (fastest axis first)
//! <matrix>.weight.lora_b   [R, outputs]
//! ```
//! where `<matrix>` is `blk.N.<linear>` or `output`. R is taken from each pair; the factor is `alpha / R`, or 1
//! where alpha is 0. The embedding's pair is stored for looking up: `token_embd.weight.lora_a` is `[R, V]` and
//! `lora_b` is `[R, W]`, which are B and A transposed of the pair of the matrix `[V, W]` ([`Site`]). graft adds
//! `graft.base.fingerprint` and `graft.base.name`, which other readers ignore.
//!
//! Pairs in the vision half go into a file beside it ([`companion`]), which is written and read together with
//! this one.
//!
//! A projector that was trained as a whole is in neither: it goes into an mmproj file of its own beside the
//! adapter ([`crate::model::Vision::write_with_projector`]), which every runtime reads.

use std::path::Path;
use std::sync::Arc;

use graft_kernels::QuantType;
use half::{bf16, f16};

use super::companion::{self, CLIP, DIGEST};
use super::generation::PairDigest;
use super::pair::transposed;
use super::{Adapter, AdapterError, BaseIdentity, LoraPair, Values};
use crate::gguf::{Gguf, Metadata, TensorDeclaration, TensorInfo, Value, Writer};
use crate::model::Site;

const LLAMA: &str = "llama";
const ALPHA: &str = "adapter.lora.alpha";
const FINGERPRINT: &str = "graft.base.fingerprint";
const BASE_NAME: &str = "graft.base.name";
const A: &str = ".weight.lora_a";
const B: &str = ".weight.lora_b";

/// Reads an adapter file, and its companion if it has one.
///
/// # Errors
/// If one cannot be read, is no LoRA adapter for a llama model, or any tensor in it is unpaired, of
/// unfitting shape, not finite, or at a place graft does not adapt; if the companion is missing or not this
/// file's.
pub fn read(path: &Path) -> Result<Adapter, AdapterError> {
    let name = path
        .file_stem()
        .map_or_else(String::new, |s| s.to_string_lossy().into_owned());
    from_gguf(&Arc::new(Gguf::open(path)?), &name, path)
}

/// The adapter in an open file that lies at `path`, beside which its companion is looked for; `name` is its
/// name where the file has none.
///
/// # Errors
/// As [`read`].
pub fn from_gguf(gguf: &Arc<Gguf>, name: &str, path: &Path) -> Result<Adapter, AdapterError> {
    check_first(gguf.metadata(), path)?;
    let companion = companion::open(path, gguf.metadata())?;
    from_both(gguf, companion.as_ref(), name, path)
}

/// The adapter in files that are open already and lie nowhere: the one with the rest, and its companion if it has
/// one. `name` is its name where the file has none, and what messages call it.
///
/// # Errors
/// As [`read`].
pub fn from_parts(
    gguf: &Arc<Gguf>,
    companion: Option<&Arc<Gguf>>,
    name: &str,
) -> Result<Adapter, AdapterError> {
    let path = Path::new(name);
    check_first(gguf.metadata(), path)?;
    companion::check(gguf.metadata(), companion.map(|gguf| gguf.metadata()), path)?;
    from_both(gguf, companion, name, path)
}

fn from_both(
    gguf: &Arc<Gguf>,
    companion: Option<&Arc<Gguf>>,
    name: &str,
    path: &Path,
) -> Result<Adapter, AdapterError> {
    let metadata = gguf.metadata();
    let mut pairs = pairs(gguf, false)?;
    if let Some(beside) = companion {
        check_kind(beside.metadata(), CLIP, &companion::path_of(path))?;
        let seeing = self::pairs(beside, true)?;
        let digests = seeing
            .iter()
            .map(|(site, pair)| PairDigest::of(*site, pair));
        if Some(PairDigest::all(digests).as_str()) != metadata.opt_str(DIGEST)? {
            return Err(AdapterError::DamagedCompanion {
                companion: companion::path_of(path),
            });
        }
        pairs.extend(seeing);
    }
    let base = BaseIdentity {
        fingerprint: metadata.opt_str(FINGERPRINT)?.map(str::to_owned),
        name: metadata.opt_str(BASE_NAME)?.map(str::to_owned),
    };
    let name = metadata.opt_str("general.name")?.unwrap_or(name);
    Adapter::new(name, base, alpha_of(metadata)?, pairs)
}

/// Refuses a file that is not the first of an adapter.
fn check_first(metadata: &Metadata, path: &Path) -> Result<(), AdapterError> {
    match companion::is_companion(metadata) {
        true => Err(AdapterError::IsCompanion { path: path.into() }),
        false => check_kind(metadata, LLAMA, path),
    }
}

fn check_kind(
    metadata: &Metadata,
    architecture: &'static str,
    path: &Path,
) -> Result<(), AdapterError> {
    for (key, expected) in [
        ("general.type", "adapter"),
        ("general.architecture", architecture),
        ("adapter.type", "lora"),
    ] {
        let found = metadata.opt_str(key)?.unwrap_or("missing");
        if found != expected {
            let (path, found) = (path.into(), found.into());
            return Err(AdapterError::NotAnAdapter {
                path,
                key,
                found,
                expected,
            });
        }
    }
    if metadata.get("adapter.alora.invocation_tokens").is_some() {
        return Err(AdapterError::Unsupported {
            what: "an activated LoRA (adapter.alora.invocation_tokens)".into(),
            advice: "train a plain LoRA adapter",
        });
    }
    Ok(())
}

fn alpha_of(metadata: &Metadata) -> Result<f32, AdapterError> {
    Ok(metadata.opt_f32(ALPHA)?.unwrap_or(0.0))
}

/// The factor that a file states for a pair.
fn stated(alpha: f32, rank: usize) -> f32 {
    match alpha {
        0.0 => 1.0,
        alpha => alpha / rank as f32,
    }
}

/// The pairs in a file of the vision half's, or of the others'.
fn pairs(gguf: &Arc<Gguf>, vision: bool) -> Result<Vec<(Site, LoraPair)>, AdapterError> {
    let alpha = alpha_of(gguf.metadata())?;
    let mut pairs = Vec::new();
    for info in gguf.tensors() {
        if let Some(place) = info.name.strip_suffix(B) {
            let partner = format!("{place}{A}");
            if gguf.position(&partner).is_none() {
                let tensor = info.name.clone();
                return Err(AdapterError::Half { tensor, partner });
            }
            continue;
        }
        let place = info.name.strip_suffix(A);
        let Some(site) = place.and_then(Site::parse) else {
            return Err(AdapterError::UnknownTensor {
                tensor: info.name.clone(),
            });
        };
        if site.is_vision() != vision {
            let tensor = info.name.clone();
            return Err(AdapterError::OtherHalf { tensor });
        }
        let partner = format!("{site}{B}");
        let (Some(a), Some(b)) = (gguf.position(&info.name), gguf.position(&partner)) else {
            return Err(AdapterError::Half {
                tensor: info.name.clone(),
                partner,
            });
        };
        pairs.push((site, pair(gguf, site, [a, b], alpha)?));
    }
    Ok(pairs)
}

fn pair(
    gguf: &Arc<Gguf>,
    site: Site,
    tensors: [usize; 2],
    alpha: f32,
) -> Result<LoraPair, AdapterError> {
    let shape = |info: &TensorInfo, reason: &str| AdapterError::Shape {
        tensor: info.name.clone(),
        found: info.shape.clone(),
        reason: reason.into(),
    };
    let [a, b] = tensors.map(|tensor| &gguf.tensors()[tensor]);
    let (&[first, second], &[b_rank, _]) = (&a.shape[..], &b.shape[..]) else {
        return Err(shape(a, "a low-rank pair is two matrices"));
    };
    let looked_up = site == Site::Embedding;
    let rank = if looked_up { first } else { second };
    if rank != b_rank {
        return Err(shape(b, &format!("its partner has rank {rank}")));
    }
    let [a_values, b_values] = tensors.map(|tensor| Values::stored(gguf, tensor));
    let pair = match looked_up {
        true => LoraPair::new(
            transposed(&b_values, rank),
            a_values,
            rank,
            stated(alpha, rank),
        ),
        false => LoraPair::new(a_values, b_values, rank, stated(alpha, rank)),
    };
    pair.ok_or_else(|| shape(a, "empty"))
}

/// Writes an adapter file, and its companion if there are pairs in the vision half; each appears whole or not
/// at all. A companion of what was at `path` before does not outlive it.
///
/// A file has one alpha. Where a pair's own scale is not `alpha / R`, the difference is multiplied
/// into its B.
///
/// # Errors
/// If the disk refuses. Should it refuse the second of two files, the first is new already, and reading refuses
/// the two as not of one adapter.
pub fn write(path: &Path, adapter: &Adapter) -> crate::Result<()> {
    write_as(path, adapter, QuantType::F32)
}

/// The same with the values stored as F32, F16 or BF16. Values that F16 cannot hold become infinite, which
/// [`read`] refuses.
///
/// # Errors
/// As [`write()`], or for any other type.
pub fn write_as(path: &Path, adapter: &Adapter, quant_type: QuantType) -> crate::Result<()> {
    if quant_type.block_len() != 1 {
        return Err(AdapterError::Unsupported {
            what: format!("an adapter in {quant_type}"),
            advice: "choose F32, F16 or BF16",
        }
        .into());
    }
    let of_half = |vision: bool| -> Vec<Stored<'_>> {
        let pairs = adapter
            .iter()
            .filter(|(site, _)| site.is_vision() == vision);
        let stored = |(site, pair)| Stored {
            site,
            pair,
            alpha: adapter.alpha(),
            quant_type,
        };
        pairs.map(stored).collect()
    };
    let (others, seeing) = (of_half(false), of_half(true));
    let place = companion::place(path, !seeing.is_empty())?;
    if seeing.is_empty() {
        start(path, adapter, LLAMA, None, &others)?.finish()?;
        return match place {
            companion::Place::Taken => companion::remove(path),
            companion::Place::Free => Ok(()),
        };
    }
    let digest = PairDigest::all(seeing.iter().map(Stored::digest));
    let beside = companion::path_of(path);
    let second = start(&beside, adapter, CLIP, Some(&digest), &seeing)?;
    let first = start(path, adapter, LLAMA, Some(&digest), &others)?;
    second.finish()?;
    first.finish()
}

/// A file with these pairs that only lacks its name.
fn start(
    path: &Path,
    adapter: &Adapter,
    architecture: &str,
    digest: Option<&str>,
    pairs: &[Stored<'_>],
) -> crate::Result<Writer> {
    let text = |s: &str| Value::String(s.to_owned());
    let mut metadata: Metadata = [
        ("general.type", text("adapter")),
        ("general.architecture", text(architecture)),
        ("general.name", text(adapter.name())),
        ("adapter.type", text("lora")),
        (ALPHA, Value::F32(adapter.alpha())),
    ]
    .into_iter()
    .collect();
    let base = adapter.base();
    for (key, value) in [
        (FINGERPRINT, base.fingerprint.as_deref()),
        (BASE_NAME, base.name.as_deref()),
        (DIGEST, digest),
    ] {
        if let Some(value) = value {
            metadata.insert(key, text(value));
        }
    }
    let declarations: Vec<_> = pairs.iter().flat_map(Stored::declare).collect();
    let mut writer = Writer::create(path, &metadata, &declarations)?;
    for pair in pairs {
        for half in pair.halves() {
            writer.write_tensor(&half)?;
        }
    }
    Ok(writer)
}

/// A pair as a file holds it.
struct Stored<'a> {
    site: Site,
    pair: &'a LoraPair,
    alpha: f32,
    quant_type: QuantType,
}

impl Stored<'_> {
    fn declare(&self) -> [TensorDeclaration; 2] {
        let Self { site, pair, .. } = self;
        let (inputs, outputs, rank) = (pair.inputs(), pair.outputs(), pair.rank());
        let (a, b) = match site {
            Site::Embedding => ([rank, outputs], [rank, inputs]),
            _ => ([inputs, rank], [rank, outputs]),
        };
        [(A, a), (B, b)].map(|(half, shape)| TensorDeclaration {
            name: format!("{site}{half}"),
            shape: shape.into(),
            quant_type: self.quant_type,
        })
    }

    /// The bytes of `lora_a` and `lora_b`.
    fn halves(&self) -> [Vec<u8>; 2] {
        let (pair, ty) = (self.pair, self.quant_type);
        let factor = pair.scale / stated(self.alpha, pair.rank());
        match self.site {
            Site::Embedding => [
                bytes(ty, &pair.b, 1.0),
                bytes(ty, &transposed(&pair.a, pair.inputs()), factor),
            ],
            _ => [bytes(ty, &pair.a, 1.0), bytes(ty, &pair.b, factor)],
        }
    }

    /// Of a pair of the vision half as it will be read.
    fn digest(&self) -> PairDigest {
        let (pair, ty) = (self.pair, self.quant_type);
        let sizes = (pair.inputs(), pair.outputs());
        let scale = stated(self.alpha, pair.rank());
        let mut digest = PairDigest::begin(self.site, pair.rank(), scale, sizes);
        for half in self.halves() {
            digest.add(ty, &half);
        }
        digest
    }
}

fn bytes(quant_type: QuantType, values: &[f32], factor: f32) -> Vec<u8> {
    let scaled = values
        .iter()
        .map(|v| if factor == 1.0 { *v } else { v * factor });
    match quant_type {
        QuantType::F16 => scaled
            .flat_map(|v| f16::from_f32(v).to_le_bytes())
            .collect(),
        QuantType::BF16 => scaled
            .flat_map(|v| bf16::from_f32(v).to_le_bytes())
            .collect(),
        _ => scaled.flat_map(f32::to_le_bytes).collect(),
    }
}

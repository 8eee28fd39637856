//! The vision half of a vision-language model: an mmproj file, bound and ready.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use graft_kernels::QuantType;
use graft_kernels::ops::attention::AttentionShape;
use sha2::{Digest, Sha256};

use super::{
    AdapterView, ModelError, PROJECTOR_TENSORS, Projector, ProjectorKind, ProjectorParameters,
    Site, TowerKind, Unadapted, VisionTower, VisionWork,
};
use crate::gguf::{Gguf, Metadata, TensorDeclaration, Value, Writer};
use crate::image::{AspectRatio, Preprocessing, RgbImage};

/// Sizes of a vision tower.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VisionShape {
    /// Side of the square image, in pixels.
    pub image_size: usize,
    /// Side of a patch, in pixels.
    pub patch: usize,
    /// Wv.
    pub width: usize,
    /// Heads.
    pub heads: usize,
    /// Width of the feed-forward part.
    pub feed_forward: usize,
    /// Blocks that run: the feature layer.
    pub blocks: usize,
    /// Added to the variance in norms.
    pub norm_eps: f32,
    /// `x sigmoid(1.702 x)` instead of the exact GELU.
    pub quick_gelu: bool,
}

impl VisionShape {
    /// P: patches of an image.
    pub fn patches(&self) -> usize {
        (self.image_size / self.patch).pow(2)
    }

    /// `(outputs, inputs)` of a linear layer of a block.
    pub fn linear(&self, kind: TowerKind) -> (usize, usize) {
        match kind {
            TowerKind::Q | TowerKind::K | TowerKind::V | TowerKind::O => (self.width, self.width),
            TowerKind::Up => (self.feed_forward, self.width),
            TowerKind::Down => (self.width, self.feed_forward),
        }
    }

    /// Whether a file calls a block's first feed-forward layer "down" and the second "up", as the first converters
    /// did.
    pub(super) fn swaps_feed_forward(&self, gguf: &Gguf, block: usize) -> bool {
        let down = gguf.tensor(&format!("v.blk.{block}.ffn_down.weight"));
        let inputs = down.and_then(|tensor| tensor.info.shape.first().copied());
        self.width != self.feed_forward && inputs == Some(self.width)
    }

    /// Heads of its attention, which has no mask.
    pub fn attention(&self) -> AttentionShape {
        let head_width = self.width / self.heads;
        AttentionShape {
            heads: self.heads,
            kv_heads: self.heads,
            head_width,
            scale: 1.0 / (head_width as f32).sqrt(),
            causal: false,
        }
    }

    fn from_gguf(gguf: &Gguf) -> Result<Self, ModelError> {
        let metadata = gguf.metadata();
        let architecture = metadata.str("general.architecture")?;
        if architecture != "clip" {
            return Err(ModelError::NotVision {
                found: architecture.into(),
            });
        }
        let inconsistent = |text: String| Err(ModelError::Inconsistent(text));
        let size = |key: &str| metadata.usize(&format!("clip.vision.{key}"));
        let shape = Self {
            image_size: size("image_size")?,
            patch: size("patch_size")?,
            width: size("embedding_length")?,
            heads: size("attention.head_count")?,
            feed_forward: size("feed_forward_length")?,
            blocks: feature_layer(gguf, size("block_count")?)?,
            norm_eps: metadata.f32("clip.vision.attention.layer_norm_epsilon")?,
            quick_gelu: !metadata.opt_bool("clip.use_gelu")?.unwrap_or(false),
        };
        let Self {
            image_size,
            patch,
            width,
            heads,
            feed_forward,
            ..
        } = shape;
        if patch == 0 || image_size == 0 || !image_size.is_multiple_of(patch) {
            return inconsistent(format!(
                "image size {image_size} is not a multiple of patch size {patch}"
            ));
        }
        if heads == 0 || width == 0 || !width.is_multiple_of(heads) {
            return inconsistent(format!("width {width} is not a multiple of {heads} heads"));
        }
        const MOST: usize = 1 << 16;
        if [image_size, width, feed_forward]
            .into_iter()
            .any(|n| n > MOST)
            || feed_forward == 0
        {
            return inconsistent(format!(
                "sizes {image_size}, {width}, {feed_forward} are absurd"
            ));
        }
        if !(shape.norm_eps > 0.0 && shape.norm_eps < 1.0) {
            let eps = shape.norm_eps;
            return inconsistent(format!("the vision tower's norm epsilon is {eps}"));
        }
        if metadata.opt_bool("clip.use_silu")?.unwrap_or(false) {
            return Err(ModelError::Unsupported {
                key: "clip.use_silu".into(),
                value: "true".into(),
            });
        }
        Ok(shape)
    }
}

/// How many blocks run. The file may say; else LLaVA's rule: all but the last of a whole tower, all
/// of one that was stored without its last block.
fn feature_layer(gguf: &Gguf, stored: usize) -> Result<usize, ModelError> {
    const KEY: &str = "clip.vision.feature_layer";
    /// Blocks of CLIP-L, the tower of LLaVA-1.5.
    const CLIP_L: usize = 24;
    match gguf.metadata().opt_i32_array(KEY)?.as_deref() {
        None | Some([]) => {
            let whole = stored == CLIP_L || gguf.position("v.post_ln.weight").is_some();
            Ok(stored - usize::from(whole && stored > 0))
        }
        Some(&[layer]) if (0..=stored as i64).contains(&layer.into()) => Ok(layer as usize),
        Some(layers) => Err(ModelError::Unsupported {
            key: KEY.into(),
            value: format!("{layers:?} with {stored} blocks"),
        }),
    }
}

/// An open mmproj file: vision tower, projector, and how images are prepared.
#[derive(Debug)]
pub struct Vision {
    gguf: Arc<Gguf>,
    tower: VisionTower,
    projector: Projector,
    preprocessing: Preprocessing,
    fingerprint: String,
}

impl Vision {
    /// Opens an mmproj file for a language model of `width`.
    ///
    /// # Errors
    /// If it cannot be read, is no LLaVA vision file, or projects to another width.
    pub fn open(path: &Path, width: usize) -> crate::Result<Self> {
        Self::new(Arc::new(Gguf::open(path)?), width)
    }

    /// The vision half in an open file.
    ///
    /// # Errors
    /// As [`Vision::open`].
    pub fn new(gguf: Arc<Gguf>, width: usize) -> crate::Result<Self> {
        let shape = VisionShape::from_gguf(&gguf)?;
        check_projector(&gguf, width)?;
        let metadata = gguf.metadata();
        let channel = |key: &str| -> Result<[f32; 3], ModelError> {
            let key = format!("clip.vision.{key}");
            let values = metadata.f32_array(&key)?;
            let fits = values.iter().all(|v| v.is_finite())
                && (key.ends_with("mean") || values.iter().all(|&v| v > 0.0));
            values.try_into().ok().filter(|_| fits).ok_or_else(|| {
                ModelError::Inconsistent(format!("{key} is not three usable numbers"))
            })
        };
        Ok(Self {
            tower: VisionTower::bind(&gguf, &shape)?,
            projector: Projector::bind(&gguf, shape.width, width)?,
            preprocessing: Preprocessing {
                size: shape.image_size,
                mean: channel("image_mean")?,
                std: channel("image_std")?,
                aspect_ratio: AspectRatio::Pad,
            },
            fingerprint: fingerprint(&gguf),
            gguf,
        })
    }

    /// The file.
    pub fn gguf(&self) -> &Arc<Gguf> {
        &self.gguf
    }

    /// Lets the memory of the weights go until they are used again. Only a hint.
    pub fn release(&self) {
        self.gguf.release_all();
    }

    /// Its vision tower.
    pub fn tower(&self) -> &VisionTower {
        &self.tower
    }

    /// Its projector.
    pub fn projector(&self) -> &Projector {
        &self.projector
    }

    /// How images are prepared.
    pub fn preprocessing(&self) -> &Preprocessing {
        &self.preprocessing
    }

    /// Names the tower and its preparation: features cached under another name are of no use.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// `(outputs, inputs)` of the matrix at a site; `None` outside of this vision half. The block above those that
    /// run is in it: checkpoints have it, adapters of whole checkpoints too, and the features know nothing of it.
    pub fn sizes(&self, site: Site) -> Option<(usize, usize)> {
        let shape = self.tower.shape();
        match site {
            Site::Tower { block, linear } => (block <= shape.blocks).then(|| shape.linear(linear)),
            Site::Projector(ProjectorKind::First) => {
                Some((self.projector.outputs(), self.projector.inputs()))
            }
            Site::Projector(ProjectorKind::Second) => {
                Some((self.projector.outputs(), self.projector.outputs()))
            }
            Site::Embedding | Site::Layer { .. } | Site::Output => None,
        }
    }

    /// The site of a tensor of the file. Files of the first converters call a block's feed-forward layers by each
    /// other's names.
    pub fn site_of(&self, tensor: &str) -> Option<Site> {
        let site = Site::parse(tensor.strip_suffix(".weight")?)?;
        let Site::Tower { block, linear } = site else {
            return site.is_vision().then_some(site);
        };
        let swapped = self.tower.shape().swaps_feed_forward(&self.gguf, block);
        let linear = match linear {
            TowerKind::Up if swapped => TowerKind::Down,
            TowerKind::Down if swapped => TowerKind::Up,
            linear => linear,
        };
        Some(Site::Tower { block, linear })
    }

    /// An image as the tower takes it, `[3, S, S]`.
    pub fn pixels(&self, image: &RgbImage) -> Vec<f32> {
        let size = self.tower.shape().image_size;
        let mut pixels = vec![0.0; 3 * size * size];
        self.preprocessing.pixels(&mut pixels, image);
        pixels
    }

    /// Features of an image before the projector, `[P, Wv]`. Call it inside a worker pool.
    pub fn features(&self, image: &RgbImage, work: &mut VisionWork) -> Vec<f32> {
        self.features_adapted(&self.pixels(image), &Unadapted, work)
    }

    /// The same from [`Vision::pixels`], with what adapters add in the tower.
    pub fn features_adapted(
        &self,
        pixels: &[f32],
        adapters: &dyn AdapterView,
        work: &mut VisionWork,
    ) -> Vec<f32> {
        let go_on = || Ok::<(), Infallible>(());
        let Ok(features) = self.features_checked(pixels, adapters, work, &go_on);
        features
    }

    /// The same, but `check` is asked after every block of the tower whether to go on.
    ///
    /// # Errors
    /// What `check` says.
    pub fn features_checked<E>(
        &self,
        pixels: &[f32],
        adapters: &dyn AdapterView,
        work: &mut VisionWork,
        check: &dyn Fn() -> Result<(), E>,
    ) -> Result<Vec<f32>, E> {
        let shape = self.tower.shape();
        let mut features = vec![0.0; shape.patches() * shape.width];
        self.tower
            .features_checked(&mut features, pixels, adapters, work, check)?;
        Ok(features)
    }

    /// Writes a new mmproj file: this one with a trained projector, in f32.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn write_with_projector(
        &self,
        path: &Path,
        trained: &ProjectorParameters,
    ) -> crate::Result<()> {
        let place = |name: &str| PROJECTOR_TENSORS.iter().position(|t| *t == name);
        let declare = |info: &crate::gguf::TensorInfo| TensorDeclaration {
            name: info.name.clone(),
            shape: info.shape.clone(),
            quant_type: if place(&info.name).is_some() {
                QuantType::F32
            } else {
                info.quant_type
            },
        };
        let tensors: Vec<_> = self.gguf.tensors().iter().map(declare).collect();
        let mut writer = Writer::create(path, self.gguf.metadata(), &tensors)?;
        for (i, info) in self.gguf.tensors().iter().enumerate() {
            match place(&info.name) {
                Some(array) => {
                    let bytes = trained.arrays[array].iter().flat_map(|v| v.to_le_bytes());
                    writer.write_tensor(&bytes.collect::<Vec<u8>>())?;
                }
                None => writer.write_tensor(self.gguf.data(i))?,
            }
        }
        writer.finish()
    }
}

/// Refuses projectors other than LLaVA-1.5's, and one for another model.
fn check_projector(gguf: &Gguf, width: usize) -> Result<(), ModelError> {
    // Files that also hear name the projector of each sense; files of 2023 name none.
    let of_vision = "clip.vision.projector_type";
    let (key, kind) = match gguf.metadata().opt_str(of_vision)? {
        Some(kind) => (of_vision, kind),
        None => {
            let key = "clip.projector_type";
            (key, gguf.metadata().opt_str(key)?.unwrap_or("mlp"))
        }
    };
    let normed = gguf.position("mm.3.weight").is_some() || gguf.position("mm.4.weight").is_some();
    if kind != "mlp" || normed || gguf.position("mm.2.weight").is_none() {
        let value = if normed { "an mlp with norms" } else { kind };
        return Err(ModelError::Unsupported {
            key: key.into(),
            value: value.into(),
        });
    }
    if let Some(last) = gguf.tensor("mm.2.weight")
        && last.info.shape.last() != Some(&width)
    {
        let found = last.info.shape.last().copied().unwrap_or(0);
        return Err(ModelError::OtherWidth { found, width });
    }
    Ok(())
}

fn fingerprint(gguf: &Gguf) -> String {
    let mut hash = Sha256::new();
    hash.update(b"graft vision 1\n");
    let text = |metadata: &Metadata| -> Vec<String> {
        let keys = metadata.iter().filter(|(key, _)| key.starts_with("clip."));
        keys.map(|(key, value): (&str, &Value)| format!("{key}={value:?}\n"))
            .collect()
    };
    let mut lines = text(gguf.metadata());
    lines.sort();
    lines.iter().for_each(|line| hash.update(line));
    for (i, info) in gguf
        .tensors()
        .iter()
        .enumerate()
        .filter(|(_, t)| t.name.starts_with("v."))
    {
        hash.update(format!(
            "{} {:?} {}\n",
            info.name, info.shape, info.quant_type
        ));
        let data = gguf.data(i);
        for at in [0, data.len() / 2, data.len().saturating_sub(256)] {
            hash.update(&data[at..data.len().min(at + 256)]);
        }
    }
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

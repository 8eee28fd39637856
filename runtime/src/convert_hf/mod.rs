//! Hugging Face checkpoints to GGUF: language models of the LLaMA family, and LLaVA-1.5.
//!
//! A checkpoint is a folder of `config.json`, weights as safetensors and a vocabulary. It becomes a
//! text model and, for a LLaVA, an mmproj file with the vision tower and the projector. Everything
//! is planned and checked before the first byte is written; weights then go from the old files to
//! the new ones a few rows at a time. Whatever cannot be expressed is refused by name, and whatever
//! is left out on purpose is said in [`Converted::notes`].

mod checkpoint;
mod config;
mod element;
mod error;
mod folder;
mod language;
mod names;
mod rope;
mod sentencepiece;
mod sight;
mod tokenizer_json;
mod vocabulary;

use std::path::{Path, PathBuf};

use graft_kernels::QuantType;

use crate::Result;
use crate::cancel::Cancel;
use crate::gguf::{Metadata, TensorDeclaration, Writer};
use crate::model::LlamaShape;
use checkpoint::Checkpoint;
use config::{Config, Sight, TowerConfig};
use element::{Planned, Report};
use folder::Folder;
use names::{Part, Tensors};

pub use error::ConvertHfError;

/// How to convert.
pub struct ConvertOptions<'o> {
    /// How matrices are stored: F32, F16 or BF16. Vectors are always F32.
    pub quant_type: QuantType,
    /// The folder of the CLIP model, for checkpoints that do not hold their vision tower (the
    /// original LLaVA-1.5 ones).
    pub vision_tower: Option<&'o Path>,
    /// Called after every few rows.
    pub progress: Option<&'o dyn Fn(Progress<'_>)>,
    /// Stops the conversion; nothing is written then.
    pub cancel: Cancel,
}

impl Default for ConvertOptions<'_> {
    fn default() -> Self {
        Self {
            quant_type: QuantType::F16,
            vision_tower: None,
            progress: None,
            cancel: Cancel::new(),
        }
    }
}

/// How far a conversion is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'t> {
    /// The tensor being written, by its name in GGUF.
    pub tensor: &'t str,
    /// Bytes of weights written so far, of both files.
    pub written: u64,
    /// Bytes of weights in all.
    pub total: u64,
}

/// What a conversion made.
#[derive(Clone, Debug)]
pub struct Converted {
    /// The text model.
    pub model: ConvertedFile,
    /// The vision half, if it was asked for.
    pub mmproj: Option<ConvertedFile>,
    /// What was left out or stands out, a sentence each.
    pub notes: Vec<String>,
}

/// A file that was written.
#[derive(Clone, Debug)]
pub struct ConvertedFile {
    /// Where.
    pub path: PathBuf,
    /// Number of tensors.
    pub tensors: usize,
    /// Bytes of weights.
    pub bytes: u64,
}

/// Converts the checkpoint in `folder` to the text model `out` and, for a LLaVA and on request, the
/// vision half `mmproj`. Neither appears under its name before both are written completely.
///
/// # Errors
/// A folder that holds no checkpoint graft can express, with the file, tensor or setting that is in
/// the way; a disk that refuses; the raised cancel flag.
pub fn convert(
    folder: &Path,
    out: &Path,
    mmproj: Option<&Path>,
    options: &ConvertOptions<'_>,
) -> Result<Converted> {
    let quant_type = options.quant_type;
    element::check_target(quant_type)?;
    if mmproj == Some(out) {
        let path = out.to_owned();
        return Err(ConvertHfError::SameFile { path }.into());
    }
    let folder = Folder::open(folder)?;
    let config = Config::read(&folder)?;
    if let (Some(path), None) = (mmproj, &config.sight) {
        let path = path.to_owned();
        return Err(ConvertHfError::NoVision { path }.into());
    }
    let checkpoint = Checkpoint::open(&folder)?;
    let elsewhere = match options.vision_tower.filter(|_| mmproj.is_some()) {
        Some(path) => {
            let folder = Folder::open(path)?;
            let checkpoint = Checkpoint::open(&folder)?;
            Some((folder, checkpoint))
        }
        None => None,
    };
    let mut notes = Vec::new();
    let mut tensors = Tensors::of_model(&checkpoint)?;
    let name = name_of(&folder);
    let language = &config.language;
    let plan = language.plan(&mut tensors, quant_type, &mut notes)?;
    let mut metadata = language.metadata(&name, quant_type);
    if language.window {
        notes.push(format!(
            "the model attends through a window; its context length was set to the {} tokens \
             within which that changes nothing",
            language.context_length
        ));
    }
    vocabulary::add(
        &mut metadata,
        &folder,
        &config.special,
        language.vocabulary,
        &mut notes,
    )?;
    // What graft itself would refuse is not worth writing.
    LlamaShape::from_metadata(&metadata, language.vocabulary)?;
    let mut files = vec![PlannedFile::new(out, metadata, plan)?];
    match (config.sight, mmproj) {
        (Some(sight), Some(path)) => {
            let mut half = Half {
                sight,
                folder: &folder,
                tensors: &mut tensors,
                width: language.width,
                quant_type,
                name: &name,
                notes: &mut notes,
            };
            let (metadata, plan) = half.plan(elsewhere.as_ref())?;
            files.push(PlannedFile::new(path, metadata, plan)?);
        }
        (Some(_), None) => {
            let parts = [Part::Tower, Part::Projector, Part::Newline];
            let left: usize = parts.map(|p| tensors.leave_out(p, |_| true)).iter().sum();
            notes.push(format!(
                "the {left} tensors of the vision half were left out: no mmproj file was asked for"
            ));
        }
        (None, _) => {}
    }
    tensors.finish()?;
    write(files, options, notes)
}

/// The name a user knows the checkpoint by: that of its folder.
fn name_of(folder: &Folder) -> String {
    let path = std::fs::canonicalize(&folder.path).unwrap_or_else(|_| folder.path.clone());
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned());
    name.unwrap_or_else(|| "model".into())
}

/// A vision half being planned.
struct Half<'a, 'c> {
    sight: Sight,
    folder: &'a Folder,
    tensors: &'a mut Tensors<'c>,
    width: usize,
    quant_type: QuantType,
    name: &'a str,
    notes: &'a mut Vec<String>,
}

impl<'c> Half<'_, 'c> {
    fn plan(
        &mut self,
        elsewhere: Option<&'c (Folder, Checkpoint)>,
    ) -> Result<(Metadata, Vec<Planned<'c>>), ConvertHfError> {
        if let Some(refused) = self.sight.refused.take() {
            return Err(refused);
        }
        let layer = self.sight.feature_layer;
        let blocks_of = |tower: &TowerConfig| {
            tower.check()?;
            sight::feature_blocks(layer, tower.layers)
        };
        let (tower, blocks, mut plan) = match elsewhere {
            Some((folder, checkpoint)) => {
                let tower = TowerConfig::of_folder(folder)?;
                let blocks = blocks_of(&tower)?;
                let mut tensors = Tensors::of_tower(checkpoint)?;
                let plan = tower.plan(&mut tensors, blocks, self.quant_type, self.notes)?;
                tensors.finish()?;
                if self.tensors.leave_out(Part::Tower, |_| true) > 0 {
                    let note = "the checkpoint's own vision tower was left out for the one named";
                    self.notes.push(note.into());
                }
                (tower, blocks, plan)
            }
            None => {
                let tower = self.sight.tower(self.tensors)?;
                let blocks = blocks_of(&tower)?;
                let plan = tower.plan(self.tensors, blocks, self.quant_type, self.notes)?;
                (tower, blocks, plan)
            }
        };
        let projector =
            self.sight
                .projector(self.tensors, tower.width, self.width, self.quant_type)?;
        plan.extend(projector);
        let mut metadata = tower.metadata(self.name, blocks, self.quant_type, self.width);
        let preparation = match elsewhere {
            Some((folder, _)) if !self.folder.has(sight::PREPROCESSOR) => folder,
            _ => self.folder,
        };
        sight::add_normalisation(&mut metadata, preparation, &tower)?;
        Ok((metadata, plan))
    }
}

/// A file that is known completely and not begun.
struct PlannedFile<'c> {
    file: ConvertedFile,
    metadata: Metadata,
    plan: Vec<Planned<'c>>,
}

impl<'c> PlannedFile<'c> {
    fn new(path: &Path, metadata: Metadata, plan: Vec<Planned<'c>>) -> Result<Self> {
        let sizes: Result<Vec<u64>> = plan.iter().map(Planned::bytes).collect();
        Ok(Self {
            file: ConvertedFile {
                path: path.to_owned(),
                tensors: plan.len(),
                bytes: sizes?.iter().sum(),
            },
            metadata,
            plan,
        })
    }
}

/// Writes all files, and gives them their names only when all are whole.
fn write(
    files: Vec<PlannedFile<'_>>,
    options: &ConvertOptions<'_>,
    notes: Vec<String>,
) -> Result<Converted> {
    let mut report = Report {
        options,
        written: 0,
        total: files.iter().map(|f| f.file.bytes).sum(),
    };
    let mut written = Vec::new();
    for PlannedFile {
        file,
        metadata,
        plan,
    } in files
    {
        let declarations: Vec<TensorDeclaration> =
            plan.iter().map(|p| p.declaration.clone()).collect();
        let mut writer = Writer::create(&file.path, &metadata, &declarations)?;
        for planned in &plan {
            planned.write(&mut writer, &mut report)?;
        }
        written.push((writer, file));
    }
    let mut done = Vec::new();
    for (writer, file) in written {
        writer.finish()?;
        done.push(file);
    }
    let mut done = done.into_iter();
    Ok(Converted {
        model: done.next().expect("the text model is always planned"),
        mmproj: done.next(),
        notes,
    })
}

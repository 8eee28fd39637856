//! The vocabulary of a checkpoint as GGUF metadata: pieces, special tokens, chat template.

use serde_json::Value as Json;

use super::ConvertHfError;
use super::folder::{Folder, Keys};
use super::sentencepiece::SentencePiece;
use super::tokenizer_json::TokenizerJson;
use crate::gguf::{Array, Metadata, Value};
use crate::tokenizer::{ChatTemplate, JinjaTemplate, Message, Role, Tokenizer, spell};

const SENTENCEPIECE: &str = "tokenizer.model";
const JSON: &str = "tokenizer.json";
const CONFIG: &str = "tokenizer_config.json";

/// Token types as GGUF numbers them.
pub(super) const NORMAL: i32 = 1;
pub(super) const UNKNOWN: i32 = 2;
pub(super) const CONTROL: i32 = 3;
pub(super) const USER_DEFINED: i32 = 4;
pub(super) const UNUSED: i32 = 5;
pub(super) const BYTE: i32 = 6;

/// Scores of tokens no merge makes, as llama.cpp's converter writes them.
const ADDED_SCORE: f32 = -1000.0;
const PADDING_SCORE: f32 = -10000.0;

/// A vocabulary with as many tokens as the embedding has rows.
#[derive(Debug)]
pub(super) struct Vocabulary {
    /// `None` for rows no token uses.
    pub(super) tokens: Vec<Option<Token>>,
    pub(super) family: Family,
    /// Ids of bos, eos, unk and pad that the vocabulary itself names.
    pub(super) own_ids: [Option<u32>; 4],
    /// Whether texts begin with bos and end with eos, where the vocabulary itself says.
    pub(super) own_ends: [Option<bool>; 2],
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) text: String,
    pub(super) score: f32,
    pub(super) kind: i32,
}

#[derive(Debug)]
pub(super) enum Family {
    /// SentencePiece BPE; with a blank in front of texts or not.
    Pieces { blank: bool },
    /// Byte-level BPE: GGUF's name of the pre-tokenizer, and the merges.
    Bytes {
        pre: &'static str,
        merges: Vec<String>,
    },
}

/// Names of special tokens, in the order of [`Vocabulary::own_ids`], and GGUF's keys for them.
const SPECIAL: [(&str, &str); 4] = [
    ("bos", "bos"),
    ("eos", "eos"),
    ("unk", "unknown"),
    ("pad", "padding"),
];

/// Adds the vocabulary of `folder` to `metadata`: `rows` tokens, as the embedding has rows.
pub(super) fn add(
    metadata: &mut Metadata,
    folder: &Folder,
    special: &Keys,
    rows: usize,
    notes: &mut Vec<String>,
) -> crate::Result<()> {
    let config = folder.json(CONFIG)?;
    let mut vocabulary = Vocabulary::read(folder, config.as_ref(), rows, notes)?;
    let ids = vocabulary.special_ids(config.as_ref(), special)?;
    if let (Family::Pieces { .. }, Some(unknown)) = (&vocabulary.family, ids[2])
        && let Some(token) = &mut vocabulary.tokens[unknown as usize]
    {
        token.kind = UNKNOWN;
    }
    let (family, pre) = match &vocabulary.family {
        Family::Pieces { .. } => ("llama", "default"),
        Family::Bytes { pre, .. } => ("gpt2", *pre),
    };
    metadata.insert("tokenizer.ggml.model", Value::String(family.into()));
    metadata.insert("tokenizer.ggml.pre", Value::String(pre.into()));
    let (mut texts, mut scores, mut kinds) = (Vec::new(), Vec::new(), Vec::new());
    let mut padding = 0;
    for (id, token) in vocabulary.tokens.drain(..).enumerate() {
        let token = token.unwrap_or_else(|| {
            padding += 1;
            Token {
                text: format!("[PAD{id}]"),
                score: PADDING_SCORE,
                kind: UNUSED,
            }
        });
        texts.push(token.text);
        scores.push(token.score);
        kinds.push(token.kind);
    }
    if padding > 0 {
        notes.push(format!(
            "{padding} rows of the embedding belong to no token; they are named [PAD…] and unused"
        ));
    }
    let array = |metadata: &mut Metadata, key: &str, array| {
        metadata.insert(format!("tokenizer.ggml.{key}"), Value::Array(array));
    };
    array(metadata, "tokens", Array::String(texts));
    match vocabulary.family {
        Family::Pieces { blank } => {
            array(metadata, "scores", Array::F32(scores));
            metadata.insert("tokenizer.ggml.add_space_prefix", Value::Bool(blank));
        }
        Family::Bytes { merges, .. } => array(metadata, "merges", Array::String(merges)),
    }
    array(metadata, "token_type", Array::I32(kinds));
    for ((_, key), id) in SPECIAL.iter().zip(ids) {
        if let Some(id) = id {
            metadata.insert(format!("tokenizer.ggml.{key}_token_id"), Value::U32(id));
        }
    }
    let flag = |key: &str| config.as_ref().map_or(Ok(None), |c| c.bool(key));
    for (i, (key, default)) in [
        ("add_bos_token", family == "llama"),
        ("add_eos_token", false),
    ]
    .into_iter()
    .enumerate()
    {
        // A flag without the token to put there would only confuse readers.
        let wanted = flag(key)?.or(vocabulary.own_ends[i]).unwrap_or(default);
        let value = wanted && ids[i].is_some();
        metadata.insert(format!("tokenizer.ggml.{key}"), Value::Bool(value));
    }
    // The file's own reader is the judge of what was put together here.
    let tokenizer = Tokenizer::from_metadata(metadata)?;
    if let Some(source) = chat_template(folder, config.as_ref(), notes)? {
        match says_what_is_said(&source, &tokenizer) {
            Ok(()) => {
                metadata.insert("tokenizer.chat_template", Value::String(source));
            }
            Err(reason) => notes.push(format!("the chat template was left out: {reason}")),
        }
    }
    Ok(())
}

impl Vocabulary {
    fn read(
        folder: &Folder,
        config: Option<&Keys>,
        rows: usize,
        notes: &mut Vec<String>,
    ) -> Result<Self, ConvertHfError> {
        let json = folder.json(JSON)?;
        let mut vocabulary = match (folder.bytes(SENTENCEPIECE)?, &json) {
            (Some(bytes), _) => Self::of_pieces(folder, config, &bytes, rows, notes)?,
            (None, Some(json)) => TokenizerJson::new(json)?.vocabulary(rows, notes)?,
            (None, None) => {
                return Err(ConvertHfError::MissingFile {
                    folder: folder.path.clone(),
                    file: format!("{SENTENCEPIECE} or {JSON}"),
                    hint: "a model without a vocabulary is of no use; download it too",
                });
            }
        };
        let stated = |token: &Json| token.get("special").and_then(Json::as_bool) == Some(true);
        if let Some(keys) = folder.json("added_tokens.json")? {
            let added = keys
                .entries()
                .map(|(text, id)| (id.as_u64(), Some(text.as_str()), false));
            vocabulary.extend(&keys, added, notes)?;
        }
        if let Some(keys) = &json {
            let tokens = keys.array("added_tokens")?.unwrap_or_default().iter();
            let added = tokens.map(|t| {
                let text = t.get("content").and_then(Json::as_str);
                (t.get("id").and_then(Json::as_u64), text, stated(t))
            });
            vocabulary.extend(keys, added, notes)?;
        }
        if let Some(keys) = config
            && let Some(tokens) = keys.object("added_tokens_decoder")?
        {
            let added = tokens.entries().map(|(id, t)| {
                let text = t.get("content").and_then(Json::as_str);
                (id.parse().ok(), text, stated(t))
            });
            vocabulary.extend(keys, added, notes)?;
        }
        Ok(vocabulary)
    }

    fn of_pieces(
        folder: &Folder,
        config: Option<&Keys>,
        bytes: &[u8],
        rows: usize,
        notes: &mut Vec<String>,
    ) -> Result<Self, ConvertHfError> {
        let unusable = |reason: String| ConvertHfError::Vocabulary {
            path: folder.path.join(SENTENCEPIECE),
            reason,
        };
        let model = SentencePiece::parse(bytes).map_err(unusable)?;
        if !model.bpe {
            return Err(unusable(
                "it is a unigram model; graft reads BPE models".into(),
            ));
        }
        if model.suffix || !model.escapes_whitespace {
            return Err(unusable(
                "it treats blanks in a way GGUF cannot express".into(),
            ));
        }
        if model.character_map || model.removes_whitespace {
            notes.push(
                "the vocabulary normalises texts (characters or runs of blanks) before it cuts \
                 them; GGUF has no way to say so, and such texts become other tokens"
                    .into(),
            );
        }
        if model.pieces.len() > rows {
            return Err(unusable(format!(
                "it has {} pieces, the embedding only {rows} rows",
                model.pieces.len()
            )));
        }
        let id = |id: i64| {
            u32::try_from(id)
                .ok()
                .filter(|&id| (id as usize) < model.pieces.len())
        };
        let own_ids = [model.bos, model.eos, model.unknown, model.pad].map(id);
        let stated = config.map_or(Ok(None), |c| c.bool("add_prefix_space"))?;
        let mut tokens: Vec<Option<Token>> = model
            .pieces
            .into_iter()
            .map(|piece| {
                Some(Token {
                    text: piece.text,
                    score: piece.score,
                    kind: piece.kind,
                })
            })
            .collect();
        tokens.resize(rows, None);
        Ok(Self {
            tokens,
            family: Family::Pieces {
                blank: stated.unwrap_or(model.dummy_prefix),
            },
            own_ids,
            own_ends: [None; 2],
        })
    }

    /// Puts added tokens (id, text, special) where they belong.
    fn extend<'t>(
        &mut self,
        keys: &Keys,
        added: impl Iterator<Item = (Option<u64>, Option<&'t str>, bool)>,
        notes: &mut Vec<String>,
    ) -> Result<(), ConvertHfError> {
        for (id, text, special) in added {
            let (Some(id), Some(text)) = (id, text) else {
                return Err(ConvertHfError::File {
                    path: keys.path().to_owned(),
                    reason: "an added token has no number or no text".into(),
                });
            };
            let slot = usize::try_from(id).ok();
            let Some(slot) = slot.and_then(|id| self.tokens.get_mut(id)) else {
                let note = format!(
                    "added token {text:?} was left out: its number {id} is beyond the embedding"
                );
                if !notes.contains(&note) {
                    notes.push(note);
                }
                continue;
            };
            let kind = match slot {
                // The unknown token and bytes keep their meaning.
                Some(old) if old.text == text && matches!(old.kind, UNKNOWN | BYTE | CONTROL) => {
                    continue;
                }
                _ if special || looks_special(text) => CONTROL,
                _ => USER_DEFINED,
            };
            let text = match kind {
                USER_DEFINED => text.replace('\u{2581}', " "),
                _ => text.to_owned(),
            };
            *slot = Some(Token {
                text,
                score: ADDED_SCORE,
                kind,
            });
        }
        Ok(())
    }

    /// Ids of bos, eos, unk and pad: as the tokenizer's configuration names them, else the model's,
    /// else the vocabulary's own.
    fn special_ids(
        &self,
        config: Option<&Keys>,
        model: &Keys,
    ) -> Result<[Option<u32>; 4], ConvertHfError> {
        let mut ids = self.own_ids;
        for (slot, (name, _)) in ids.iter_mut().zip(SPECIAL) {
            let named = config.and_then(|c| c.get(&format!("{name}_token")));
            let text = named.and_then(|token| token.get("content").unwrap_or(token).as_str());
            let by_text = text.and_then(|text| {
                let matches = |t: &Option<Token>| {
                    t.as_ref()
                        .is_some_and(|t| t.text == text && t.kind != UNUSED)
                };
                self.tokens.iter().position(matches)
            });
            // Several ends of sequence: the first is the one, the others end turns.
            let by_number = match model.get(&format!("{name}_token_id")) {
                Some(Json::Array(ids)) => ids.first().and_then(Json::as_u64),
                Some(id) => id.as_u64(),
                None => None,
            };
            let id = by_text.map(|id| id as u64).or(by_number);
            if let Some(id) = id.filter(|&id| id < self.tokens.len() as u64) {
                *slot = u32::try_from(id).ok();
            }
        }
        Ok(ids)
    }
}

/// Added tokens that are special although their file says no, as llama.cpp's converter sees it.
fn looks_special(text: &str) -> bool {
    matches!(text, "<pad>" | "<mask>") || (text.starts_with("<|") && text.ends_with("|>"))
}

/// The source of the chat template: a file of its own, else the tokenizer's configuration.
fn chat_template(
    folder: &Folder,
    config: Option<&Keys>,
    notes: &mut Vec<String>,
) -> Result<Option<String>, ConvertHfError> {
    if let Some(source) = folder.text("chat_template.jinja")? {
        return Ok(Some(source));
    }
    let processor = folder.json("chat_template.json")?;
    for keys in [config, processor.as_ref()].into_iter().flatten() {
        match keys.get("chat_template") {
            Some(Json::String(source)) => return Ok(Some(source.clone())),
            Some(Json::Array(several)) => {
                let default = several
                    .iter()
                    .find(|t| t.get("name").and_then(Json::as_str) == Some("default"));
                let source = default
                    .and_then(|t| t.get("template"))
                    .and_then(Json::as_str);
                if source.is_none() {
                    notes.push(
                        "none of the chat templates is the default; all were left out".into(),
                    );
                }
                return Ok(source.map(str::to_owned));
            }
            _ => {}
        }
    }
    Ok(None)
}

/// Tries a template: it must compile and write what people say. Templates of vision models expect
/// messages in parts and silently drop plain ones.
fn says_what_is_said(source: &str, tokenizer: &Tokenizer) -> Result<(), String> {
    const SAID: &str = "What is said";
    let message = Message {
        role: Role::User,
        images: 0,
        text: SAID.into(),
    };
    let template = JinjaTemplate::new(source, tokenizer).map_err(|e| e.to_string())?;
    let segments = ChatTemplate::Jinja(Box::new(template))
        .render(&[message], true)
        .map_err(|e| e.to_string())?;
    match spell(&segments).contains(SAID) {
        true => Ok(()),
        false => Err("it does not write plain messages (it expects them in parts)".into()),
    }
}

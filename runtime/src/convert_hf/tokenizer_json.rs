//! `tokenizer.json`: the vocabulary as the tokenizers library saves it, always a BPE here.
//!
//! Two families hide in it. Byte-level BPE is recognised by how it cuts text into words, for GGUF
//! names the cut instead of writing it down. SentencePiece BPE has merges instead of scores; the
//! scores follow from the order of the merges, if those are the merges that the scores imply.

use std::collections::{HashMap, HashSet};

use serde_json::Value as Json;

use super::ConvertHfError;
use super::folder::Keys;
use super::vocabulary::{BYTE, Family, NORMAL, Token, UNKNOWN, Vocabulary};

/// What SentencePiece writes for a blank.
const BLANK: &str = "\u{2581}";
/// Words of LLaMA 3, and of Qwen 2: they differ in how digits are grouped.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The file's parts that matter.
pub(super) struct TokenizerJson<'j> {
    keys: &'j Keys,
    model: Keys,
    /// Texts by id.
    texts: Vec<(u32, &'j str)>,
    merges: Vec<(String, String)>,
}

impl<'j> TokenizerJson<'j> {
    pub(super) fn new(keys: &'j Keys) -> Result<Self, ConvertHfError> {
        let model = keys.object("model")?;
        let model = model.ok_or_else(|| unusable(keys, "it has no model".into()))?;
        // Early files do not name the type of their model.
        if !matches!(model.str("type")?.as_deref(), None | Some("BPE")) {
            return Err(model.unsupported("type", "; graft reads BPE vocabularies"));
        }
        let entries = keys.get("model").and_then(|m| m.get("vocab"));
        let Some(entries) = entries.and_then(Json::as_object) else {
            return Err(unusable(keys, "it has no vocab".into()));
        };
        let mut texts = Vec::with_capacity(entries.len());
        for (text, id) in entries {
            let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
            let id = id.ok_or_else(|| unusable(keys, format!("token {text:?} has no number")))?;
            texts.push((id, text.as_str()));
        }
        texts.sort_unstable();
        if let Some(pair) = texts.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let reason = format!(
                "{:?} and {:?} are both token {}",
                pair[0].1, pair[1].1, pair[0].0
            );
            return Err(unusable(keys, reason));
        }
        let mut merges = Vec::new();
        for (index, merge) in model
            .array("merges")?
            .unwrap_or_default()
            .iter()
            .enumerate()
        {
            let pair = match merge {
                Json::String(text) => text.split_once(' '),
                Json::Array(pair) => match pair.as_slice() {
                    [Json::String(left), Json::String(right)] => {
                        Some((left.as_str(), right.as_str()))
                    }
                    _ => None,
                },
                _ => None,
            };
            let (left, right) =
                pair.ok_or_else(|| unusable(keys, format!("merge {index} is no pair of tokens")))?;
            merges.push((left.to_owned(), right.to_owned()));
        }
        Ok(Self {
            keys,
            model,
            texts,
            merges,
        })
    }

    /// The vocabulary for an embedding of `rows` rows.
    pub(super) fn vocabulary(
        self,
        rows: usize,
        notes: &mut Vec<String>,
    ) -> Result<Vocabulary, ConvertHfError> {
        if let Some((last, text)) = self.texts.last()
            && *last as usize >= rows
        {
            let reason =
                format!("token {text:?} has number {last}, the embedding only {rows} rows");
            return Err(unusable(self.keys, reason));
        }
        for key in ["continuing_subword_prefix", "end_of_word_suffix"] {
            self.model.only(key, &[Json::String(String::new())])?;
        }
        let mut tokens: Vec<Option<Token>> = vec![None; rows];
        for &(id, text) in &self.texts {
            tokens[id as usize] = Some(Token {
                text: text.to_owned(),
                score: 0.0,
                kind: NORMAL,
            });
        }
        let own_ends = self.ends();
        let byte_level = self
            .steps("pre_tokenizer", "pretokenizers")
            .iter()
            .any(is("ByteLevel"));
        let family = if byte_level {
            Family::Bytes {
                pre: self.words(notes)?,
                merges: self.spelled_merges(),
            }
        } else {
            let blank = self.blank()?;
            self.score(&mut tokens)?;
            Family::Pieces { blank }
        };
        let unknown = self.model.str("unk_token")?;
        let unknown = unknown.and_then(|unknown| {
            let same = |t: &Option<Token>| t.as_ref().is_some_and(|t| t.text == unknown);
            tokens.iter().position(same)
        });
        Ok(Vocabulary {
            tokens,
            family,
            own_ids: [None, None, unknown.map(|id| id as u32), None],
            own_ends,
        })
    }

    /// The steps of a part of the pipeline, whether it is a sequence or a single step.
    fn steps(&self, part: &str, sequence: &str) -> Vec<&Json> {
        match self.keys.get(part) {
            None => Vec::new(),
            Some(part) if is("Sequence")(&part) => {
                let steps = part.get(sequence).and_then(Json::as_array);
                steps.map(|s| s.iter().collect()).unwrap_or_default()
            }
            Some(part) => vec![part],
        }
    }

    /// Whether the post-processor puts a special token in front of a text, and behind it; `None`
    /// where no post-processor says.
    fn ends(&self) -> [Option<bool>; 2] {
        let steps = self.steps("post_processor", "processors");
        let Some(template) = steps.into_iter().find(is("TemplateProcessing")) else {
            return [None; 2];
        };
        let single = template.get("single").and_then(Json::as_array);
        let special = |piece: Option<&Json>| piece.is_some_and(|p| p.get("SpecialToken").is_some());
        let single = single.map(Vec::as_slice).unwrap_or_default();
        [Some(special(single.first())), Some(special(single.last()))]
    }

    /// GGUF's name of how text is cut into words.
    fn words(&self, notes: &mut Vec<String>) -> Result<&'static str, ConvertHfError> {
        for step in self.steps("normalizer", "normalizers") {
            match step.get("type").and_then(Json::as_str) {
                Some("NFC") => notes.push(
                    "the vocabulary composes characters (NFC) before it cuts texts; GGUF has no \
                     way to say so, and texts that are not composed become other tokens"
                        .into(),
                ),
                _ => return Err(self.keys.unsupported("normalizer", "")),
            }
        }
        let cuts = self.steps("pre_tokenizer", "pretokenizers");
        let refuse = || Err(self.keys.unsupported("pre_tokenizer", UNKNOWN_CUT));
        let Some((level, cuts)) = cuts.split_last() else {
            return refuse();
        };
        let flag = |step: &Json, key: &str| step.get(key).and_then(Json::as_bool);
        if !is("ByteLevel")(level) || flag(level, "add_prefix_space") != Some(false) {
            return refuse();
        }
        let whole = flag(level, "use_regex").unwrap_or(true);
        match cuts {
            [] if whole => Ok("gpt-2"),
            [digits] if whole && is("Digits")(digits) => match flag(digits, "individual_digits") {
                Some(true) => Ok("smollm"),
                _ => refuse(),
            },
            [split] if !whole && is("Split")(split) => {
                let isolated = split.get("behavior").and_then(Json::as_str) == Some("Isolated");
                let pattern = split.get("pattern").and_then(|p| p.get("Regex"));
                let words = self.model.bool("ignore_merges")?.unwrap_or(false);
                match (pattern.and_then(Json::as_str), words) {
                    _ if !isolated || flag(split, "invert") == Some(true) => refuse(),
                    (Some(LLAMA3), true) => Ok("llama-bpe"),
                    (Some(QWEN2), false) => Ok("qwen2"),
                    _ => refuse(),
                }
            }
            _ => refuse(),
        }
    }

    fn spelled_merges(&self) -> Vec<String> {
        // A blank inside a token would end it in GGUF's spelling.
        let spell = |text: &str| text.replace(' ', "\u{120}");
        let merges = self.merges.iter();
        merges
            .map(|(left, right)| format!("{} {}", spell(left), spell(right)))
            .collect()
    }

    /// Whether texts get SentencePiece's leading blank.
    fn blank(&self) -> Result<bool, ConvertHfError> {
        let mut blank = false;
        for step in self.steps("normalizer", "normalizers") {
            let text = |key: &str| step.get(key).and_then(Json::as_str);
            let from = step.get("pattern").and_then(|p| p.get("String"));
            match text("type") {
                Some("Prepend") if text("prepend") == Some(BLANK) => blank = true,
                Some("Replace")
                    if from.and_then(Json::as_str) == Some(" ")
                        && text("content") == Some(BLANK) => {}
                _ => return Err(self.keys.unsupported("normalizer", "")),
            }
        }
        for step in self.steps("pre_tokenizer", "pretokenizers") {
            if !is("Metaspace")(&step) {
                return Err(self.keys.unsupported("pre_tokenizer", UNKNOWN_CUT));
            }
            let split = step.get("split").and_then(Json::as_bool);
            // Cutting at blanks first gives the same tokens unless a piece holds a blank inside.
            if split != Some(false) && self.texts.iter().any(|(_, t)| blank_inside(t)) {
                return Err(self.keys.unsupported("pre_tokenizer", ""));
            }
            blank |= match step.get("prepend_scheme").and_then(Json::as_str) {
                Some("never") => false,
                Some(_) => true,
                None => step.get("add_prefix_space").and_then(Json::as_bool) != Some(false),
            };
        }
        Ok(blank)
    }

    /// Gives tokens the scores that make SentencePiece merge in the order of the merges.
    fn score(&self, tokens: &mut [Option<Token>]) -> Result<(), ConvertHfError> {
        let ids: HashMap<&str, u32> = self.texts.iter().map(|&(id, t)| (t, id)).collect();
        let mut made: HashMap<&str, Vec<usize>> = HashMap::new();
        let mut last = None;
        for (rank, (left, right)) in self.merges.iter().enumerate() {
            let text = format!("{left}{right}");
            let found = ids.get_key_value(text.as_str());
            let (Some((&text, &id)), Some(_), Some(_)) =
                (found, ids.get(left.as_str()), ids.get(right.as_str()))
            else {
                return Err(unusable(
                    self.keys,
                    format!("merge {rank} is not of its tokens"),
                ));
            };
            let cuts = made.entry(text).or_default();
            if !cuts.is_empty() && last != Some(id) {
                return Err(not_scores(self.keys, text));
            }
            if cuts.is_empty()
                && let Some(token) = &mut tokens[id as usize]
            {
                token.score = -(rank as f32);
            }
            cuts.push(left.len());
            last = Some(id);
        }
        let byte_fallback = self.model.bool("byte_fallback")?.unwrap_or(false);
        let unknown = self.model.str("unk_token")?;
        let single = -(self.merges.len() as f32);
        for &(id, text) in &self.texts {
            let Some(token) = &mut tokens[id as usize] else {
                continue;
            };
            if unknown.as_deref() == Some(text) {
                token.kind = UNKNOWN;
            } else if byte_fallback && is_byte(text) {
                token.kind = BYTE;
            }
            match made.get_mut(text) {
                Some(cuts) => cuts.sort_unstable(),
                None => token.score = single,
            }
        }
        // Readers of GGUF merge wherever two tokens make a third.
        let added = self.added();
        let plain = |text: &str| {
            let token = ids.get(text).and_then(|&id| tokens[id as usize].as_ref());
            token.is_some_and(|t| t.kind == NORMAL) && !added.contains(text)
        };
        for &(_, text) in self.texts.iter().filter(|(_, text)| plain(text)) {
            let cuts = text.char_indices().skip(1).map(|(cut, _)| cut);
            let implied = cuts.filter(|&cut| plain(&text[..cut]) && plain(&text[cut..]));
            let listed = made.get(text).map(Vec::as_slice).unwrap_or_default();
            if !implied.eq(listed.iter().copied()) {
                return Err(not_scores(self.keys, text));
            }
        }
        Ok(())
    }

    /// Texts of added tokens, which no merge makes or uses.
    fn added(&self) -> HashSet<&str> {
        let added = self.keys.get("added_tokens").and_then(Json::as_array);
        let added = added.map(Vec::as_slice).unwrap_or_default().iter();
        added
            .filter_map(|token| token.get("content").and_then(Json::as_str))
            .collect()
    }
}

const UNKNOWN_CUT: &str = " (llama-bpe, qwen2, gpt-2, smollm and SentencePiece are)";

/// Whether a step of the pipeline is of this type.
fn is(kind: &'static str) -> impl Fn(&&Json) -> bool {
    move |step| step.get("type").and_then(Json::as_str) == Some(kind)
}

/// Whether a piece has a blank behind another character.
fn blank_inside(text: &str) -> bool {
    text.trim_start_matches(BLANK).contains(BLANK)
}

fn is_byte(text: &str) -> bool {
    let hex = text.strip_prefix("<0x").and_then(|t| t.strip_suffix('>'));
    hex.is_some_and(|hex| hex.len() == 2 && u8::from_str_radix(hex, 16).is_ok())
}

fn unusable(keys: &Keys, reason: String) -> ConvertHfError {
    ConvertHfError::Vocabulary {
        path: keys.path().to_owned(),
        reason,
    }
}

fn not_scores(keys: &Keys, text: &str) -> ConvertHfError {
    let reason = format!(
        "its merges, for example those that make {text:?}, follow from no scores of tokens, which \
         is all that GGUF stores for this kind of vocabulary"
    );
    unusable(keys, reason)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::folder::Folder;
    use super::*;

    /// Scores of `<unk>`, a, b, c, ab, bc, abc with these merges.
    fn scores(merges: &str) -> Result<Vec<f32>, String> {
        let folder = tempfile::tempdir().unwrap();
        let vocab = r#"{"<unk>":0,"a":1,"b":2,"c":3,"ab":4,"bc":5,"abc":6}"#;
        let json =
            format!(r#"{{"model":{{"unk_token":"<unk>","vocab":{vocab},"merges":{merges}}}}}"#);
        std::fs::write(folder.path().join("tokenizer.json"), json).unwrap();
        let folder = Folder::open(folder.path()).map_err(|e| e.to_string())?;
        let keys = folder.json("tokenizer.json").map_err(|e| e.to_string())?;
        let keys = keys.ok_or("no file")?;
        let vocabulary = TokenizerJson::new(&keys).and_then(|t| t.vocabulary(7, &mut vec![]));
        let tokens = vocabulary.map_err(|e| e.to_string())?.tokens;
        Ok(tokens.iter().flatten().map(|t| t.score).collect())
    }

    #[test]
    fn scores_follow_from_the_order_of_the_merges_or_the_vocabulary_is_refused() {
        assert_eq!(
            scores(r#"["b c","a b","ab c","a bc"]"#).unwrap(),
            [-4.0, -4.0, -4.0, -4.0, -1.0, 0.0, -2.0]
        );
        // A token made at two times has no one score.
        let mixed = scores(r#"["b c","a bc","a b","ab c"]"#).unwrap_err();
        assert!(mixed.contains("\"abc\", follow from no scores"), "{mixed}");
        // A way to make a token that is not listed would be taken all the same.
        let fewer = scores(r#"["b c","a b","ab c"]"#).unwrap_err();
        assert!(fewer.contains("\"abc\", follow from no scores"), "{fewer}");
        let strange = scores(r#"["b c","a b","ab c","c c"]"#).unwrap_err();
        assert!(strange.contains("merge 3"), "{strange}");
    }

    /// GGUF's name of a pre-tokenizer.
    fn words(pre: Json, ignore_merges: bool) -> Option<&'static str> {
        let folder = tempfile::tempdir().unwrap();
        let model = json!({"vocab": {"a": 0}, "merges": [], "ignore_merges": ignore_merges});
        let json = json!({"model": model, "pre_tokenizer": pre}).to_string();
        std::fs::write(folder.path().join("tokenizer.json"), json).unwrap();
        let keys = Folder::open(folder.path()).unwrap().json("tokenizer.json");
        let keys = keys.unwrap().unwrap();
        let vocabulary = TokenizerJson::new(&keys)
            .unwrap()
            .vocabulary(1, &mut vec![]);
        match vocabulary.ok()?.family {
            Family::Bytes { pre, .. } => Some(pre),
            Family::Pieces { .. } => None,
        }
    }

    #[test]
    fn the_cut_into_words_is_recognised_or_refused() {
        let level = |regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": regex});
        let split = |regex: &str| {
            let pattern = json!({"Regex": regex});
            json!({"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": false})
        };
        let digits = json!({"type": "Digits", "individual_digits": true});
        let both = |first: Json, regex: bool| json!({"type": "Sequence", "pretokenizers": [first, level(regex)]});
        assert_eq!(words(level(true), false), Some("gpt-2"));
        assert_eq!(words(both(digits.clone(), true), false), Some("smollm"));
        assert_eq!(words(both(split(QWEN2), false), false), Some("qwen2"));
        assert_eq!(words(both(split(LLAMA3), false), true), Some("llama-bpe"));
        // Cut another way, merged another way, or cut twice.
        assert_eq!(words(both(split(LLAMA3), false), false), None);
        assert_eq!(words(both(split(QWEN2), false), true), None);
        assert_eq!(words(both(split(r"\w+"), false), false), None);
        assert_eq!(words(both(split(QWEN2), true), false), None);
        assert_eq!(words(both(digits, false), false), None);
        assert_eq!(words(level(false), false), None);
        assert_eq!(
            words(
                json!({"type": "ByteLevel", "add_prefix_space": true}),
                false
            ),
            None
        );
    }
}

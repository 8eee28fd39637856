//! Real vocabularies against the ids that llama.cpp's own test-suite expects, and the edges.

use std::path::PathBuf;

use super::*;
use crate::gguf::{Array, Gguf, Value};

pub(super) fn shared(path: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/data")
        .join(path);
    path.exists().then_some(path)
}

pub(super) fn from_file(path: &std::path::Path) -> Tokenizer {
    Tokenizer::from_metadata(Gguf::open(path).unwrap().metadata()).unwrap()
}

/// A small SentencePiece vocabulary: bytes, letters and a few merges.
fn small() -> Tokenizer {
    Tokenizer::from_metadata(&small_metadata()).unwrap()
}

fn small_metadata() -> Metadata {
    let mut texts: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).to_vec();
    let mut types = vec![2, 3, 3];
    texts.extend((0..=255).map(|b| format!("<0x{b:02X}>")));
    types.extend([6; 256]);
    for piece in [
        "ab",
        "\u{2581}a",
        "\u{2581}ab",
        "</",
        "</s",
        "\u{2581}",
        "a",
        "b",
        "c",
        "<",
        "/",
        "s",
        ">",
    ] {
        texts.push(piece.into());
        types.push(1);
    }
    texts.push("<mark>".into());
    types.push(4);
    let scores = (0..texts.len()).map(|i| -(i as f32)).collect();
    [
        ("tokenizer.ggml.model", Value::String("llama".into())),
        ("tokenizer.ggml.tokens", Value::Array(Array::String(texts))),
        ("tokenizer.ggml.token_type", Value::Array(Array::I32(types))),
        ("tokenizer.ggml.scores", Value::Array(Array::F32(scores))),
        ("tokenizer.ggml.bos_token_id", Value::U32(1)),
        ("tokenizer.ggml.eos_token_id", Value::U32(2)),
        ("tokenizer.ggml.padding_token_id", Value::U32(u32::MAX)),
    ]
    .into_iter()
    .collect()
}

fn texts(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
    ids.iter()
        .map(|&id| tokenizer.token_text(id).unwrap().to_owned())
        .collect()
}

#[test]
fn every_vector_of_every_vocabulary_matches() {
    for name in ["llama-spm", "llama-bpe", "phi-3", "qwen2", "gpt-2"] {
        let Some(path) = shared(&format!("tokenizers/ggml-vocab-{name}.gguf")) else {
            continue;
        };
        let tokenizer = from_file(&path);
        let read =
            |ending: &str| std::fs::read_to_string(format!("{}{ending}", path.display())).unwrap();
        let (inputs, expected) = (read(".inp"), read(".out"));
        let inputs: Vec<&str> = inputs.split("\n__ggml_vocab_test__\n").collect();
        let expected: Vec<&str> = expected.lines().collect();
        // The input file ends with a separator, so its last entry is not one.
        assert!(
            inputs.len() >= expected.len() && expected.len() > 40,
            "{name}"
        );
        for (input, expected) in inputs.iter().zip(expected) {
            let want: Vec<u32> = expected
                .split_whitespace()
                .map(|id| id.parse().unwrap())
                .collect();
            let got = tokenizer.encode(input, false, false).unwrap();
            assert_eq!(got, want, "{name}: {input:?}");
            assert_eq!(&tokenizer.decode(&got), input, "{name}");
        }
    }
}

#[test]
fn an_id_outside_the_vocabulary_is_no_token() {
    if let Some(path) = shared("gguf/stories260K.gguf") {
        let tokenizer = from_file(&path);
        assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(1), Some(2)));
        assert_eq!(tokenizer.vocab_size(), 512);
        let ids = tokenizer.encode("Once upon a time", true, false).unwrap();
        assert_eq!(ids[0], 1);
        assert_eq!(tokenizer.decode(&ids), "Once upon a time");
    }
}

#[test]
fn merges_follow_the_scores_and_bytes_spell_the_rest() {
    let t = small();
    assert_eq!(
        texts(&t, &t.encode("ab", false, false).unwrap()),
        ["\u{2581}ab"]
    );
    assert_eq!(
        texts(&t, &t.encode("é", false, false).unwrap()),
        ["\u{2581}", "<0xC3>", "<0xA9>"]
    );
    assert_eq!(t.encode("", true, false).unwrap(), [1]);
}

#[test]
fn what_a_vocabulary_without_bytes_cannot_spell_is_unknown_where_it_stands() {
    let mut metadata = small_metadata();
    let mut kinds = vec![2, 3, 3];
    kinds.extend([5; 256]);
    kinds.extend([1; 14]);
    // One byte token is left: it spells line feeds and nothing else.
    kinds[3 + 10] = 6;
    let kinds = Value::Array(Array::I32(kinds));
    metadata.insert("tokenizer.ggml.token_type", kinds);
    let t = Tokenizer::from_metadata(&metadata).unwrap();
    let ids = t.encode("ab\néa xyb", false, false).unwrap();
    let want = [
        "\u{2581}ab",
        "<0x0A>",
        "<unk>",
        "a",
        "\u{2581}",
        "<unk>",
        "<unk>",
        "b",
    ];
    assert_eq!(texts(&t, &ids), want);
    let kinds = [[1; 3].as_slice(), &[5; 256], &[1; 14]].concat();
    let kinds = Value::Array(Array::I32(kinds));
    metadata.insert("tokenizer.ggml.token_type", kinds);
    let t = Tokenizer::from_metadata(&metadata).unwrap();
    let error = t.encode("aé", false, false).unwrap_err();
    assert!(error.to_string().contains("cannot spell"), "{error}");
}

#[test]
fn control_tokens_come_only_when_asked_and_user_defined_ones_always() {
    let t = small();
    let plain = t.encode("a</s>b", false, false).unwrap();
    assert_eq!(texts(&t, &plain), ["\u{2581}a", "</s", ">", "b"]);
    let parsed = t.encode("a</s>b", false, true).unwrap();
    assert_eq!(texts(&t, &parsed), ["\u{2581}a", "</s>", "b"]);
    let legacy = small().with_blank_after_special(BlankAfterSpecial::Added);
    let parsed = legacy.encode("a</s>b", false, true).unwrap();
    assert_eq!(texts(&t, &parsed), ["\u{2581}a", "</s>", "\u{2581}", "b"]);
    let marked = t.encode("a<mark>", false, false).unwrap();
    assert_eq!(texts(&t, &marked), ["\u{2581}a", "<mark>"]);
    assert!(t.is_end(2) && !t.is_end(1));
}

#[test]
fn a_stream_hands_out_whole_characters() {
    let t = small();
    let mut stream = t.decoder();
    let byte = |b: u8| 3 + u32::from(b);
    assert_eq!(stream.push(byte(0xc3)), "");
    assert_eq!(stream.push(byte(0xa9)), "é");
    assert_eq!(stream.push(byte(0xff)), "\u{fffd}");
    assert_eq!(stream.push(byte(0xe2)), "");
    assert_eq!(stream.push(byte(0x41)), "\u{fffd}A");
    assert_eq!(stream.push(2), "");
    assert_eq!(stream.push(u32::MAX), "");
    assert_eq!(stream.push(byte(0xf0)), "");
    assert_eq!(stream.flush(), "\u{fffd}");
}

#[test]
fn vocabularies_that_contradict_themselves_are_refused() {
    let refused = |key: &str, value: Option<Value>| {
        let mut metadata = small_metadata();
        match value {
            Some(value) => metadata.insert(key, value),
            None => metadata.remove(key),
        };
        Tokenizer::from_metadata(&metadata).unwrap_err().to_string()
    };
    let scores = || Some(Value::Array(Array::F32(vec![0.0])));
    assert!(refused("tokenizer.ggml.scores", scores()).contains("1 entries"));
    assert!(refused("tokenizer.ggml.tokens", None).contains("missing"));
    assert!(
        refused(
            "tokenizer.ggml.tokens",
            Some(Value::Array(Array::String(vec![])))
        )
        .contains("0 tokens")
    );
    assert!(refused("tokenizer.ggml.model", Some(Value::String("bert".into()))).contains("bert"));
    let long = Some(Value::Array(Array::String(vec!["a".repeat(5000); 273])));
    assert!(refused("tokenizer.ggml.tokens", long).contains("token 0"));
    let types = Some(Value::Array(Array::I32(vec![1, 2])));
    assert!(refused("tokenizer.ggml.token_type", types).contains("2 entries"));
    let mut bpe = small_metadata();
    bpe.insert("tokenizer.ggml.model", Value::String("gpt2".into()));
    bpe.insert("tokenizer.ggml.pre", Value::String("nobody's".into()));
    assert!(
        Tokenizer::from_metadata(&bpe)
            .unwrap_err()
            .to_string()
            .contains("nobody's")
    );
    bpe.insert("tokenizer.ggml.pre", Value::String("gpt-2".into()));
    bpe.insert(
        "tokenizer.ggml.merges",
        Value::Array(Array::String(vec!["x y".into()])),
    );
    assert!(
        Tokenizer::from_metadata(&bpe)
            .unwrap_err()
            .to_string()
            .contains("entry 0")
    );
}

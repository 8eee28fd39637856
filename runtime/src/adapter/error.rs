//! The ways an adapter can be wrong.

use std::path::PathBuf;

use super::Generation;
use crate::gguf::GgufError;
use crate::model::Site;

/// Why an adapter could not be read, written or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // each variant's sentence names its fields
pub enum AdapterError {
    #[error(transparent)]
    Gguf(#[from] GgufError),
    #[error("{path} is not an adapter: {key} is {found:?}, {expected:?} expected")]
    NotAnAdapter {
        path: PathBuf,
        key: &'static str,
        found: String,
        expected: &'static str,
    },
    #[error("the adapter has no low-rank pairs")]
    Empty,
    #[error("the adapter has two pairs at {site}")]
    Twice { site: Site },
    #[error("adapter tensor {tensor} has no partner {partner}")]
    Half { tensor: String, partner: String },
    #[error(
        "adapter tensor {tensor} is at no place that graft adapts; nothing is silently ignored"
    )]
    UnknownTensor { tensor: String },
    #[error(
        "adapter tensor {tensor} is in the wrong file: pairs of the vision half lie in x.vision.gguf beside x.gguf, all others in x.gguf"
    )]
    OtherHalf { tensor: String },
    #[error("{path} is the vision half of an adapter; give the file that it lies beside")]
    IsCompanion { path: PathBuf },
    #[error(
        "{path} is one half of an adapter, and the other, {companion}, is not there; put them together again"
    )]
    NoCompanion { path: PathBuf, companion: PathBuf },
    #[error(
        "{companion} lies beside {path} and is the vision half of another adapter; put the right one there, or move it away"
    )]
    OtherCompanion { path: PathBuf, companion: PathBuf },
    #[error("{companion} does not hold what it was written with; the file is damaged")]
    DamagedCompanion { companion: PathBuf },
    #[error("adapter tensor {tensor} has shape {found:?}: {reason}")]
    Shape {
        tensor: String,
        found: Vec<usize>,
        reason: String,
    },
    #[error("adapter tensor {tensor} holds a value that is not finite, at index {index}")]
    NotFinite { tensor: String, index: usize },
    #[error("the adapter's scale at {site} is {scale}; its alpha or rank is wrong")]
    Scale { site: Site, scale: f32 },
    #[error("adapter {adapter} was made for {made_for}, not for {found}")]
    OtherBase {
        adapter: String,
        made_for: String,
        found: String,
    },
    #[error("adapter {adapter} (made for {made_for}) does not fit {found}: {reason}")]
    DoesNotFit {
        adapter: String,
        made_for: String,
        found: String,
        reason: String,
    },
    #[error(
        "alias {alias} already names generation {found:?}; retire it, or publish to replace it"
    )]
    AliasTaken { alias: String, found: Generation },
    #[error("no adapter is published as {alias}")]
    NoAlias { alias: String },
    #[error(
        "alias {alias} names generation {found:?}, not {expected:?}: someone else published in between; look again"
    )]
    AliasMoved {
        alias: String,
        expected: Generation,
        found: Generation,
    },
    #[error(
        "{path} has changed since it was loaded as {alias}; load it again to publish what it holds now"
    )]
    FileChanged { alias: String, path: PathBuf },
    #[error("{most} adapters are in use, which is the most the registry holds at once")]
    TooMany { most: usize },
    #[error("adapter {adapter} has the weight {weight}; give a finite number")]
    Weight { adapter: String, weight: f32 },
    #[error(
        "adapter {first} was made for {first_base} and adapter {second} for {second_base}; only adapters of one base become one"
    )]
    Bases {
        first: String,
        first_base: String,
        second: String,
        second_base: String,
    },
    #[error("in adapter {first}, but in adapter {second}; they are not of one model")]
    Widths { first: String, second: String },
    #[error("there is nothing to combine; give an adapter with a weight other than 0")]
    NoParts,
    #[error("a rank of 0 keeps nothing; choose at least 1")]
    RankZero,
    #[error("no linear layer takes rank {rank}; {most} is the most")]
    RankTooLarge { rank: usize, most: usize },
    #[error(
        "an energy of {share} cannot be kept; give a share above 0 and at most 1, such as 0.99"
    )]
    Energy { share: f64 },
    #[error("adapter {adapter} adds nothing anywhere, so nothing of it can be kept")]
    NothingLeft { adapter: String },
    #[error(
        "an adapter cannot be scaled by {factor:?}; give a number other than 0 that f32 holds beside its alpha"
    )]
    Factor { factor: f32 },
    #[error("{name:?} is no name for an adapter; it must not be empty or hold control characters")]
    Name { name: String },
    #[error("{path}: {reason}")]
    InModel { path: PathBuf, reason: String },
    #[error("{tuned} is not {base} trained further: {reason}")]
    OtherShape {
        base: PathBuf,
        tuned: PathBuf,
        reason: String,
    },
    #[error(
        "{path}: tensor {tensor} has a weight that is not finite, at index {index}; the file is damaged"
    )]
    WeightNotFinite {
        path: PathBuf,
        tensor: String,
        index: usize,
    },
    #[error(
        "{base} and {tuned} are the same in every linear layer; there is nothing for an adapter to add"
    )]
    NoDifference { base: PathBuf, tuned: PathBuf },
    #[error("{what} is not supported: {advice}")]
    Unsupported { what: String, advice: &'static str },
    #[error("{path}: {reason}")]
    InFolder { path: PathBuf, reason: String },
}

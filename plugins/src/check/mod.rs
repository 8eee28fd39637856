//! Whether a plugin keeps the rules: a suite that any component can be put through.
//!
//! A plugin that breaks a rule cannot harm its host, which stops it; but its user gets half a data set, an error
//! without a place, or a figure that is none. The suite finds that before the user does, and says to the author
//! what is wrong and what to do. `graft plugin check` shows what it finds; the plugins that ship go through it
//! as well.

mod converter;
mod damage;
mod desk;
mod evaluator;
mod schema;

use std::path::PathBuf;

use graft::dataset::Sample;
use serde::Serialize;

use crate::host::Plugin;

/// What of the author's own the plugin is tried with; without it, rules that need it are not asked.
#[derive(Clone, Debug, Default)]
pub struct With {
    /// For a converter: an export that it reads.
    pub export: Option<Export>,
    /// For an evaluator: samples whose answers it can score.
    pub samples: Vec<Sample>,
    /// Options for the export or the samples, the text of a JSON object; empty for none.
    pub options: String,
}

/// An export in memory.
#[derive(Clone, Debug)]
pub struct Export {
    /// Name of its file.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The folder of its companion files.
    pub assets: PathBuf,
}

/// What became of one rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The rule, in a few words.
    pub rule: &'static str,
    /// Whether it is kept.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// Whether a rule is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// It is.
    Kept {
        /// What was tried.
        tried: String,
    },
    /// It is not.
    Broken {
        /// What the plugin did.
        what: String,
        /// What its author can do.
        advice: &'static str,
    },
    /// It could not be tried.
    NotAsked {
        /// What is missing.
        why: &'static str,
    },
}

/// All rules of a plugin's world, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// One for each rule.
    pub rows: Vec<Row>,
}

impl Report {
    /// The rules that are broken.
    pub fn broken(&self) -> impl Iterator<Item = &Row> {
        let broken = |row: &&Row| matches!(row.verdict, Verdict::Broken { .. });
        self.rows.iter().filter(broken)
    }
}

/// Tries every rule on `plugin`.
pub fn check(plugin: &Plugin, with: &With) -> Report {
    let rows = match plugin {
        Plugin::Converter(plugin) => converter::rows(plugin, with),
        Plugin::Evaluator(plugin) => evaluator::rows(plugin, with),
    };
    Report { rows }
}

/// Says how a rule is kept, or how it is broken.
type Ruling = Result<Verdict, Broken>;

/// A broken rule.
struct Broken {
    what: String,
    advice: &'static str,
}

impl Broken {
    fn new(what: impl Into<String>, advice: &'static str) -> Self {
        let what = what.into();
        Self { what, advice }
    }
}

fn kept(tried: impl Into<String>) -> Ruling {
    let tried = tried.into();
    Ok(Verdict::Kept { tried })
}

fn row(rule: &'static str, ruling: Ruling) -> Row {
    let verdict = ruling.unwrap_or_else(|broken| Verdict::Broken {
        what: broken.what,
        advice: broken.advice,
    });
    Row { rule, verdict }
}

/// Whether a code or id is lower-case letters, digits and hyphens.
fn is_kebab(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty() && text.chars().all(plain)
}

/// The options of `with`, as the text of a JSON object.
fn options(with: &With) -> &str {
    match with.options.as_str() {
        "" => "{}",
        options => options,
    }
}

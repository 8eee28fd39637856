//! What the record of a question carries of GQA's own files.

use graft_plugin::json::{self, Dialect, Node};
use graft_plugin::{Error, Sample, Value, blanks, reference};

/// Steps that do not make a question harder: they only read off what was found.
const FINAL_STEPS: [&str; 3] = ["exist", "query: name", "choose name"];

/// The annotations of a question, as far as its record has them.
pub struct Question {
    /// Only balanced questions are scored; the others are there to be entailed.
    pub is_balanced: bool,
    /// Whether it asks for a name rather than for yes, no or one of two.
    pub is_open: Option<bool>,
    /// Whether it asks what two things have in common.
    pub is_common: bool,
    /// Steps of reasoning.
    pub steps: Option<usize>,
    /// Words of the question.
    pub words: Option<usize>,
    /// Answers of the kind that it asks for.
    pub valid: Option<Vec<String>>,
    /// Answers that would make sense.
    pub plausible: Option<Vec<String>>,
    /// The group of questions whose answers are one distribution.
    pub group: Option<String>,
    /// Other questions whose answers follow from this one's.
    pub entailed: Vec<String>,
}

impl Question {
    /// Reads the attributes of `sample`.
    ///
    /// # Errors
    /// If one of them is not what GQA's files have there.
    pub fn of(sample: &Sample) -> Result<Self, Error> {
        let texts = |name| reference::texts(sample, name);
        let first = |name| Ok(texts(name)?.and_then(|texts| texts.into_iter().next()));
        let structural: Option<String> = first("types.structural")?;
        let detailed: Option<String> = first("types.detailed")?;
        let mut entailed = texts("entailed")?.unwrap_or_default();
        entailed.retain(|id| *id != sample.id);
        let words = first("question")?.map(|text: String| blanks::words(&text).count());
        Ok(Self {
            is_balanced: first("isBalanced")?.is_none_or(|flag: String| flag != "false"),
            is_open: structural.map(|structural| structural == "query"),
            is_common: detailed.is_some_and(|detailed| detailed.contains("Common")),
            steps: steps(sample)?,
            words,
            valid: texts("valid")?,
            plausible: texts("plausible")?,
            group: first("groups.global")?,
            entailed,
        })
    }
}

/// How many steps of the program in `semantic` are more than reading off the answer.
fn steps(sample: &Sample) -> Result<Option<usize>, Error> {
    let Some(Value::Json(text)) = reference::attribute(sample, "semantic") else {
        return Ok(None);
    };
    let bad = |reason: String| {
        let message = format!("has no program in \"semantic\" ({reason})");
        reference::unusable(sample, "bad-attribute", &message)
    };
    let tree = json::parse(text, Dialect::Json).map_err(|fault| bad(fault.message))?;
    let counts = |step: Node<'_>| {
        let part = |key| step.get(key).and_then(Node::text);
        let missing = || bad("a step without operation or argument".into());
        let operation = part("operation").ok_or_else(missing)?;
        let argument = part("argument").ok_or_else(missing)?;
        let step = format!("{operation}: {argument}");
        Ok(!FINAL_STEPS.iter().any(|last| step.contains(last)))
    };
    let steps = tree.root().items();
    let counted: Vec<bool> = steps.map(counts).collect::<Result<_, Error>>()?;
    Ok(Some(counted.into_iter().filter(|&counts| counts).count()))
}

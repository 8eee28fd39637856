//! The question to the judge: a template, filled with a conversation and the answer to be judged.
//!
//! The answer may say anything, also what looks like the end of the answer and a verdict. So it stands
//! in a [`Fence`] that whoever wrote it could not know.

use graft_plugin::template::Template;
use graft_plugin::{Error, Part, Role, Sample, reference};

const PLACES: [&str; 3] = ["question", "reference", "answer"];

/// Fences that are tried before a sample is given up.
const TRIES: u64 = 8;

/// How the judge is asked.
#[derive(Clone, Debug)]
pub struct Wording(Template);

/// Two lines around an answer, with a number that stands nowhere in the question otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence(String);

impl Wording {
    /// Takes a template that shows at least the answer.
    pub fn new(template: Template) -> Result<Self, Error> {
        let template = template.with_places("template", &PLACES)?;
        let shows_answer = template.places().any(|place| place == "answer");
        match shows_answer {
            true => Ok(Self(template)),
            false => {
                let message = "/template: the judge must see the {answer}";
                Err(Error::InvalidOptions(message.into()))
            }
        }
    }

    /// What the judge is asked about the answer `said` to `sample`.
    ///
    /// # Errors
    /// If the template wants a reference and the sample has none.
    pub fn ask(
        &self,
        sample: &Sample,
        answers: &str,
        said: &str,
        seed: u64,
    ) -> Result<String, Error> {
        let question = conversation(sample);
        let wants_reference = self.0.places().any(|place| place == "reference");
        let hoped = match wants_reference {
            true => alternatives(reference::answers(sample, answers)?),
            false => String::new(),
        };
        let others = [question.as_str(), &hoped, said];
        let fence = Fence::around(&others, hash(seed, said.as_bytes()));
        let fence = fence.ok_or_else(|| {
            let message = "cannot be judged: its texts hold every mark that was to close it off";
            reference::unusable(sample, "not-judged", message)
        })?;
        let answer = fence.close(said);
        Ok(self.0.fill(|place| match place {
            "question" => Some(&question),
            "reference" => Some(&hoped),
            "answer" => Some(&answer),
            _ => None,
        }))
    }
}

impl Fence {
    /// A fence whose number is in none of `texts`; which one depends on `seed`.
    pub fn around(texts: &[&str], seed: u64) -> Option<Self> {
        let marks = (0..TRIES).map(|n| format!("{:06x}", mixed(seed.wrapping_add(n)) >> 40));
        let is_fresh = |mark: &String| !texts.iter().any(|text| text.contains(mark.as_str()));
        marks.into_iter().find(is_fresh).map(Self)
    }

    /// `text` between its two lines.
    pub fn close(&self, text: &str) -> String {
        let Self(mark) = self;
        format!("<answer {mark}>\n{text}\n</answer {mark}>")
    }
}

/// The seed of a sample's question in a run with the seed `run`: it does not depend on the samples
/// before.
pub fn seed_of(run: u64, id: &str) -> u64 {
    mixed(hash(run, id.as_bytes()))
}

/// FNV-1a over the bytes of `seed`, the lowest first, and `bytes`.
fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    let seed = seed.to_le_bytes();
    seed.iter().chain(bytes).fold(0xcbf2_9ce4_8422_2325, step)
}

/// A step of SplitMix64, whose every bit depends on every bit of `state`.
fn mixed(state: u64) -> u64 {
    let z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The question: the conversation in front of the answer hoped for. A single turn stands for itself,
/// of several each says who speaks. Instructions are for the model, not for its judge.
fn conversation(sample: &Sample) -> String {
    let turns = match sample.turns.split_last() {
        Some((last, before)) if last.role == Role::Assistant => before,
        _ => &sample.turns,
    };
    let spoken = turns.iter().filter(|turn| turn.role != Role::System);
    let texts: Vec<(Role, String)> = spoken
        .map(|turn| {
            let texts = turn.content.iter().filter_map(|part| match part {
                Part::Text(text) => Some(text.as_str()),
                Part::Image(_) => None,
            });
            (turn.role, texts.collect::<String>().trim().to_owned())
        })
        .collect();
    match texts.as_slice() {
        [(_, only)] => only.clone(),
        several => {
            let line = |(role, text): &(Role, String)| match role {
                Role::Assistant => format!("Model: {text}"),
                _ => format!("User: {text}"),
            };
            several.iter().map(line).collect::<Vec<_>>().join("\n")
        }
    }
}

/// Each answer once, in the order in which they come.
fn alternatives(answers: Vec<String>) -> String {
    let mut seen = std::collections::HashSet::new();
    let fresh = answers
        .iter()
        .map(|answer| answer.trim())
        .filter(|answer| seen.insert(*answer));
    fresh.collect::<Vec<_>>().join(" or ")
}

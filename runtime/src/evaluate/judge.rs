//! The model that an evaluator may ask: what [`EvaluateHost::generate`](super::EvaluateHost::generate)
//! does where a model was granted.

use std::time::Duration;

use super::answer::Asked;
use super::evaluator::{JudgeReply, JudgeRequest};
use super::report::{AdapterUsed, ModelUsed};
use super::{Answerer, EvaluateError, JudgeUsed};
use crate::Error;
use crate::cancel::Cancel;
use crate::dataset::{ImageRef, Part, Sample, prompt};
use crate::sampler::Sampling;

/// What errors about a question of an evaluator call it; the evaluator knows its sample's id.
const ID: &str = "(asked by the evaluator)";

/// Answers an evaluator's questions with a session of its own: judging does not disturb the model
/// under test, even if both are the same weights.
#[derive(Debug)]
pub struct Judge {
    answerer: Answerer,
    requests: u64,
    prompt_tokens: u64,
    generated_tokens: u64,
    duration: Duration,
}

impl Judge {
    /// Judges with `answerer`: its model, adapters and images. The most tokens of its options bound
    /// every reply, whatever the evaluator asks for.
    pub fn new(answerer: Answerer) -> Self {
        Self {
            answerer,
            requests: 0,
            prompt_tokens: 0,
            generated_tokens: 0,
            duration: Duration::ZERO,
        }
    }

    /// Replies to a request, greedily.
    ///
    /// # Errors
    /// [`EvaluateError::Cancelled`] if `cancel` is raised before or during the reply, and
    /// [`EvaluateError::Unsupported`] if this question cannot be put: it shows an image that it does not
    /// bring or that the model cannot see, the template refuses its turns, or the context is too short.
    pub fn generate(
        &mut self,
        request: &JudgeRequest,
        cancel: &Cancel,
    ) -> Result<JudgeReply, EvaluateError> {
        let refused = |reason: String| {
            EvaluateError::Unsupported(format!("the judge cannot reply: {reason}"))
        };
        let images = shown(request).map_err(refused)?;
        let conversation = Sample {
            turns: request.turns.clone(),
            ..Sample::default()
        };
        let asked = Asked {
            messages: prompt::messages(&conversation),
            images: &images,
            id: ID,
        };
        let wanted = usize::try_from(request.max_tokens).unwrap_or(usize::MAX);
        let max_tokens = fewer(wanted, self.answerer.options().max_tokens);
        let sampling = Sampling {
            seed: request.seed,
            ..Sampling::default()
        };
        let answer = self
            .answerer
            .reply(asked, max_tokens, sampling, cancel)
            .map_err(|error| match error {
                Error::Cancelled => EvaluateError::Cancelled,
                other => refused(other.to_string()),
            })?;
        self.requests += 1;
        self.prompt_tokens += answer.prompt_tokens as u64;
        self.generated_tokens += answer.generated_tokens as u64;
        self.duration += answer.duration;
        let count = |tokens: usize| u32::try_from(tokens).unwrap_or(u32::MAX);
        Ok(JudgeReply {
            text: answer.text,
            prompt_tokens: count(answer.prompt_tokens),
            generated_tokens: count(answer.generated_tokens),
        })
    }

    /// Who judged, and how much so far.
    pub fn used(&self) -> JudgeUsed {
        JudgeUsed {
            model: ModelUsed::of(self.answerer.model()),
            adapters: AdapterUsed::all(self.answerer.adapters()),
            requests: self.requests,
            prompt_tokens: self.prompt_tokens,
            generated_tokens: self.generated_tokens,
            seconds: self.duration.as_secs_f64(),
        }
    }
}

/// The images of a request in the order in which its turns show them.
fn shown(request: &JudgeRequest) -> Result<Vec<ImageRef>, String> {
    let parts = request.turns.iter().flat_map(|turn| &turn.content);
    let indices = parts.filter_map(|part| match part {
        Part::Image(index) => Some(*index),
        Part::Text(_) => None,
    });
    let image = |index: usize| {
        let images = request.images.len();
        let found = request.images.get(index).cloned();
        found.ok_or_else(|| format!("the question shows image {index} but has {images} images"))
    };
    indices.map(image).collect()
}

/// The smaller of two limits, of which 0 is none.
fn fewer(one: usize, other: usize) -> usize {
    match (one, other) {
        (0, limit) | (limit, 0) => limit,
        (one, other) => one.min(other),
    }
}

//! A sample as token ids and labels: the template, and LLaVA's rule for what is masked.

use super::{Part, Role, Sample};
use crate::tokenizer::{ChatTemplate, IGNORED, Message, Prompt, Tokenizer, TokenizerError};

/// Something in a sample that training should be told about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PromptWarning {
    /// A text holds a role name or an end token's text. LLaVA's label rule cannot tell rounds apart
    /// then and masks the whole sample, and so does this.
    RoleNameInText,
}

/// The conversation of a sample as messages.
pub fn messages(sample: &Sample) -> Vec<Message> {
    let turns = sample.turns.iter().map(|turn| Message {
        role: turn.role,
        images: turn
            .content
            .iter()
            .filter(|p| matches!(p, Part::Image(_)))
            .count(),
        text: turn.plain_text(),
    });
    turns.collect()
}

/// The conversation up to the last question, for the model to answer, and the reference answer.
pub fn question(sample: &Sample) -> (Vec<Message>, String) {
    let mut messages = messages(sample);
    let answer = match messages.last() {
        Some(last) if last.role == Role::Assistant => {
            messages.pop().map(|m| m.text).unwrap_or_default()
        }
        _ => String::new(),
    };
    (messages, answer)
}

/// Ids and labels of a whole sample, for training.
///
/// # Errors
/// If the template refuses the conversation or the vocabulary cannot spell it.
pub fn training(
    sample: &Sample,
    template: &ChatTemplate,
    tokenizer: &Tokenizer,
) -> Result<(Prompt, Option<PromptWarning>), TokenizerError> {
    let messages = messages(sample);
    let mut prompt = tokenizer.prompt(&template.render(&messages, false)?)?;
    let confused = template.masks_like_v1()
        && messages
            .iter()
            .any(|m| m.text.contains(" ASSISTANT: ") || m.text.contains("</s>"));
    if confused {
        prompt.labels.fill(IGNORED);
    }
    Ok((prompt, confused.then_some(PromptWarning::RoleNameInText)))
}

#[cfg(test)]
mod tests {
    use super::super::{ImageRef, Turn};
    use super::*;

    #[test]
    fn a_question_leaves_the_last_answer_out() {
        let sample = Sample {
            images: vec![ImageRef::Path("a.png".into())],
            turns: vec![
                Turn {
                    role: Role::User,
                    content: vec![Part::Image(0), Part::Text("Q".into())],
                },
                Turn::text(Role::Assistant, "A"),
            ],
            ..Sample::default()
        };
        let (asked, answer) = question(&sample);
        assert_eq!((asked.len(), asked[0].images, answer.as_str()), (1, 1, "A"));
        assert_eq!(messages(&sample).len(), 2);
    }
}

//! Which answer belongs to which question.

use graft_plugin::Error;

use crate::document::{Document, Span};
use crate::{Choices, MARKER, Remarks};

/// A question and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub question: String,
    pub answer: String,
}

/// The pairs of a document, in the order of their questions.
pub fn find(
    document: &Document,
    choices: &Choices,
    remarks: &Remarks<'_>,
) -> Result<Vec<Pair>, Error> {
    let labelled = |label: &str| -> Vec<&Span> {
        let spans = document.spans.iter();
        spans
            .filter(|span| span.label.eq_ignore_ascii_case(label))
            .collect()
    };
    let questions = labelled(&choices.question);
    let answers = labelled(&choices.answer);
    let mut answers_of: Vec<Vec<usize>> = vec![Vec::new(); questions.len()];
    let mut taken = vec![false; answers.len()];
    for relation in &document.relations {
        let wanted = |label: &String| label.eq_ignore_ascii_case(&relation.label);
        if !choices.relation.as_ref().is_none_or(wanted) {
            continue;
        }
        let at = |spans: &[&Span], token| at_token(spans, token);
        let forward = (at(&questions, relation.head), at(&answers, relation.child));
        let backward = (at(&questions, relation.child), at(&answers, relation.head));
        let (question, answer) = match (forward, backward) {
            ((Some(question), Some(answer)), _) => (question, answer),
            (_, (Some(question), Some(answer))) => {
                let message =
                    "a relation runs from the answer to the question; it is taken the other way";
                remarks.warn("ubiai-reversed-relation", message.into(), relation.at, None)?;
                (question, answer)
            }
            _ => {
                let message = format!(
                    "a relation from token {} to token {} links no {} to an {}: skipped",
                    relation.head, relation.child, choices.question, choices.answer
                );
                remarks.warn("ubiai-dangling-relation", message, relation.at, None)?;
                continue;
            }
        };
        taken[answer] = true;
        if !answers_of[question].contains(&answer) {
            answers_of[question].push(answer);
        }
    }
    if choices.nearest {
        for (question, answers_of) in questions.iter().zip(&mut answers_of) {
            let free = |&i: &usize| !taken[i] && answers[i].start >= question.start;
            if answers_of.is_empty()
                && let Some(answer) = (0..answers.len()).find(free)
            {
                taken[answer] = true;
                answers_of.push(answer);
            }
        }
    }
    let mut pairs = Vec::new();
    for (question, linked) in questions.iter().zip(&mut answers_of) {
        if linked.is_empty() {
            let message = format!("question {:?} has no answer: left out", question.text);
            remarks.warn("ubiai-orphan-question", message, question.at, None)?;
            continue;
        }
        linked.sort_by_key(|&answer| answers[answer].start);
        let texts: Vec<&str> = linked.iter().map(|&i| answers[i].text.trim()).collect();
        pairs.push(Pair {
            question: clean(question.text.trim(), question.at, remarks)?,
            answer: clean(&texts.join(" "), question.at, remarks)?,
        });
    }
    for (answer, _) in answers.iter().zip(&taken).filter(|(_, taken)| !**taken) {
        let message = format!("answer {:?} belongs to no question: left out", answer.text);
        remarks.warn("ubiai-orphan-answer", message, answer.at, None)?;
    }
    Ok(pairs)
}

/// The span that begins at a token, else the one that holds it.
fn at_token(spans: &[&Span], token: usize) -> Option<usize> {
    let place = |fits: &dyn Fn((usize, usize)) -> bool| {
        let fits = |span: &&Span| span.tokens.is_some_and(fits);
        spans.iter().position(fits)
    };
    place(&|(first, _)| first == token)
        .or_else(|| place(&|(first, last)| (first..=last).contains(&token)))
}

/// Takes image markers out: in a conversation they would stand for an image.
fn clean(text: &str, at: usize, remarks: &Remarks<'_>) -> Result<String, Error> {
    if !text.contains(MARKER) {
        return Ok(text.to_owned());
    }
    let message = format!("the text holds {MARKER}, which is taken out");
    remarks.warn("ubiai-image-marker", message, at, None)?;
    Ok(text.replace(MARKER, "").trim().to_owned())
}

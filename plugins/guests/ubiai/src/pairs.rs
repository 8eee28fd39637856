//! Which answer belongs to which question.

use std::borrow::Cow;

use graft_plugin::Error;

use crate::area::Area;
use crate::document::{Document, Span};
use crate::{Choices, MARKER, Remarks};

/// A question and its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    pub question: String,
    pub answer: String,
    /// The page of the question.
    pub page: usize,
    /// Where the question and the first span of the answer stand, if the export says it.
    pub areas: [Option<Area>; 2],
    /// Where the question stands in the record.
    pub at: usize,
}

impl Pair {
    /// Whether one of its areas leaves an image of this size.
    pub fn leaves(&self, width: u32, height: u32) -> bool {
        let mut areas = self.areas.iter().flatten();
        areas.any(|area| area.leaves(width, height))
    }

    /// Writes its areas as JSON.
    pub fn write_boxes(&self, out: &mut String) {
        for (name, area) in ["{\"question\":", ",\"answer\":"].iter().zip(&self.areas) {
            out.push_str(name);
            match area {
                Some(area) => area.write(out),
                None => out.push_str("null"),
            }
        }
        out.push('}');
    }
}

/// The pairs of a document, in the order of their questions.
pub fn find(
    document: &Document<'_>,
    choices: &Choices,
    remarks: &Remarks<'_>,
) -> Result<Vec<Pair>, Error> {
    let labelled = |label: &str| -> (Vec<&Span<'_>>, Vec<usize>) {
        let spans = document.spans.iter().enumerate();
        spans
            .filter(|(_, span)| span.label.eq_ignore_ascii_case(label))
            .map(|(place, span)| (span, place))
            .unzip()
    };
    // Beside each its place in reading order.
    let (questions, question_places) = labelled(&choices.question);
    let (answers, answer_places) = labelled(&choices.answer);
    let mut answers_of: Vec<Vec<usize>> = vec![Vec::new(); questions.len()];
    let mut taken = vec![false; answers.len()];
    for relation in &document.relations {
        let wanted = |label: &String| label.eq_ignore_ascii_case(relation.label);
        if !choices.relation.as_ref().is_none_or(wanted) {
            continue;
        }
        let link = |question, answer| -> Option<(usize, usize)> {
            Some((at_token(&questions, question)?, at_token(&answers, answer)?))
        };
        let (question, answer) = if let Some(forward) = link(relation.head, relation.child) {
            forward
        } else if let Some(backward) = link(relation.child, relation.head) {
            let message =
                "a relation runs from the answer to the question; it is taken the other way";
            remarks.warn("ubiai-reversed-relation", message.into(), relation.at, None)?;
            backward
        } else {
            let message = format!(
                "a relation from token {} to token {} links no {} to an {}: skipped",
                relation.head, relation.child, choices.question, choices.answer
            );
            remarks.warn("ubiai-dangling-relation", message, relation.at, None)?;
            continue;
        };
        taken[answer] = true;
        if !answers_of[question].contains(&answer) {
            answers_of[question].push(answer);
        }
    }
    if choices.nearest {
        for (place, answers_of) in question_places.iter().zip(&mut answers_of) {
            let free = |&i: &usize| !taken[i] && answer_places[i] > *place;
            if answers_of.is_empty()
                && let Some(answer) = (0..answers.len()).find(free)
            {
                taken[answer] = true;
                answers_of.push(answer);
            }
        }
    }
    let mut pairs = Vec::with_capacity(questions.len());
    for (question, linked) in questions.iter().zip(&mut answers_of) {
        if linked.is_empty() {
            let message = format!("question {:?} has no answer: left out", question.text);
            remarks.warn("ubiai-orphan-question", message, question.at, None)?;
            continue;
        }
        linked.sort_unstable();
        let text = |&answer: &usize| answers[answer].text.trim();
        let answer = match linked.as_slice() {
            [only] => Cow::Borrowed(text(only)),
            several => several
                .iter()
                .map(text)
                .collect::<Vec<_>>()
                .join(" ")
                .into(),
        };
        pairs.push(Pair {
            question: clean(question.text.trim(), question.at, remarks)?,
            answer: clean(&answer, question.at, remarks)?,
            page: question.page,
            areas: [question.area, answers[linked[0]].area],
            at: question.at,
        });
    }
    for (answer, _) in answers.iter().zip(&taken).filter(|(_, taken)| !**taken) {
        let message = format!("answer {:?} belongs to no question: left out", answer.text);
        remarks.warn("ubiai-orphan-answer", message, answer.at, None)?;
    }
    Ok(pairs)
}

/// The span that begins at a token, else the one that holds it.
fn at_token(spans: &[&Span<'_>], token: usize) -> Option<usize> {
    let place = |fits: &dyn Fn((usize, usize)) -> bool| {
        let fits = |span: &&Span<'_>| span.tokens.is_some_and(fits);
        spans.iter().position(fits)
    };
    place(&|(first, _)| first == token)
        .or_else(|| place(&|(first, last)| (first..=last).contains(&token)))
}

/// Takes image markers out: in a conversation they would stand for an image.
fn clean(text: &str, at: usize, remarks: &Remarks<'_>) -> Result<String, Error> {
    // The byte is looked for faster than the word.
    if !text.as_bytes().contains(&b'<') || !text.contains(MARKER) {
        return Ok(text.to_owned());
    }
    let message = format!("the text holds {MARKER}, which is taken out");
    remarks.warn("ubiai-image-marker", message, at, None)?;
    Ok(text.replace(MARKER, "").trim().to_owned())
}

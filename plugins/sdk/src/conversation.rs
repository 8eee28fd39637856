//! A conversation as an export has it, brought into the order that training needs: at most one system
//! prompt, then questions and answers in turn.

use crate::remarks::{Remarks, Trouble, skip};
use crate::{ImageRef, Part, Role, Sample, Turn, Value};

/// What stands for an image in a text.
pub const MARKER: &str = "<image>";

/// A conversation being put together.
#[derive(Debug, Default)]
pub struct Conversation {
    images: Vec<ImageRef>,
    turns: Vec<Spoken>,
    /// What else the sample says of itself.
    pub extra: Vec<(String, Value)>,
}

#[derive(Debug)]
struct Spoken {
    role: Role,
    parts: Vec<Part>,
    at: usize,
    field: String,
}

impl Conversation {
    /// Nothing said yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an image; what a turn shows of it.
    pub fn image(&mut self, image: ImageRef) -> Part {
        self.images.push(image);
        Part::Image((self.images.len() - 1) as u32)
    }

    /// Adds a turn; `at` and `field` are where the export has it.
    pub fn say(&mut self, role: Role, parts: Vec<Part>, at: usize, field: impl Into<String>) {
        self.turns.push(Spoken {
            role,
            parts,
            at,
            field: field.into(),
        });
    }

    /// Adds a turn of text.
    pub fn text(&mut self, role: Role, text: &str, at: usize, field: impl Into<String>) {
        self.say(role, vec![Part::Text(text.to_owned())], at, field);
    }

    /// Shows `images` where the questions have the marker `<image>`. Without any marker they are shown
    /// before the first question; a single image is shown at its first marker.
    pub fn show_at_markers(
        &mut self,
        images: Vec<ImageRef>,
        remarks: &Remarks<'_>,
        at: usize,
    ) -> Result<(), Trouble> {
        let marked = |turn: &Spoken| -> usize {
            let texts = turn.parts.iter().map(|part| match part {
                Part::Text(text) if turn.role == Role::User => text.matches(MARKER).count(),
                _ => 0,
            });
            texts.sum()
        };
        let markers: usize = self.turns.iter().map(marked).sum();
        let count = images.len();
        if markers == 0 && count > 0 {
            let Some(first) = self.turns.iter().position(|turn| turn.role == Role::User) else {
                return Ok(());
            };
            let message = "no text shows the image; it is shown before the first question";
            remarks.note("image-without-marker", message, at, "")?;
            let shown: Vec<Part> = images.into_iter().map(|image| self.image(image)).collect();
            self.turns[first].parts.splice(0..0, shown);
            return Ok(());
        }
        if markers != count && (count != 1 || markers == 0) {
            let message = format!("{markers} markers {MARKER} for {count} images: record skipped");
            return Err(skip("marker-count", message, at, ""));
        }
        if markers > count {
            let message = format!("{markers} markers for one image; it is shown at the first");
            remarks.note("repeated-marker", message, at, "")?;
        }
        self.images.extend(images);
        let mut next = 0;
        for turn in self.turns.iter_mut().filter(|turn| turn.role == Role::User) {
            let parts = std::mem::take(&mut turn.parts);
            for part in parts {
                match part {
                    Part::Text(text) if text.contains(MARKER) => {
                        for (i, piece) in text.split(MARKER).enumerate() {
                            if i > 0 && next < count {
                                turn.parts.push(Part::Image(next as u32));
                                next += 1;
                            }
                            // The marker stands in a line of its own; the image does not.
                            let piece = piece.strip_prefix('\n').unwrap_or(piece);
                            let piece = piece.strip_suffix('\n').unwrap_or(piece);
                            turn.parts.push(Part::Text(piece.to_owned()));
                        }
                    }
                    part => turn.parts.push(part),
                }
            }
        }
        Ok(())
    }

    /// The sample, with `system` as its system prompt if it has none of its own. What keeps it from
    /// being one, or had to be left out, is told with its place; `at` is the record's.
    pub fn finish(
        self,
        id: String,
        system: Option<&str>,
        remarks: &Remarks<'_>,
        at: usize,
    ) -> Result<Sample, Trouble> {
        let mut turns: Vec<Spoken> = Vec::with_capacity(self.turns.len() + 1);
        for mut turn in self.turns {
            tidy(&mut turn, remarks)?;
            let (place, field) = (turn.at, turn.field.as_str());
            let shows = turn.parts.iter().any(|part| matches!(part, Part::Image(_)));
            if shows && turn.role != Role::User {
                let message = "an image outside of a question: record skipped";
                return Err(skip("image-outside-question", message, place, field));
            }
            if turn.parts.is_empty() {
                if turn.role == Role::System {
                    continue;
                }
                let message = "a turn without text: record skipped";
                return Err(skip("empty-turn", message, place, field));
            }
            match turns.last_mut() {
                None if turn.role == Role::Assistant => {
                    let message = "an answer before any question: left out";
                    remarks.note("leading-answer", message, place, field)?;
                }
                Some(last) if turn.role == Role::System && last.role != Role::System => {
                    let message = "a system prompt in the middle: record skipped";
                    return Err(skip("late-system", message, place, field));
                }
                Some(last) if last.role == Role::System && turn.role == Role::Assistant => {
                    let message = "an answer before any question: left out";
                    remarks.note("leading-answer", message, place, field)?;
                }
                Some(last) if last.role == turn.role => {
                    let message = "the same side speaks twice: joined to one turn";
                    remarks.note("joined-turns", message, place, field)?;
                    let mut parts = turn.parts.into_iter();
                    match (last.parts.last_mut(), parts.next()) {
                        (Some(Part::Text(before)), Some(Part::Text(text))) => {
                            before.push('\n');
                            before.push_str(&text);
                        }
                        (_, first) => last.parts.extend(first),
                    }
                    last.parts.extend(parts);
                }
                _ => turns.push(turn),
            }
        }
        if let Some(last) = turns.pop_if(|turn| turn.role == Role::User) {
            let message = "the last question has no answer: left out";
            remarks.note("trailing-question", message, last.at, &last.field)?;
        }
        if !turns.iter().any(|turn| turn.role == Role::Assistant) {
            let message = "no question with an answer: record skipped";
            return Err(skip("no-answer", message, at, ""));
        }
        let mut turns: Vec<Turn> = turns
            .into_iter()
            .map(|turn| Turn {
                role: turn.role,
                content: turn.parts,
            })
            .collect();
        if let Some(system) = system
            && turns[0].role != Role::System
        {
            let content = vec![Part::Text(system.to_owned())];
            let role = Role::System;
            turns.insert(0, Turn { role, content });
        }
        let images = only_shown(self.images, &mut turns);
        Ok(Sample {
            id,
            images,
            turns,
            origin: Some((remarks.locate)(at, None)),
            extra: self.extra,
        })
    }
}

/// Takes markers, outer blanks and empty texts out of a turn.
fn tidy(turn: &mut Spoken, remarks: &Remarks<'_>) -> Result<(), Trouble> {
    merge_texts(&mut turn.parts);
    let mut marked = false;
    for part in &mut turn.parts {
        if let Part::Text(text) = part
            && text.contains(MARKER)
        {
            *text = text.replace(MARKER, "");
            marked = true;
        }
    }
    if marked {
        let message = format!("the text holds {MARKER}, which is taken out");
        remarks.note("image-marker", message, turn.at, &turn.field)?;
    }
    if let Some(Part::Text(text)) = turn.parts.first_mut() {
        *text = text.trim_start().to_owned();
    }
    if let Some(Part::Text(text)) = turn.parts.last_mut() {
        *text = text.trim_end().to_owned();
    }
    turn.parts
        .retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
    Ok(())
}

/// Makes neighbouring texts one.
fn merge_texts(parts: &mut Vec<Part>) {
    let mut merged: Vec<Part> = Vec::with_capacity(parts.len());
    for part in parts.drain(..) {
        match (merged.last_mut(), part) {
            (Some(Part::Text(before)), Part::Text(text)) => before.push_str(&text),
            (_, part) => merged.push(part),
        }
    }
    *parts = merged;
}

/// The images that the turns show, in the order in which they do; the turns then count into these.
fn only_shown(images: Vec<ImageRef>, turns: &mut [Turn]) -> Vec<ImageRef> {
    let mut left: Vec<Option<ImageRef>> = images.into_iter().map(Some).collect();
    let mut numbers: Vec<Option<u32>> = vec![None; left.len()];
    let mut shown = Vec::new();
    for part in turns.iter_mut().flat_map(|turn| &mut turn.content) {
        if let Part::Image(index) = part {
            let old = *index as usize;
            if let Some(image) = left.get_mut(old).and_then(Option::take) {
                numbers[old] = Some(shown.len() as u32);
                shown.push(image);
            }
            *index = numbers.get(old).copied().flatten().unwrap_or(*index);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Location;
    use crate::place::Place;
    use crate::testing::{Desk, texts};

    fn locate(at: usize, field: Option<&str>) -> Location {
        Location {
            field: field.map(str::to_owned),
            ..Place::START.after(&vec![b' '; at]).location("x")
        }
    }

    /// Texts of the sample made of `said` and `images`, or why there is none; and the remarks.
    fn made(
        said: &[(Role, &str)],
        images: usize,
    ) -> (Result<Vec<String>, &'static str>, Vec<String>) {
        let desk = Desk::default();
        let remarks = Remarks {
            scope: "x",
            host: &desk,
            locate: &locate,
        };
        let mut conversation = Conversation::new();
        for (i, (role, text)) in said.iter().enumerate() {
            conversation.text(*role, text, i, "");
        }
        let image = |i| ImageRef::Asset(format!("{i}.png"));
        let images = (0..images).map(image).collect();
        let shown = conversation.show_at_markers(images, &remarks, 0);
        let sample = shown.and_then(|()| conversation.finish("a".into(), Some("sys"), &remarks, 0));
        let result = match sample {
            Ok(sample) => Ok(texts(&sample).iter().map(|&t| t.to_owned()).collect()),
            Err(Trouble::Skip(skip)) => Err(skip.code),
            Err(Trouble::Stop(_)) => Err("stop"),
        };
        (result, desk.codes())
    }

    #[test]
    fn turns_are_brought_into_order_and_every_change_is_told() {
        use Role::{Assistant as A, System as S, User as U};
        let made = |said: &[(Role, &str)]| made(said, 0);
        let good = |texts: &[&str]| Ok(texts.iter().map(|&t| t.to_owned()).collect());
        assert_eq!(
            made(&[(U, " q "), (A, "a")]),
            (good(&["sys", "q", "a"]), vec![])
        );
        assert_eq!(
            made(&[(S, "own"), (U, "q"), (A, "a")]).0,
            good(&["own", "q", "a"])
        );
        assert_eq!(
            made(&[(S, " "), (U, "q"), (A, "a")]).0,
            good(&["sys", "q", "a"])
        );
        let (sample, remarks) = made(&[(A, "hi"), (U, "q"), (U, "r"), (A, "a"), (U, "s")]);
        assert_eq!(sample, good(&["sys", "q\nr", "a"]));
        assert_eq!(
            remarks,
            ["x-leading-answer", "x-joined-turns", "x-trailing-question"]
        );
        for (said, code) in [
            (&[(U, "q"), (S, "late"), (A, "a")][..], "late-system"),
            (&[(U, "q"), (A, " \n")], "empty-turn"),
            (&[(U, "q")], "no-answer"),
            (&[(S, "s"), (A, "a")], "no-answer"),
            (&[], "no-answer"),
            (&[(U, "<image> q"), (A, "a")], "marker-count"),
        ] {
            assert_eq!(made(said).0, Err(code), "{said:?}");
        }
    }

    #[test]
    fn images_stand_where_their_markers_stood() {
        use Role::{Assistant as A, User as U};
        let text = |said: &[(Role, &str)], images| made(said, images).0.map(|t| t[1..].join("|"));
        let q = |text| [(U, text), (A, "a")];
        let good = |text: &str| Ok(text.to_owned());
        assert_eq!(text(&q("<image>\nq"), 1), good("[image]|q|a"));
        assert_eq!(text(&q("q\n<image>"), 1), good("q|[image]|a"));
        assert_eq!(
            text(&q("is <image> like <image>?"), 2),
            good("is |[image]| like |[image]|?|a")
        );
        assert_eq!(text(&q("q"), 1), good("[image]|q|a"));
        assert_eq!(text(&q("<image><image>q"), 1), good("[image]|q|a"));
        assert_eq!(text(&q("<image>q"), 2), Err("marker-count"));
        assert_eq!(text(&[(U, "q"), (A, "a <image>")], 0), good("q|a"));
        let two = [(U, "<image>q"), (A, "a"), (U, "<image>r")];
        assert_eq!(text(&two, 2), good("[image]|q|a"));
    }
}

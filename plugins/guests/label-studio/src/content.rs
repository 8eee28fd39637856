//! What a task shows: text, images, and perhaps a question of its own.

use graft_plugin::ImageRef;
use graft_plugin::images::percent_decoded;
use graft_plugin::json::Node;
use graft_plugin::remarks::{Remarks, Trouble, skip};

use crate::Choices;

const TEXT: [&str; 9] = [
    "text", "document", "content", "body", "passage", "context", "sentence", "review", "article",
];
const IMAGE: [&str; 6] = ["image", "images", "img", "photo", "picture", "image_url"];
const QUESTION: [&str; 4] = ["question", "prompt", "query", "instruction"];
const ENDINGS: [&str; 8] = [
    ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff",
];

/// The fields of a task's data that are shown.
pub struct Content<'n> {
    pub text: Option<(&'n str, &'n str)>,
    pub question: Option<&'n str>,
    data: Node<'n>,
    images: Vec<(&'n str, Node<'n>)>,
}

impl<'n> Content<'n> {
    /// Finds them in `data`.
    pub fn of(data: Node<'n>, choices: &'n Choices, place: &str) -> Result<Self, Trouble> {
        let text = |name: &'n str| {
            let text = data.get(name)?.text()?;
            (!text.trim().is_empty()).then_some((name, text))
        };
        let by_name = IMAGE
            .iter()
            .find(|name| data.get(name).is_some_and(|n| !names(n).is_empty()));
        let shown = match &choices.image_field {
            Some(name) => Some(name.as_str()),
            None => by_name.copied().or_else(|| by_look(data)),
        };
        let images = match shown {
            None => Vec::new(),
            Some(name) => {
                let found = data.get(name).map(names).unwrap_or_default();
                if found.is_empty() && choices.image_field.is_some() {
                    let message = format!("the data has no image {name}: task skipped");
                    return Err(skip("no-content", message, data.at(), place));
                }
                found.into_iter().map(|image| (name, image)).collect()
            }
        };
        let taken = |name: &str| images.iter().any(|(image, _)| *image == name);
        let found = match &choices.text_field {
            Some(name) => match text(name) {
                Some(found) => Some(found),
                None => {
                    let message = format!("the data has no text {name}: task skipped");
                    return Err(skip("no-content", message, data.at(), place));
                }
            },
            None => TEXT.into_iter().filter(|name| !taken(name)).find_map(text),
        };
        let question = QUESTION.into_iter().find_map(text).map(|(_, text)| text);
        if found.is_none() && question.is_none() && images.is_empty() {
            let message =
                "the data has neither text nor image; say text_field or image_field: task skipped";
            return Err(skip("no-content", message, data.at(), place));
        }
        Ok(Self {
            text: found,
            question,
            data,
            images,
        })
    }

    /// The text or number of a field of the data.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.data.get(name).and_then(Node::name)
    }

    /// Whether `name` is shown, so that it is not an answer.
    pub fn has(&self, name: &str) -> bool {
        let text = self.text.is_some_and(|(text, _)| text == name);
        text || QUESTION.contains(&name) || self.images.iter().any(|(image, _)| *image == name)
    }

    /// The images themselves.
    pub fn images(
        &self,
        choices: &Choices,
        place: &str,
        remarks: &Remarks<'_>,
    ) -> Result<Vec<ImageRef>, Trouble> {
        let find = |(field, node): &(&str, Node<'_>)| {
            let name = local(node.text().unwrap_or_default());
            let field = format!("{place}/{field}");
            choices.images.find(&name, remarks.host, node.at(), &field)
        };
        self.images.iter().map(find).collect()
    }
}

/// The texts of a field: one, or those of an array.
fn names<'n>(node: Node<'n>) -> Vec<Node<'n>> {
    let named = |node: &Node<'_>| node.text().is_some_and(|text| !text.trim().is_empty());
    node.each().filter(named).collect()
}

/// The field whose text ends as image files do.
fn by_look<'n>(data: Node<'n>) -> Option<&'n str> {
    let looks = |text: &str| {
        let path = text
            .split(['#', '&'])
            .next()
            .unwrap_or_default()
            .to_lowercase();
        let bare = path.split('?').next().unwrap_or_default();
        let one_line = !path.contains('\n') && path.len() < 2000;
        let ends = |path: &str| ENDINGS.iter().any(|ending| path.ends_with(ending));
        one_line && (ends(&path) || ends(bare))
    };
    let mut found = data
        .members()
        .filter(|(_, node)| node.text().is_some_and(looks));
    found.next().map(|(name, _)| name)
}

/// The file that Label Studio's address means: uploads lie under `/data/upload/<project>/`, local files
/// are named in `?d=`, those of a bucket by their key.
fn local(name: &str) -> String {
    if let Some((_, rest)) = name.split_once("/data/local-files/?d=") {
        return percent_decoded(rest.split('&').next().unwrap_or_default());
    }
    if let Some((_, rest)) = name.split_once("/data/upload/") {
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let project = rest.split('/').next().unwrap_or_default();
        let numbered = !project.is_empty() && project.bytes().all(|b| b.is_ascii_digit());
        let file = match numbered {
            true => &rest[(project.len() + 1).min(rest.len())..],
            false => rest,
        };
        return percent_decoded(file);
    }
    for bucket in ["s3://", "gs://", "azure-blob://"] {
        if let Some(rest) = name.strip_prefix(bucket) {
            return rest.split_once('/').map_or("", |(_, key)| key).to_owned();
        }
    }
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::local;

    #[test]
    fn addresses_become_files() {
        for (name, file) in [
            ("/data/upload/3/ab12-a%20b.png", "ab12-a b.png"),
            ("http://localhost:8080/data/upload/3/a.png?x=1", "a.png"),
            ("/data/upload/a.png", "a.png"),
            ("/data/local-files/?d=scans/a%2Fb.png", "scans/a/b.png"),
            ("s3://bucket/in/a.png", "in/a.png"),
            ("gs://bucket", ""),
            ("/data/upload/7", ""),
            ("a.png", "a.png"),
            ("https://h/a.png", "https://h/a.png"),
        ] {
            assert_eq!(local(name), file, "{name}");
        }
    }
}

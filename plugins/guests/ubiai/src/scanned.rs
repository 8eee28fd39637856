//! Scans with tagged words: what OCR projects export for LayoutLM. Of files that are called alike,
//! `x.txt` has a word and its tag in every line, and `x_image.txt` the same words with their boxes, the
//! size of the page and its image; or `x_box.txt` the words with their boxes alone. A blank line ends a
//! page in all of them.

use graft_plugin::records::Record;
use graft_plugin::{Error, Host, Source};

use crate::Remarks;
use crate::area::Area;

/// What the files beside `x.txt` are called, the more telling first.
const BESIDE: [&str; 2] = ["_image.txt", "_box.txt"];

/// What is known of a page's words.
#[derive(Debug, Default, PartialEq)]
pub struct Page {
    /// Box of each word; none where it is no box.
    pub areas: Vec<Option<Area>>,
    /// The image of the page.
    pub image: Option<String>,
}

/// The file beside `name` that has the boxes of its words.
///
/// # Errors
/// If the user stops.
pub fn beside(name: &str, host: &dyn Host) -> Result<Option<Box<dyn Source>>, Error> {
    let name = name.rsplit(['/', '\\']).next().unwrap_or(name);
    let Some(stem) = name.strip_suffix(".txt") else {
        return Ok(None);
    };
    for ending in BESIDE {
        match host.open_asset(&format!("{stem}{ending}")) {
            Ok(source) => return Ok(Some(source)),
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            Err(_) => {}
        }
    }
    Ok(None)
}

/// Boxes and image of the words of `tagged`, from the page of the other file; none, and a remark, if
/// that page has other words.
pub fn page(
    tagged: &Record,
    other: Option<&Record>,
    remarks: &Remarks<'_>,
) -> Result<Option<Page>, Error> {
    let mut lines = other.map_or("", Record::text).lines();
    let mut page = Page::default();
    for line in tagged.text().lines() {
        let mut fields = lines.next().unwrap_or_default().trim_end().split('\t');
        if fields.next() != Some(word(line)) {
            let message = format!(
                "the word {:?} is not where the boxes of the page are: no sample",
                word(line)
            );
            remarks.warn("ubiai-other-words", message, 0, None)?;
            return Ok(None);
        }
        page.areas.push(fields.next().and_then(area));
        let image = fields.nth(1).map(str::trim).filter(|name| !name.is_empty());
        if page.image.is_none() {
            page.image = image.map(str::to_owned);
        }
    }
    let lost = page.areas.iter().filter(|area| area.is_none()).count();
    if lost > 0 {
        let message = format!("{lost} of the page's words have no box of four numbers");
        remarks.warn("ubiai-bad-box", message, 0, None)?;
    }
    Ok(Some(page))
}

fn word(line: &str) -> &str {
    let line = line.trim_end();
    line.split_once('\t').map_or(line, |(word, _)| word)
}

/// Four numbers between blanks.
fn area(text: &str) -> Option<Area> {
    let mut numbers = text.split_whitespace().map(|n| n.parse::<f64>().ok());
    let mut next = || numbers.next().flatten();
    let corners = [next()?, next()?, next()?, next()?];
    numbers.next().is_none().then(|| Area::between(corners))?
}

#[cfg(test)]
mod tests {
    use graft_plugin::testing::{self, Desk, Memory, Samples};
    use graft_plugin::{Converter, Error, Summary};

    use crate::Ubiai;

    const TAGGED: &str = "What\tB-QUESTION\nis\tI-QUESTION\nit\tE-QUESTION\n7\tS-ANSWER\n\nWho\tS-QUESTION\nAna\tS-ANSWER\n";
    const SEEN: &str = "What\t1 2 3 4\t200 100\ta\\1.png\nis\t4 2 5 4\t200 100\ta\\1.png\nit\t6 1 7 4\t200 100\ta\\1.png\n\
                        7\t1 6 2 7\t200 100\ta\\1.png\n\nWho\t1 1 2 2\t200 100\ta\\2.png\nAna\t3 3 4 4\t200 100\ta\\2.png\n";

    struct Outcome {
        summary: Result<Summary, Error>,
        samples: Samples,
        desk: Desk,
    }

    fn convert(tagged: &[u8], beside: &[(&str, &[u8])], options: &str) -> Outcome {
        let files = beside
            .iter()
            .map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec()));
        let desk = Desk {
            files: files.collect(),
            ..Desk::default()
        };
        let mut samples = Samples::default();
        let mut source = Memory::new("some/where/x.txt", tagged, 7);
        let summary = Ubiai::convert(&mut source, &mut samples, options, &desk);
        Outcome {
            summary,
            samples,
            desk,
        }
    }

    fn fault(outcome: &Outcome) -> &str {
        match &outcome.summary {
            Err(Error::InvalidInput(fault)) => &fault.code,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_page_is_a_sample_with_its_image_and_the_boxes_around_its_spans() {
        for options in ["{}", r#"{"notation": "ocr"}"#] {
            let beside = [
                ("x_image.txt", SEEN.as_bytes()),
                ("x_box.txt", &b"none"[..]),
            ];
            let outcome = convert(TAGGED.as_bytes(), &beside, options);
            assert_eq!(outcome.desk.codes(), [""; 0]);
            let samples = &outcome.samples.0;
            assert_eq!(samples.len(), 2);
            assert_eq!(testing::texts(&samples[0]), ["[image]", "What is it", "7"]);
            assert_eq!(samples[0].id, "a/1.png");
            let boxes = r#"[{"question":[1,1,7,4],"answer":[1,6,2,7]}]"#;
            let extra = format!("{:?}", samples[0].extra);
            assert!(extra.contains(&format!("{boxes:?}")), "{extra}");
        }
    }

    #[test]
    fn without_boxes_the_tags_are_read_as_a_text() {
        let outcome = convert(TAGGED.as_bytes(), &[], "{}");
        assert_eq!(outcome.samples.0.len(), 1);
        let texts = testing::texts(&outcome.samples.0[0]);
        assert_eq!(texts, ["What is it", "7", "Who", "Ana"]);
        let outcome = convert(TAGGED.as_bytes(), &[], r#"{"notation": "ocr"}"#);
        assert_eq!(fault(&outcome), "ubiai-no-boxes");
    }

    #[test]
    fn an_archive_is_named_with_what_to_do() {
        let outcome = convert(b"PK\x03\x04\x14\0\0\0u\\u_box.txt", &[], "{}");
        assert_eq!(fault(&outcome), "ubiai-archive");
        assert!(Ubiai::detect(b"PK\x03\x04u\\u_box.txt", "a.zip") > 50);
        assert_eq!(Ubiai::detect(b"PK\x03\x04word/document.xml", "a.docx"), 0);
    }

    #[test]
    fn no_damage_to_either_file_makes_a_sample_of_other_words() {
        let whole = convert(TAGGED.as_bytes(), &[("x_image.txt", SEEN.as_bytes())], "{}");
        let whole: Vec<_> = whole
            .samples
            .0
            .iter()
            .map(|s| testing::texts(s).concat())
            .collect();
        for at in 0..SEEN.len() {
            for piece in [&b""[..], b"\n", b"\t", b"\xff", b"-1e999 ", b"\n\n", b"\0"] {
                let mut bytes = SEEN.as_bytes()[..at].to_vec();
                bytes.extend_from_slice(piece);
                let cut = bytes.clone();
                bytes.extend_from_slice(&SEEN.as_bytes()[at..]);
                for beside in [cut, bytes] {
                    let outcome = convert(TAGGED.as_bytes(), &[("x_image.txt", &beside)], "{}");
                    let said = outcome.samples.0.iter().map(|s| testing::texts(s).concat());
                    for said in said {
                        let bare = said.replace("[image]", "");
                        let known = whole.iter().any(|w| w.replace("[image]", "") == bare);
                        assert!(known, "{at}: {said}");
                    }
                    match outcome.summary {
                        Ok(summary) => {
                            assert_eq!(summary.samples as usize, outcome.samples.0.len());
                            assert!(summary.skipped == 0 || !outcome.desk.codes().is_empty());
                        }
                        Err(Error::InvalidInput(fault)) => assert!(fault.at.is_some()),
                        Err(error) => panic!("{error:?}"),
                    }
                }
            }
        }
    }
}

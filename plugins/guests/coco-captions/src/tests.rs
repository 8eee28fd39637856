//! The converter on files in memory.

use graft_plugin::testing::{Outcome, convert, survives_damage};
use graft_plugin::{Converter, ImageRef};

use super::CocoCaptions;

const FIXTURE: &[u8] = include_bytes!("../../../../tests/golden/plugins/coco-captions/export.json");

fn run(export: &str, options: &str) -> Outcome {
    convert::<CocoCaptions>(export.as_bytes(), options, &[])
}

fn file(images: &str, annotations: &str) -> String {
    format!(r#"{{"info": {{"year": 2017}}, "images": [{images}], "annotations": [{annotations}]}}"#)
}

const IMAGE: &str = r#"{"license": 5, "file_name": "a.jpg", "height": 1, "width": 1, "id": 57870}"#;
const CAPTION: &str = r#"{"image_id": 57870, "id": 1, "caption": " A cat. "}"#;

#[test]
fn every_caption_is_a_sample() {
    let outcome = run(&file(IMAGE, CAPTION), "{}");
    assert_eq!(outcome.counts(), (1, 1, 0));
    assert_eq!(
        outcome.texts(0),
        ["[image]", "Describe the image.", "A cat."]
    );
    assert_eq!(outcome.samples[0].id, "1");
    let two = format!("{CAPTION}, {}", CAPTION.replace("\"id\": 1", "\"id\": 2"));
    let options =
        r#"{"questions": ["What is it?", "Say it."], "system": "s", "image_root": "val2017"}"#;
    let outcome = run(&file(IMAGE, &two), options);
    assert_eq!(outcome.texts(0), ["s", "[image]", "What is it?", "A cat."]);
    assert_eq!(outcome.texts(1), ["s", "[image]", "Say it.", "A cat."]);
    assert!(
        matches!(&outcome.samples[0].images[0], ImageRef::Asset(name) if name == "val2017/a.jpg")
    );
    let first = run(
        &file(IMAGE, &two),
        r#"{"captions": "first", "questions": "Q"}"#,
    );
    assert_eq!(first.counts(), (2, 1, 1));
    assert_eq!(first.codes(), ["coco-captions-further-caption"]);
    let url = IMAGE.replace(
        "\"file_name\": \"a.jpg\"",
        "\"coco_url\": \"http://h/b.jpg\"",
    );
    let outcome = run(&file(&url, CAPTION), "{}");
    assert!(matches!(&outcome.samples[0].images[0], ImageRef::Asset(name) if name == "b.jpg"));
}

#[test]
fn annotations_may_stand_before_the_images() {
    let text = format!(r#"{{"annotations": [{CAPTION}], "categories": [], "images": [{IMAGE}]}}"#);
    assert_eq!(run(&text, "{}").counts(), (1, 1, 0));
}

#[test]
fn what_is_of_no_use_is_named_and_the_next_is_read() {
    for (bad, code, field) in [
        ("7", "coco-captions-no-image", None),
        (r#"{"caption": "x"}"#, "coco-captions-no-image", None),
        (
            r#"{"image_id": 57870, "bbox": [1, 2, 3, 4]}"#,
            "coco-captions-no-caption",
            None,
        ),
        (
            r#"{"image_id": 57870, "caption": " "}"#,
            "coco-captions-no-caption",
            Some("/caption"),
        ),
        (
            r#"{"image_id": 57870, "caption": ["x"]}"#,
            "coco-captions-no-caption",
            Some("/caption"),
        ),
        (
            r#"{"image_id": 8, "caption": "x"}"#,
            "coco-captions-unknown-image",
            Some("/image_id"),
        ),
        (
            r#"{"image_id": 9, "caption": "x"}"#,
            "coco-captions-missing-image",
            Some("/image_id"),
        ),
        (r#"{"image_id": }"#, "malformed-json", None),
    ] {
        let images = format!(r#"{IMAGE}, {{"id": 9, "file_name": "missing.jpg"}}"#);
        let outcome = run(&file(&images, &format!("{bad}, {CAPTION}")), "{}");
        assert_eq!(outcome.counts(), (2, 1, 1), "{bad}");
        assert_eq!(
            outcome.codes(),
            [code, "coco-captions-image-without-caption"],
            "{bad}"
        );
        let at = outcome.remarks[0].at.as_ref().unwrap();
        assert_eq!(
            (at.record_index, at.field.as_deref()),
            (Some(0), field),
            "{bad}"
        );
        assert_eq!(
            outcome.remarks[1].at.as_ref().unwrap().record_index,
            Some(1)
        );
    }
    for bad in [r#"{"id": 1}"#, r#"{"file_name": "b.jpg"}"#, "[]"] {
        let outcome = run(&file(&format!("{bad}, {IMAGE}"), CAPTION), "{}");
        assert_eq!(
            (outcome.counts(), outcome.codes()),
            ((1, 1, 0), vec!["coco-captions-bad-image"])
        );
    }
    let outcome = run(&file(&format!("{IMAGE}, {IMAGE}"), CAPTION), "{}");
    assert_eq!(outcome.codes(), ["coco-captions-duplicate-image"]);
    assert_eq!(run("[]", "{}").fault(), Some("malformed-json"));
    assert!(run("{}", r#"{"questions": [""]}"#).summary.is_err());
    assert_eq!(run("{}", "{}").counts(), (0, 0, 0));
}

#[test]
fn only_captions_are_recognised() {
    assert_eq!(CocoCaptions::detect(FIXTURE, "a.json"), 95);
    let large = format!(r#"{{"info": {{}}, "images": [{IMAGE}, {{"lic"#);
    assert_eq!(
        CocoCaptions::detect(large.as_bytes(), "captions_val2017.json"),
        85
    );
    assert_eq!(
        CocoCaptions::detect(large.as_bytes(), "instances_val2017.json"),
        50
    );
    let instances = file(IMAGE, r#"{"image_id": 1, "bbox": []}"#);
    for other in ["", "[]", "{}", &instances] {
        assert_eq!(
            CocoCaptions::detect(other.as_bytes(), "captions.json"),
            0,
            "{other}"
        );
    }
}

#[test]
fn no_damage_is_silent() {
    survives_damage::<CocoCaptions>(FIXTURE, "{}", &[]);
}

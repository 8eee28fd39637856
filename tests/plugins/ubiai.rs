//! UBIAI's exports as they come, and as they should not.

use std::path::Path;

use graft::dataset::{ConvertError, ImageRef, Part, Role, Sample, Severity};
use serde_json::{Value, json};

use super::desk::{self, Desk, converters, texts};

/// Converts with every build of the plugin, which must agree.
fn convert(
    export: &str,
    options: &str,
    assets: &Path,
) -> (
    Result<graft::dataset::Summary, ConvertError>,
    Vec<Sample>,
    Vec<String>,
) {
    let mut results = converters("ubiai").into_iter().map(|ubiai| {
        let desk = Desk::new(assets);
        let (summary, samples) = desk::convert(&ubiai, export, options, &desk);
        (summary, samples, desk.codes())
    });
    let first = results.next().unwrap();
    for other in results {
        assert_eq!((&first.1, &first.2), (&other.1, &other.2));
        assert_eq!(first.0.is_ok(), other.0.is_ok());
    }
    first
}

/// A folder with tiny images of these names.
fn images(names: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let png = std::fs::read(desk::digits().join("held-out/images/digit_0458.png")).unwrap();
    for name in names {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, &png).unwrap();
    }
    folder
}

/// A span of `text` in `document`, its tokens counted by blanks.
fn span(document: &str, text: &str, label: &str) -> Value {
    let at = document.find(text).unwrap();
    let start = document[..at].chars().count();
    let first = document[..at].split_whitespace().count();
    let last = first + text.split_whitespace().count() - 1;
    json!({"text": text, "start": start, "end": start + text.chars().count(),
           "token_start": first, "token_end": last, "entityLabel": label})
}

/// A document in which each question is linked to its answer.
fn document(name: &str, pairs: &[(&str, &str)]) -> Value {
    let text: Vec<String> = pairs.iter().map(|(q, a)| format!("{q} {a}")).collect();
    let text = text.join(" ");
    let (mut spans, mut relations) = (vec![], vec![]);
    for (question, answer) in pairs {
        let (q, a) = (
            span(&text, question, "QUESTION"),
            span(&text, answer, "ANSWER"),
        );
        relations.push(json!({"head": q["token_start"], "child": a["token_start"],
                              "relationLabel": "ANSWERED_BY"}));
        spans.extend([q, a]);
    }
    json!({"document": text, "documentName": name, "tokens": spans, "relations": relations})
}

const INVOICE: [(&str, &str); 2] = [("Total due?", "42.00 EUR"), ("Customer?", "Ana Lima")];

#[test]
fn the_desk_is_asked_once_for_an_image_that_is_there_and_again_for_one_that_is_not() {
    let folder = images(&["a.png", "b.png"]);
    let names = ["a.png", "c.png", "a.png", "b.png", "c.png", "b.png"];
    let export: Vec<Value> = names.iter().map(|name| document(name, &INVOICE)).collect();
    let export = json!(export).to_string();
    for ubiai in converters("ubiai") {
        let desk = Desk::new(folder.path());
        let (_, samples) = desk::convert(&ubiai, &export, "{}", &desk);
        let probed = desk.probed.take();
        assert_eq!(samples.len(), 4);
        assert_eq!(probed, ["a.png", "c.png", "b.png", "c.png"]);
    }
}

#[test]
fn the_demo_exports_give_a_sample_for_every_image() {
    for (set, count) in [("train", 1400), ("held-out", 200)] {
        let folder = desk::digits().join(set);
        let export = std::fs::read_to_string(folder.join("export.json")).unwrap();
        let (summary, samples, remarks) = convert(&export, "{}", &folder.join("images"));
        let summary = summary.unwrap();
        assert_eq!(
            (summary.records, summary.samples, summary.skipped),
            (count, count, 0)
        );
        assert_eq!(remarks, [""; 0]);
        let records: Vec<Value> = serde_json::from_str(&export).unwrap();
        for (sample, record) in samples.iter().zip(&records) {
            let name = record["documentName"].as_str().unwrap();
            assert_eq!(sample.images, [ImageRef::Path(name.into())]);
            let text = |i: usize| record["tokens"][i]["text"].as_str().unwrap();
            assert_eq!(texts(sample), ["[image]", text(0), text(1)]);
            let roles: Vec<Role> = sample.turns.iter().map(|t| t.role).collect();
            assert_eq!(roles, [Role::User, Role::Assistant]);
        }
        // Beside the export, the images are in a folder that the user names.
        let options = r#"{"image_prefix": "images/"}"#;
        let (_, prefixed, _) = convert(&export, options, &folder);
        assert_eq!(prefixed.len() as u64, count);
        let Some(ImageRef::Path(path)) = prefixed[0].images.first() else {
            panic!("the first sample shows no image");
        };
        assert!(path.starts_with("images"));
    }
}

#[test]
fn several_questions_make_one_conversation_or_one_sample_each() {
    let folder = images(&["invoice.png"]);
    let export = json!([document("invoice.png", &INVOICE)]).to_string();
    let (_, samples, remarks) = convert(&export, "{}", folder.path());
    assert_eq!(remarks, [""; 0]);
    assert_eq!(
        texts(&samples[0]),
        [
            "[image]",
            "Total due?",
            "42.00 EUR",
            "Customer?",
            "Ana Lima"
        ]
    );
    let (_, each, _) = convert(&export, r#"{"turns": "pair"}"#, folder.path());
    assert_eq!(each.len(), 2);
    assert_eq!(texts(&each[1]), ["[image]", "Customer?", "Ana Lima"]);
    assert_eq!(
        (each[0].id.as_str(), each[1].id.as_str()),
        ("invoice.png#1", "invoice.png#2")
    );
    let at = samples[0].origin.as_ref().unwrap();
    assert_eq!(
        (at.source.as_str(), at.line, at.record_index),
        ("export.json", Some(1), Some(0))
    );
}

#[test]
fn a_document_of_several_pages_gives_a_sample_for_each_page_with_its_image() {
    let folder = images(&[
        "scan_1.png",
        "scan_2.png",
        "scan_20.png",
        "p/first.png",
        "p/second.png",
    ]);
    let mut scan = document("scan.pdf", &INVOICE);
    for (i, page) in [(0, 1), (1, 1), (2, 2), (3, 2)] {
        scan["tokens"][i]["pageNumber"] = json!(page);
    }
    let (_, samples, remarks) = convert(&json!([scan]).to_string(), "{}", folder.path());
    assert_eq!(remarks, [""; 0]);
    let seen: Vec<_> = samples
        .iter()
        .map(|s| {
            (
                s.id.as_str(),
                s.images.clone(),
                texts(s)[1],
                s.extra["page"].as_u64(),
            )
        })
        .collect();
    let image = |name: &str| vec![ImageRef::Path(name.into())];
    assert_eq!(
        seen,
        [
            (
                "scan.pdf#page-1",
                image("scan_1.png"),
                "Total due?",
                Some(1)
            ),
            ("scan.pdf#page-2", image("scan_2.png"), "Customer?", Some(2))
        ]
    );
    // The export may name the images itself.
    scan["pages"] =
        json!([{"page": 2, "image": "p/second.png"}, {"page": 1, "image": "p\\first.png"}]);
    let (_, samples, _) = convert(&json!([scan]).to_string(), "{}", folder.path());
    assert_eq!(samples[0].images, image("p/first.png"));
    assert_eq!(samples[1].images, image("p/second.png"));
    // A page without image is said and left out; the other stays.
    scan["pages"] = Value::Null;
    scan["tokens"][2]["pageNumber"] = json!(3);
    scan["tokens"][3]["pageNumber"] = json!(3);
    let (summary, samples, remarks) = convert(&json!([scan]).to_string(), "{}", folder.path());
    assert_eq!((samples.len(), summary.unwrap().skipped), (1, 0));
    assert_eq!(remarks, ["ubiai-missing-image"]);
}

#[test]
fn boxes_are_kept_checked_and_repaired() {
    let folder = images(&["form.png"]);
    let mut form = document("form.png", &INVOICE);
    form["tokens"][0]["boundingBox"] = json!({"x": 10, "y": 20, "width": 30, "height": 5});
    // Drawn from right to left.
    form["tokens"][1]["boundingBox"] = json!([90, 25, 50, 20]);
    let (_, samples, remarks) = convert(&json!([form]).to_string(), "{}", folder.path());
    assert_eq!(remarks, [""; 0]);
    assert_eq!(
        samples[0].extra["boxes"],
        json!([{"question": [10, 20, 40, 25], "answer": [50, 20, 90, 25]},
               {"question": null, "answer": null}])
    );
    form["tokens"][2]["bbox"] = json!([0, 0, 5000, 10]);
    form["tokens"][3]["bbox"] = json!(["a", 0, 1, 1]);
    let (_, samples, remarks) = convert(&json!([form]).to_string(), "{}", folder.path());
    assert_eq!(remarks, ["ubiai-bad-box", "ubiai-box-outside-image"]);
    assert_eq!(samples[0].turns.len(), 4, "the questions stay");
    // Without offsets the order on the page decides.
    let bare = json!({"documentName": "form.png", "annotation": [
        {"label": "ANSWER", "text": "below", "box": [0, 30, 9, 40]},
        {"label": "QUESTION", "text": "above?", "box": [0, 10, 9, 20]}]});
    let (_, samples, _) = convert(
        &bare.to_string(),
        r#"{"pairing": "nearest"}"#,
        folder.path(),
    );
    assert_eq!(texts(&samples[0]), ["[image]", "above?", "below"]);
}

#[test]
fn what_is_not_linked_is_named_and_left_out() {
    let folder = images(&["a.png"]);
    let mut lonely = document("a.png", &INVOICE);
    lonely["relations"].as_array_mut().unwrap().pop();
    let export = json!([lonely]).to_string();
    let (_, samples, remarks) = convert(&export, "{}", folder.path());
    assert_eq!(texts(&samples[0]), ["[image]", "Total due?", "42.00 EUR"]);
    assert_eq!(remarks, ["ubiai-orphan-question", "ubiai-orphan-answer"]);
    let (_, samples, remarks) = convert(&export, r#"{"pairing": "nearest"}"#, folder.path());
    assert_eq!((samples[0].turns.len(), remarks.len()), (4, 0));

    let mut unanswered = document("a.png", &INVOICE[..1]);
    unanswered["tokens"].as_array_mut().unwrap().pop();
    let export = json!([unanswered]).to_string();
    let (summary, samples, remarks) = convert(&export, "{}", folder.path());
    assert_eq!((summary.unwrap().skipped, samples.len()), (1, 0));
    assert_eq!(
        remarks,
        [
            "ubiai-dangling-relation",
            "ubiai-orphan-question",
            "ubiai-no-pairs"
        ]
    );
}

#[test]
fn documents_of_one_name_get_different_ids() {
    let folder = images(&["a.png"]);
    let same = document("a.png", &INVOICE[..1]);
    let export = json!([same, same, same]).to_string();
    let (_, samples, remarks) = convert(&export, "{}", folder.path());
    let ids: Vec<&str> = samples.iter().map(|s| s.id.as_str()).collect();
    assert_eq!(ids, ["a.png", "a.png~2", "a.png~3"]);
    assert_eq!(remarks, ["ubiai-duplicate-id", "ubiai-duplicate-id"]);
    assert!(
        samples
            .iter()
            .all(|s| s.images == [ImageRef::Path("a.png".into())])
    );
}

#[test]
fn offsets_count_characters_or_utf16_units_whichever_fits() {
    let text = "Größe 😀? riesig 中文? 是";
    let folder = images(&[]);
    let by_characters = json!([{"document": text, "annotation": [
        {"start": 0, "end": 8, "label": "question"}, {"start": 9, "end": 15, "label": "answer"},
        {"start": 16, "end": 19, "label": "question"}, {"start": 20, "end": 21, "label": "answer"}]}]);
    let options = r#"{"pairing": "nearest"}"#;
    let (_, samples, remarks) = convert(&by_characters.to_string(), options, folder.path());
    assert_eq!(texts(&samples[0]), ["Größe 😀?", "riesig", "中文?", "是"]);
    assert_eq!(remarks, [""; 0]);
    let by_units = json!([{"document": text, "annotation": [
        {"start": 0, "end": 9, "label": "question", "text": "Größe 😀?"},
        {"start": 10, "end": 16, "label": "answer", "text": "riesig"}]}]);
    let (_, samples, remarks) = convert(&by_units.to_string(), options, folder.path());
    assert_eq!(texts(&samples[0]), ["Größe 😀?", "riesig"]);
    assert_eq!(remarks, [""; 0]);
    let neither = by_units.to_string().replace("riesig\"", "winzig\"");
    let (_, samples, remarks) = convert(&neither, options, folder.path());
    assert_eq!(remarks, ["ubiai-text-mismatch"]);
    assert_eq!(texts(&samples[0])[1], "winzig");
}

#[test]
fn python_lists_and_lines_of_json_are_recognised() {
    let folder = images(&[]);
    let options = r#"{"pairing": "nearest"}"#;
    let python = "[('Who? Me \\'n you', {'entities': [(0, 4, 'QUESTION'), (5, 14, 'ANSWER')]})]";
    let (_, samples, _) = convert(python, options, folder.path());
    assert_eq!(texts(&samples[0]), ["Who?", "Me 'n you"]);
    let line = |name: &str| document(name, &INVOICE[..1]).to_string();
    let (summary, samples, _) = convert(
        &format!("{}\n{}\n", line("a"), line("b")),
        "{}",
        folder.path(),
    );
    assert_eq!((summary.unwrap().records, samples.len()), (2, 2));
}

#[test]
fn tagged_tokens_and_prompts_are_recognised() {
    let folder = images(&[]);
    let tagged =
        "-DOCSTART- -X- O O\r\n\r\nTotal\tB-QUESTION\r\ndue\tI-QUESTION\r\n42\tS-ANSWER\r\n";
    let (_, samples, remarks) = convert(tagged, "{}", folder.path());
    assert_eq!(texts(&samples[0]), ["Total due", "42"]);
    assert_eq!(remarks, [""; 0]);
    let prompts = json!([{"system_prompt": "Be brief.", "user_prompt": "Sum up.", "input": "A long text.",
                          "response": "Short."}]);
    let (_, samples, remarks) = convert(&prompts.to_string(), "{}", folder.path());
    assert_eq!(
        texts(&samples[0]),
        ["Be brief.", "Sum up.\nA long text.", "Short."]
    );
    assert_eq!(remarks, [""; 0]);
}

#[test]
fn a_fault_in_the_json_is_named_by_line_and_column() {
    let folder = images(&[]);
    let deep = format!("[{}{}]", "[".repeat(100_000), "]".repeat(100_000));
    for (export, line, column) in [
        ("[\n {\"document\": \"x\",\n  \"tokens\": [}]\n}]", 3, 14),
        ("[{\"document\": \"x\" \"tokens\": []}]", 1, 19),
        ("[{\"document\": \"x\", \"tokens\": [],}]", 1, 33),
        ("[{\"document\": \"never ends", 1, 2),
        ("[{\"document\": 1}\n,\n nope]", 3, 2),
        ("", 1, 1),
        (deep.as_str(), 1, 130),
    ] {
        let (result, samples, _) = convert(export, "{}", folder.path());
        let short: String = export.chars().take(40).collect();
        let Err(ConvertError::InvalidInput(fault)) = result else {
            panic!("{short}: {result:?}");
        };
        assert_eq!(fault.severity, Severity::Error);
        let at = fault.at.unwrap();
        assert_eq!(
            (at.line, at.column),
            (Some(line), Some(column)),
            "{short}: {}",
            fault.message
        );
        assert!(samples.is_empty());
    }
}

#[test]
fn numbers_that_are_none_spoil_only_their_span() {
    let folder = images(&[]);
    let export = r#"[{"document": "Who? Me", "documentName": "n", "annotation": [
        {"start": 0, "end": 4, "label": "QUESTION", "score": NaN, "box": [NaN, -Infinity, 1e999, 3]},
        {"start": NaN, "end": 7, "label": "ANSWER"},
        {"start": 99999999999999999999, "end": 7, "label": "ANSWER"},
        {"start": 7, "end": 5, "label": "ANSWER"},
        {"start": 5, "end": 7, "label": "ANSWER"}]}]"#;
    let (summary, samples, remarks) = convert(export, r#"{"pairing": "nearest"}"#, folder.path());
    assert_eq!(summary.unwrap().samples, 1);
    assert_eq!(texts(&samples[0]), ["Who?", "Me"]);
    assert_eq!(
        remarks,
        [
            "ubiai-bad-box",
            "ubiai-bad-span",
            "ubiai-bad-span",
            "ubiai-bad-span"
        ]
    );
}

#[test]
fn an_image_outside_of_the_export_is_never_shown() {
    let folder = images(&["inside/a.png", "a.png"]);
    let inside = folder.path().join("inside");
    std::os::unix::fs::symlink("../a.png", inside.join("link.png")).unwrap();
    for name in [
        "../a.png",
        "/etc/a.png",
        "C:\\a.png",
        "link.png",
        "b.png",
        "a.png/../a.png",
    ] {
        let export = json!([document(name, &INVOICE)]).to_string();
        let (summary, samples, remarks) = convert(&export, "{}", &inside);
        assert_eq!((summary.unwrap().skipped, samples.len()), (1, 0), "{name}");
        assert_eq!(remarks, ["ubiai-missing-image"], "{name}");
    }
}

#[test]
fn markers_in_texts_do_not_become_images() {
    let folder = images(&["a.png"]);
    let mut marked = document("a.png", &[("Is <image> there?", "yes <image>")]);
    marked["document"] = json!("Is <image> there? yes <image>");
    let (_, samples, remarks) = convert(&json!([marked]).to_string(), "{}", folder.path());
    assert_eq!(remarks, ["ubiai-image-marker", "ubiai-image-marker"]);
    let shown = |s: &Sample| {
        s.turns
            .iter()
            .flat_map(|t| &t.content)
            .filter(|p| matches!(p, Part::Image(_)))
            .count()
    };
    assert_eq!(shown(&samples[0]), 1);
    assert!(texts(&samples[0]).iter().all(|t| !t.contains("<image>")));
}

#[test]
fn a_large_export_takes_no_more_memory_than_its_largest_record() {
    let folder = images(&[]);
    let record = document("note", &INVOICE).to_string();
    let records = 60_000;
    let export = format!("[{}]", vec![record.as_str(); records].join(",\n"));
    let limits = graft_plugins::Limits {
        memory_bytes: 12 << 20,
        ..Default::default()
    };
    assert!(export.len() > 24 << 20);
    let host = graft_plugins::Host::new(limits, None).unwrap();
    let ubiai = host.load(Path::new("ubiai"), &Default::default()).unwrap();
    let desk = Desk::new(folder.path());
    let (summary, samples) = desk::convert(&ubiai.into_converter().unwrap(), &export, "{}", &desk);
    assert_eq!(summary.unwrap().samples as usize, records);
    assert_eq!(samples.len(), records);
    let ids = samples.iter().map(|s| s.id.as_str());
    assert_eq!(ids.collect::<std::collections::HashSet<_>>().len(), records);
    // Of the same remark, as many as people read, and the number of the rest.
    assert_eq!(desk.codes().len(), 101);
    let last = desk.remarks.borrow().last().unwrap().message.clone();
    assert_eq!(last, format!("and {} more of this kind", records - 1 - 100));
}

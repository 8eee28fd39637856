//! Names of files: VQA's own, and those of COCO's images.

use graft_plugin::Error;
use graft_plugin::options::Options;
use graft_plugin::template::Template;

/// How images are called.
pub struct ImageNames {
    template: Template,
    chosen: Option<String>,
    /// What the file says, else what its name says.
    subtype: Option<String>,
}

impl ImageNames {
    /// What the user chose; `file` is the name of the export.
    pub fn chosen(options: &Options<'_>, file: &str) -> Result<Self, Error> {
        let text = options.text("image_name")?;
        let text = text.unwrap_or("COCO_{subtype}_{image_id}.jpg");
        let places = ["subtype", "image_id", "id"];
        Ok(Self {
            template: Template::parse("image_name", text)?.with_places("image_name", &places)?,
            chosen: options.text("subtype")?.map(str::to_owned),
            subtype: subtype_in(file),
        })
    }

    /// The file says `data_subtype`.
    pub fn found(&mut self, subtype: Option<&str>) {
        if let Some(subtype) = subtype
            && self.subtype.as_deref() != Some(subtype)
        {
            self.subtype = Some(subtype.to_owned());
        }
    }

    /// The name of an image; `None` if it needs a subtype and there is none.
    pub fn of(&self, id: &str) -> Option<String> {
        let padded = match id.parse::<u64>() {
            Ok(number) => format!("{number:012}"),
            Err(_) => id.to_owned(),
        };
        let subtype = self.chosen.as_deref().or(self.subtype.as_deref());
        // The images of test-dev2015 are some of test2015.
        let subtype = subtype.map(|subtype| match subtype.strip_prefix("test-dev") {
            Some(year) => format!("test{year}"),
            None => subtype.to_owned(),
        });
        if subtype.is_none() && self.template.places().any(|place| place == "subtype") {
            return None;
        }
        Some(self.template.fill(|place| match place {
            "subtype" => subtype.as_deref(),
            "image_id" => Some(&padded),
            _ => Some(id),
        }))
    }
}

/// `train2014` in `v2_OpenEnded_mscoco_train2014_questions.json`.
fn subtype_in(file: &str) -> Option<String> {
    let mut words = file.split(['_', '.']);
    let found = words.find(|word| {
        let name = ["train", "val", "test-dev", "test"].iter();
        let mut years = name.filter_map(|name| word.strip_prefix(name));
        years.any(|year| year.len() == 4 && year.bytes().all(|b| b.is_ascii_digit()))
    });
    found.map(str::to_owned)
}

/// What VQA calls the file beside `file`.
pub fn companion(file: &str) -> Option<String> {
    let file = file.rsplit('/').next()?;
    if file.contains("questions") {
        let bare = file
            .replace("OpenEnded_", "")
            .replace("MultipleChoice_", "");
        return Some(bare.replace("questions", "annotations"));
    }
    let questions = file
        .contains("annotations")
        .then(|| file.replace("annotations", "questions"))?;
    // Only VQA's own names say that questions are open-ended.
    match questions.split_once("mscoco_") {
        Some((front, rest)) => Some(format!("{front}OpenEnded_mscoco_{rest}")),
        None => Some(questions),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_images_are_called_as_vqa_does() {
        let questions = "v2_OpenEnded_mscoco_train2014_questions.json";
        let annotations = "v2_mscoco_train2014_annotations.json";
        assert_eq!(companion(questions).as_deref(), Some(annotations));
        assert_eq!(companion(annotations).as_deref(), Some(questions));
        assert_eq!(
            companion("my_annotations.json").as_deref(),
            Some("my_questions.json")
        );
        assert_eq!(companion("export.json"), None);
        assert_eq!(subtype_in(questions).as_deref(), Some("train2014"));
        assert_eq!(
            subtype_in("x_test-dev2015_q.json").as_deref(),
            Some("test-dev2015")
        );
        assert_eq!(subtype_in("train.json"), None);
        let options = Options::parse("{}", &["image_name", "subtype"]).unwrap();
        let mut names = ImageNames::chosen(&options, "q.json").unwrap();
        assert_eq!(names.of("9"), None);
        names.found(Some("test-dev2015"));
        assert_eq!(
            names.of("9").as_deref(),
            Some("COCO_test2015_000000000009.jpg")
        );
        let options = r#"{"image_name": "{id}/{subtype}.png", "subtype": "x"}"#;
        let options = Options::parse(options, &["image_name", "subtype"]).unwrap();
        let names = ImageNames::chosen(&options, "q.json").unwrap();
        assert_eq!(names.of("a9").as_deref(), Some("a9/x.png"));
    }
}

//! Images as exports name them: file names, paths of another machine, URLs, and `data:` URLs that
//! hold the image itself.

use crate::options::Options;
use crate::remarks::{Trouble, skip};
use crate::{Error, Host, ImageRef};

/// How the user has the images of an export found; see [`Images::OPTIONS`].
#[derive(Clone, Debug, Default)]
pub struct Images {
    root: String,
    strip: String,
    unchecked: bool,
}

impl Images {
    /// The options, which a converter's schema has to list.
    pub const OPTIONS: [&'static str; 3] = ["image_root", "image_strip", "check_images"];

    /// What the user chose.
    pub fn chosen(options: &Options<'_>) -> Result<Self, Error> {
        let text = |name| options.text(name).map(|t| t.unwrap_or_default().to_owned());
        let mut root = text("image_root")?;
        if !root.is_empty() && !root.ends_with('/') {
            root.push('/');
        }
        Ok(Self {
            root,
            strip: text("image_strip")?,
            unchecked: !options.flag("check_images", true)?,
        })
    }

    /// The image that the export calls `name`; `at` and `field` are where it does so.
    pub fn find(
        &self,
        name: &str,
        host: &dyn Host,
        at: usize,
        field: &str,
    ) -> Result<ImageRef, Trouble> {
        if let Some(rest) = scheme(name, "data:") {
            let bytes = data_url(rest).map_err(|reason| skip("image-data", reason, at, field))?;
            return Ok(ImageRef::Encoded(bytes));
        }
        let file = self.file(name);
        if let Some(reason) = refused(&file) {
            let message = format!(
                "the image {:?} {reason}; image_strip takes the front of names off: record skipped",
                shortened(name)
            );
            return Err(skip("image-name", message, at, field));
        }
        if !self.unchecked {
            match host.probe_image(&file) {
                Ok(_) => {}
                Err(error @ (Error::Cancelled | Error::LimitExceeded(_))) => {
                    return Err(Trouble::Stop(error));
                }
                Err(_) => {
                    let file = shortened(&file);
                    let message = format!(
                        "the image {file} is missing or no image: record skipped; image_root names \
                         its folder, check_images=false takes it unseen"
                    );
                    return Err(skip("missing-image", message, at, field));
                }
            }
        }
        Ok(ImageRef::Asset(file))
    }

    /// The file within the export's folder that `name` means.
    fn file(&self, name: &str) -> String {
        let web = |name| scheme(name, "http://").or(scheme(name, "https://"));
        let stripped = |name: &str| match self.strip.is_empty() {
            true => None,
            // What is left of a path may begin with the bar behind its folder.
            false => Some(
                name.strip_prefix(self.strip.as_str())?
                    .trim_start_matches('/')
                    .to_owned(),
            ),
        };
        let local = scheme(name, "file://").unwrap_or(name);
        let name = match (stripped(name).or_else(|| stripped(local)), web(name)) {
            (Some(rest), _) => rest,
            // What stands on another machine must lie here under its last name.
            (None, Some(rest)) => {
                let path = rest.split(['?', '#']).next().unwrap_or_default();
                percent_decoded(path.rsplit('/').next().unwrap_or_default())
            }
            (None, None) => local.to_owned(),
        };
        let name = name.replace('\\', "/");
        let mut name = name.as_str();
        while let Some(rest) = name.strip_prefix("./") {
            name = rest.trim_start_matches('/');
        }
        // A bar in front must stay one: behind the root it would no longer be seen.
        match name.starts_with('/') {
            true => name.to_owned(),
            false => format!("{}{name}", self.root),
        }
    }
}

fn scheme<'n>(name: &'n str, scheme: &str) -> Option<&'n str> {
    let (front, rest) = name.split_at_checked(scheme.len())?;
    front.eq_ignore_ascii_case(scheme).then_some(rest)
}

/// Why a name is no file within the export.
fn refused(file: &str) -> Option<&'static str> {
    if file.is_empty() || file.ends_with('/') {
        return Some("names no file");
    }
    if file.starts_with('/') {
        return Some("is an absolute path");
    }
    let bad = |part: &str| matches!(part, "" | "." | "..") || part.contains(['\\', ':', '\0']);
    file.split('/')
        .any(bad)
        .then_some("is not a name within the export's folder")
}

/// A name for people: names may be megabytes of something else.
fn shortened(name: &str) -> String {
    const LONGEST: usize = 200;
    match name.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

/// `text` with its `%20` and the like read; what is no escape, or would be no text, stays.
pub fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let digit = |i: usize| char::from(*bytes.get(i)?).to_digit(16);
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((16 * high + low) as u8);
                at += 3;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

/// The image in a URL behind its `data:`.
fn data_url(rest: &str) -> Result<Vec<u8>, String> {
    let (kind, content) = rest.split_once(',').ok_or("a data: URL without a comma")?;
    let kind = kind.to_ascii_lowercase();
    if !kind.split(';').any(|word| word.trim() == "base64") {
        return Err("a data: URL that is not base64".into());
    }
    let bytes = base64(content)?;
    match bytes.starts_with(b"\x89PNG\r\n\x1a\n") || bytes.starts_with(b"\xff\xd8\xff") {
        true => Ok(bytes),
        false => Err("a data: URL that holds neither a PNG nor a JPEG image".into()),
    }
}

/// The bytes that `text` writes in base64, of either alphabet.
fn base64(text: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held, mut digits) = (0u32, 0, 0usize);
    let text = text.trim_ascii_end();
    let text = text
        .strip_suffix("==")
        .or(text.strip_suffix('='))
        .unwrap_or(text);
    for byte in text.bytes().filter(|b| !b.is_ascii_whitespace()) {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return Err("a data: URL with a character that is not base64".into()),
        };
        bits = bits << 6 | u32::from(value);
        (held, digits) = (held + 6, digits + 1);
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    match digits % 4 {
        1 => Err("a data: URL whose base64 is cut off".into()),
        _ => Ok(out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Desk;

    fn found(options: &str, name: &str) -> Result<String, &'static str> {
        let options = Options::parse(options, &Images::OPTIONS).unwrap();
        let images = Images::chosen(&options).unwrap();
        match images.find(name, &Desk::default(), 0, "") {
            Ok(ImageRef::Asset(name)) => Ok(name),
            Ok(ImageRef::Encoded(bytes)) => Ok(format!("{} bytes", bytes.len())),
            Ok(ImageRef::AssetPage(_)) => Err("a page"),
            Err(Trouble::Skip(skip)) => Err(skip.code),
            Err(Trouble::Stop(_)) => Err("stop"),
        }
    }

    #[test]
    fn names_become_files_within_the_export() {
        for (options, name, file) in [
            ("{}", "a b.png", "a b.png"),
            ("{}", ".//in/a.png", "in/a.png"),
            ("{}", "in\\a.png", "in/a.png"),
            (
                "{}",
                "https://example.org/x/a%20b.png?size=9#top",
                "a b.png",
            ),
            (r#"{"image_root": "pics"}"#, "a.png", "pics/a.png"),
            (r#"{"image_root": "pics/"}"#, "HTTP://h/a.png", "pics/a.png"),
            (r#"{"image_strip": "/data/in"}"#, "/data/in/a.png", "a.png"),
            (r#"{"image_strip": "/data"}"#, "file:///data/a.png", "a.png"),
            (
                r#"{"image_strip": "https://h/"}"#,
                "https://h/x/a.png",
                "x/a.png",
            ),
        ] {
            let expected = Ok(file.to_owned());
            assert_eq!(found(options, name), expected, "{name}");
        }
        for name in [
            "",
            "/a.png",
            "in/./a.png",
            "../a.png",
            "a/../b.png",
            "C:\\a.png",
            "a//b",
            "in/",
            "a\0",
        ] {
            assert_eq!(found("{}", name), Err("image-name"), "{name}");
        }
        assert_eq!(found("{}", "missing.png"), Err("missing-image"));
        let unseen = r#"{"check_images": false}"#;
        assert_eq!(found(unseen, "missing.png"), Ok("missing.png".into()));
    }

    #[test]
    fn a_data_url_is_the_image_itself() {
        let png = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUg==";
        assert_eq!(found("{}", png), Ok("16 bytes".into()));
        assert_eq!(found("{}", &png.replace("==", "")), Ok("16 bytes".into()));
        for bad in [
            "data:",
            "data:image/png,abc",
            "data:image/png;base64,",
            "data:image/png;base64,AAAA",
            "data:image/png;base64,iVBORw0KGgo!",
            "data:image/png;base64,iVBORw0KGgoAA",
            "data:;base64,=====",
        ] {
            assert_eq!(found("{}", bad), Err("image-data"), "{bad}");
        }
        assert_eq!(base64("Zm9v YmE=\n"), Ok(b"fooba".to_vec()));
        assert_eq!(base64("-_-_"), base64("+/+/"));
    }

    #[test]
    fn escapes_that_are_none_stay() {
        assert_eq!(percent_decoded("%C3%A9%2"), "é%2");
        assert_eq!(percent_decoded("%zz%"), "%zz%");
        assert_eq!(percent_decoded("%ff"), "%ff");
    }
}

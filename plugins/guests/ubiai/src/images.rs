//! Which file shows a page of a document.

use graft_plugin::{Error, ImageRef};

use crate::document::Document;
use crate::pairs::Pair;
use crate::{Choices, Remarks};

const ENDINGS: [&str; 6] = [".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"];
/// Documents that were pages before they were text.
const SCANNED: [&str; 3] = [".pdf", ".tif", ".tiff"];
/// Companion files that are looked at to find a page's.
const LOOKED_AT: u32 = 10_000;

/// The image of `page`: none if the document is only text; `None`, and a remark, if it is missing.
pub fn of(
    document: &Document<'_>,
    page: usize,
    pairs: &[Pair],
    choices: &Choices,
    remarks: &Remarks<'_>,
) -> Result<Option<Vec<ImageRef>>, Error> {
    let (at, pointer) = (0, Some("/documentName"));
    let Some(name) = named(document, page, choices, remarks)? else {
        let name = document.name.as_deref().unwrap_or_default().to_lowercase();
        if !was_scanned(document, &name) {
            return Ok(Some(Vec::new()));
        }
        let message = format!(
            "there is no image of page {page}, such as {}: no sample",
            example(&name, page, document.is_paged())
        );
        remarks.warn("ubiai-missing-image", message, at, pointer)?;
        return Ok(None);
    };
    let header = match remarks.host.probe_image(&name) {
        Ok(header) => header,
        Err(Error::Cancelled) => return Err(Error::Cancelled),
        Err(_) => {
            let message = format!("image {name} is missing or no image: no sample");
            remarks.warn("ubiai-missing-image", message, at, pointer)?;
            return Ok(None);
        }
    };
    let (width, height) = (header.width, header.height);
    for pair in pairs.iter().filter(|pair| pair.leaves(width, height)) {
        let message = format!(
            "a box of question {:?} leaves the image of {width} x {height}; it is kept as it is",
            pair.question
        );
        remarks.warn("ubiai-box-outside-image", message, pair.at, None)?;
    }
    Ok(Some(vec![ImageRef::Asset(name)]))
}

/// The name of the page's image: what the export says, the document itself if it is an image, else a
/// companion file called like the document and the page.
fn named(
    document: &Document<'_>,
    page: usize,
    choices: &Choices,
    remarks: &Remarks<'_>,
) -> Result<Option<String>, Error> {
    let prefixed = |name: &str| format!("{}{}", choices.image_prefix, name.replace('\\', "/"));
    if let Some(listed) = document.page_images.get(page - 1)
        && !listed.is_empty()
    {
        return Ok(Some(prefixed(listed)));
    }
    let Some(name) = &document.name else {
        return Ok(None);
    };
    let lower = name.to_lowercase();
    if ENDINGS.iter().any(|ending| lower.ends_with(ending)) {
        return Ok(Some(prefixed(name)));
    }
    if !document.is_paged() && !was_scanned(document, &lower) {
        return Ok(None);
    }
    let stem = prefixed(stem(name));
    let files = match remarks.host.list_assets(&stem, None, LOOKED_AT) {
        Ok(files) => files,
        Err(Error::Cancelled) => return Err(Error::Cancelled),
        Err(_) => return Ok(None),
    };
    let mut fitting = files
        .iter()
        .filter(|file| shows(file, &stem, page, document.is_paged()));
    Ok(fitting.next().cloned())
}

/// Whether a document called `name`, in small letters, was pages before it was text.
fn was_scanned(document: &Document<'_>, name: &str) -> bool {
    document.is_scan || SCANNED.iter().any(|ending| name.ends_with(ending))
}

fn stem(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

/// Whether `file` is `stem`, something like `_page-`, the page's number and an image's ending.
fn shows(file: &str, stem: &str, page: usize, paged: bool) -> bool {
    let lower = file.to_lowercase();
    let ending = ENDINGS.iter().find(|ending| lower.ends_with(**ending));
    let (Some(ending), Some(rest)) = (ending, file.strip_prefix(stem)) else {
        return false;
    };
    let middle = rest.get(..rest.len() - ending.len()).unwrap_or_default();
    let digits = middle.trim_start_matches(|c: char| !c.is_ascii_digit());
    let words = middle[..middle.len() - digits.len()].to_lowercase();
    let separated = matches!(words.trim_matches(['_', '-', '.', ' ']), "" | "page" | "p");
    match digits.parse() {
        Ok(number) => separated && !words.is_empty() && page == number,
        Err(_) => middle.is_empty() && !paged,
    }
}

/// A name that would have been found.
fn example(name: &str, page: usize, paged: bool) -> String {
    let stem = stem(name);
    match paged {
        true => format!("{stem}_{page}.png"),
        false => format!("{stem}.png"),
    }
}

#[cfg(test)]
mod tests {
    use super::shows;

    #[test]
    fn a_page_is_found_under_the_names_that_tools_give_it() {
        for file in [
            "a/b_2.png",
            "a/b-02.JPG",
            "a/b-page-2.webp",
            "a/b_Page_2.png",
            "a/b.2.png",
        ] {
            assert!(shows(file, "a/b", 2, true), "{file}");
        }
        for file in [
            "a/b_12.png",
            "a/b2.png",
            "a/bc_2.png",
            "a/b_2.txt",
            "a/b.png",
            "a/b_2_3.png",
        ] {
            assert!(!shows(file, "a/b", 2, true), "{file}");
        }
        assert!(shows("a/b.png", "a/b", 1, false));
        assert!(shows("a/b_1.png", "a/b", 1, false));
        assert!(!shows("é.png", "a/b", 1, false));
    }
}

//! The images of the file, kept small: a file may list millions.

use std::collections::HashMap;

/// Images by id.
#[derive(Default)]
pub struct Catalogue {
    by_id: HashMap<Id, u32>,
    /// All names, one behind the other.
    names: String,
    images: Vec<Image>,
}

struct Image {
    /// Where its name ends.
    end: usize,
    /// Its index in the file.
    index: u32,
    captioned: bool,
}

/// Ids are numbers; some tools write texts.
#[derive(PartialEq, Eq, Hash)]
enum Id {
    Number(u64),
    Text(String),
}

impl Id {
    fn of(text: &str) -> Self {
        match text.parse() {
            Ok(number) => Self::Number(number),
            Err(_) => Self::Text(text.to_owned()),
        }
    }
}

impl Catalogue {
    /// Whether there is no image yet.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// Adds an image; false if one has this id.
    pub fn add(&mut self, id: &str, name: &str, index: u64) -> bool {
        let id = Id::of(id);
        if self.by_id.contains_key(&id) {
            return false;
        }
        self.by_id.insert(id, self.images.len() as u32);
        self.names.push_str(name);
        self.images.push(Image {
            end: self.names.len(),
            index: index as u32,
            captioned: false,
        });
        true
    }

    /// The number of the image with this id.
    pub fn find(&self, id: &str) -> Option<usize> {
        self.by_id.get(&Id::of(id)).map(|&image| image as usize)
    }

    /// Its name.
    pub fn name(&self, image: usize) -> &str {
        let start = match image.checked_sub(1) {
            Some(before) => self.images[before].end,
            None => 0,
        };
        &self.names[start..self.images[image].end]
    }

    /// Its index in the file.
    pub fn index(&self, image: usize) -> u64 {
        self.images
            .get(image)
            .map_or(0, |image| u64::from(image.index))
    }

    /// Whether a sample describes it.
    pub fn is_captioned(&self, image: usize) -> bool {
        self.images[image].captioned
    }

    /// A sample describes it.
    pub fn caption(&mut self, image: usize) {
        self.images[image].captioned = true;
    }

    /// Those that no sample describes, in the order of the file.
    pub fn uncaptioned(&self) -> impl Iterator<Item = usize> {
        let images = self.images.iter().enumerate();
        images
            .filter(|(_, image)| !image.captioned)
            .map(|(number, _)| number)
    }
}

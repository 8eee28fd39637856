//! The companion files of an export: a folder that a converter may read and never leave.
//!
//! Names are relative, with `/` between components. Each component is looked at on its own:
//! `..`, absolute names, drive letters, backslashes and symbolic links are refused, so no name,
//! and no link planted in an unpacked archive, leads out of the folder.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::converter::{ConvertError, Source};

/// The folder beside an export.
#[derive(Clone, Debug)]
pub struct AssetFolder {
    root: PathBuf,
}

/// What the first bytes of an image say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageHeader {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// `png`, `jpeg`, `webp`, `gif`, `bmp`, `tiff`, or the name of another format.
    pub format: String,
    /// Bytes of the file.
    pub bytes: u64,
}

impl AssetFolder {
    /// The folder `root`, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Opens the file called `name`.
    pub fn open(&self, name: &str) -> Result<FileSource, ConvertError> {
        let path = self.resolve(name)?;
        FileSource::open_as(&path, name)
    }

    /// Size and format of the image called `name`, from its header.
    pub fn probe_image(&self, name: &str) -> Result<ImageHeader, ConvertError> {
        let path = self.resolve(name)?;
        let failed = |source| read_failed(name, source);
        let file = File::open(&path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        let reader = image::ImageReader::new(BufReader::new(file))
            .with_guessed_format()
            .map_err(failed)?;
        let format = reader.format().ok_or_else(|| {
            ConvertError::Unsupported(format!("{name} is not an image of a known format"))
        })?;
        let (width, height) = reader
            .into_dimensions()
            .map_err(|e| ConvertError::Unsupported(format!("{name} is not a whole image: {e}")))?;
        Ok(ImageHeader {
            width,
            height,
            format: format!("{format:?}").to_lowercase(),
            bytes,
        })
    }

    /// At most `max` names that start with `prefix` and sort after `after`, in byte order.
    /// Symbolic links, and what lies behind them, are left out.
    pub fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        max: usize,
    ) -> Result<Vec<String>, ConvertError> {
        let mut names = Vec::new();
        let mut folders = vec![(self.root.clone(), String::new())];
        while let Some((folder, inside)) = folders.pop() {
            let entries = fs::read_dir(&folder).map_err(|e| read_failed(&inside, e))?;
            for entry in entries {
                let entry = entry.map_err(|e| read_failed(&inside, e))?;
                let Ok(own) = entry.file_name().into_string() else {
                    continue;
                };
                let name = format!("{inside}{own}");
                let kind = entry.file_type().map_err(|e| read_failed(&name, e))?;
                if kind.is_dir() {
                    let name = name + "/";
                    if name.starts_with(prefix) || prefix.starts_with(&name) {
                        folders.push((entry.path(), name));
                    }
                } else if kind.is_file()
                    && name.starts_with(prefix)
                    && after.is_none_or(|after| name.as_str() > after)
                {
                    names.push(name);
                }
            }
        }
        names.sort_unstable();
        names.truncate(max);
        Ok(names)
    }

    /// The path of `name`, every component of which exists and is no symbolic link.
    fn resolve(&self, name: &str) -> Result<PathBuf, ConvertError> {
        check_name(name)?;
        let mut path = self.root.clone();
        for component in name.split('/') {
            path.push(component);
            let metadata = fs::symlink_metadata(&path).map_err(|e| match e.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                    ConvertError::NotFound(name.to_owned())
                }
                _ => read_failed(name, e),
            })?;
            if metadata.is_symlink() {
                return Err(ConvertError::Denied(format!(
                    "{name:?} passes through a symbolic link; files of an export must lie in its folder"
                )));
            }
        }
        if !path.is_file() {
            return Err(ConvertError::NotFound(name.to_owned()));
        }
        Ok(path)
    }
}

/// Refuses a name that could mean anything but a file below the export's folder.
pub fn check_name(name: &str) -> Result<(), ConvertError> {
    let bad = |component: &str| {
        matches!(component, "" | "." | "..") || component.contains(['\\', ':', '\0'])
    };
    if name.split('/').any(bad) {
        return Err(ConvertError::Denied(format!(
            "{name:?} is not a name within the export (relative, `/` between folders, no `..`)"
        )));
    }
    Ok(())
}

/// A file as a [`Source`].
#[derive(Debug)]
pub struct FileSource {
    name: String,
    file: File,
    bytes: u64,
    position: u64,
}

impl FileSource {
    /// Opens `path`; messages call it by its file name.
    pub fn open(path: &Path) -> Result<Self, ConvertError> {
        let name = path.file_name().unwrap_or(path.as_os_str());
        Self::open_as(path, &name.to_string_lossy())
    }

    fn open_as(path: &Path, name: &str) -> Result<Self, ConvertError> {
        let failed = |source| ConvertError::Io {
            what: format!("cannot read {}", path.display()),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        Self::new(file, name)
    }

    /// A file that is already open, from its beginning; messages call it `name`.
    ///
    /// # Errors
    /// If it is a folder, or cannot be asked for its size.
    pub fn new(mut file: File, name: &str) -> Result<Self, ConvertError> {
        let failed = |source| read_failed(name, source);
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        if metadata.is_file() {
            file.rewind().map_err(failed)?;
        }
        Ok(Self {
            name: name.to_owned(),
            file,
            bytes: metadata.len(),
            position: 0,
        })
    }
}

impl Source for FileSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> Option<u64> {
        Some(self.bytes)
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.position += read as u64;
        Ok(read)
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.seek(SeekFrom::Start(offset))?;
        let read = self.file.read(buffer);
        self.file.seek(SeekFrom::Start(self.position))?;
        read
    }
}

/// Bytes in memory as a [`Source`].
#[derive(Clone, Debug)]
pub struct BytesSource {
    name: String,
    bytes: io::Cursor<Vec<u8>>,
}

impl BytesSource {
    /// `bytes`, which messages call `name`.
    pub fn new(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            name: name.into(),
            bytes: io::Cursor::new(bytes.into()),
        }
    }
}

impl Source for BytesSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> Option<u64> {
        Some(self.bytes.get_ref().len() as u64)
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.bytes.read(buffer)
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.bytes.get_ref();
        let start = usize::try_from(offset).map_or(bytes.len(), |at| at.min(bytes.len()));
        (&bytes[start..]).read(buffer)
    }
}

fn read_failed(name: &str, source: io::Error) -> ConvertError {
    ConvertError::Io {
        what: format!("cannot read {name:?} of the export"),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn export() -> (tempfile::TempDir, AssetFolder) {
        let outside = tempfile::tempdir().unwrap();
        let root = outside.path().join("export");
        fs::create_dir_all(root.join("images/deep")).unwrap();
        fs::write(outside.path().join("secret.txt"), "secret").unwrap();
        fs::write(root.join("images/a.txt"), "alpha").unwrap();
        fs::write(root.join("images/deep/b.txt"), "beta").unwrap();
        fs::write(root.join("z.txt"), "zeta").unwrap();
        (outside, AssetFolder::new(root))
    }

    #[test]
    fn an_asset_reads_in_order_and_anywhere() {
        let (_keep, folder) = export();
        let mut source = folder.open("images/a.txt").unwrap();
        let mut two = [0; 2];
        assert_eq!(source.size(), Some(5));
        assert_eq!(source.read(&mut two).unwrap(), 2);
        assert_eq!(source.read_at(3, &mut two).unwrap(), 2);
        assert_eq!(&two, b"ha");
        assert_eq!(source.read(&mut two).unwrap(), 2);
        assert_eq!(&two, b"ph");
    }

    #[test]
    fn no_name_leads_out_of_the_folder() {
        let (outside, folder) = export();
        let absolute = outside.path().join("secret.txt");
        for name in [
            "../secret.txt",
            "images/../../secret.txt",
            "./z.txt",
            "images//a.txt",
            "",
            "/",
            "images\\a.txt",
            "C:z.txt",
            "z.txt\0",
            absolute.to_str().unwrap(),
        ] {
            let refused = folder.open(name);
            assert!(matches!(refused, Err(ConvertError::Denied(_))), "{name:?}");
        }
        for name in ["images", "images/none", "z.txt/below"] {
            let refused = folder.open(name);
            assert!(matches!(refused, Err(ConvertError::NotFound(_))), "{name}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_symbolic_link_is_neither_followed_nor_listed() {
        let (outside, folder) = export();
        let root = folder.path();
        std::os::unix::fs::symlink(outside.path(), root.join("up")).unwrap();
        std::os::unix::fs::symlink("../secret.txt", root.join("link.txt")).unwrap();
        for name in ["link.txt", "up/secret.txt"] {
            let refused = folder.open(name);
            assert!(matches!(refused, Err(ConvertError::Denied(_))), "{name}");
        }
        let names = folder.list("", None, 10).unwrap();
        assert_eq!(names, ["images/a.txt", "images/deep/b.txt", "z.txt"]);
    }

    #[test]
    fn a_listing_continues_where_it_stopped() {
        let (_keep, folder) = export();
        let first = folder.list("images/", None, 1).unwrap();
        assert_eq!(first, ["images/a.txt"]);
        let next = folder.list("images/", Some(&first[0]), 5).unwrap();
        assert_eq!(next, ["images/deep/b.txt"]);
    }

    #[test]
    fn the_header_of_an_image_tells_its_size() {
        let (_keep, folder) = export();
        let image = image::RgbImage::new(7, 3);
        image.save(folder.path().join("image.png")).unwrap();
        let header = folder.probe_image("image.png").unwrap();
        assert_eq!((header.width, header.height), (7, 3));
        assert_eq!(header.format, "png");
        let refused = folder.probe_image("z.txt");
        assert!(matches!(refused, Err(ConvertError::Unsupported(_))));
    }
}

//! A file replaced as a whole or not at all, by one editor at a time.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use super::EditError;

/// A file that is being edited.
pub(super) struct EditedFile {
    /// The file itself, after symbolic links: a linked config stays linked.
    file: PathBuf,
    folder: PathBuf,
    /// Holds the lock, if this file system has locks for folders.
    _lock: Option<File>,
}

/// What became of the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Replaced {
    /// It has the new content.
    Done,
    /// It has not, since it is no longer what it was: someone else edited it.
    ChangedMeanwhile,
}

impl EditedFile {
    /// Waits until nobody else edits the file, makes its folder if there is none.
    pub(super) fn lock(config: &Path) -> Result<Self, EditError> {
        let failed = |source| EditError::Write { file: config.to_owned(), source };
        let file = match config.canonicalize() {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => config.to_owned(),
            Err(error) => return Err(failed(error)),
        };
        let folder = match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        fs::create_dir_all(&folder).map_err(failed)?;
        // The folder, since the file is another one after each edit. Not all network file systems
        // lock folders; there the comparison in `replace` has to do alone, as it does against
        // editors that know no lock.
        let lock = File::open(&folder).ok().filter(|folder| folder.lock().is_ok());
        Ok(Self { file, folder, _lock: lock })
    }

    /// Puts `new` in the place of `old`, the content that the edit started from; none if there was
    /// no file.
    pub(super) fn replace(&self, old: Option<&str>, new: &str) -> Result<Replaced, EditError> {
        let written = |source| EditError::Write { file: self.file.clone(), source };
        let metadata = match fs::metadata(&self.file) {
            Ok(metadata) => Some(metadata),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(written(error)),
        };
        if metadata.as_ref().is_some_and(|m| m.permissions().readonly()) {
            return Err(EditError::ReadOnly(self.file.clone()));
        }
        let mut temporary = tempfile::Builder::new()
            .prefix(".config-")
            .suffix(".toml")
            // What a new file gets, less the umask.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(&self.folder)
            .map_err(written)?;
        temporary.write_all(new.as_bytes()).map_err(written)?;
        if let Some(old) = &metadata {
            let file = temporary.as_file();
            let made = file.metadata().map_err(written)?;
            if (made.uid(), made.gid()) != (old.uid(), old.gid()) {
                // Root editing for a user. Who may not give files away keeps them.
                let _ = fchown(file, Some(old.uid()), Some(old.gid()));
            }
            file.set_permissions(old.permissions()).map_err(written)?;
        }
        // On disk before it has the name, or a power cut could leave an empty config.
        temporary.as_file().sync_all().map_err(written)?;
        if !self.is(old).map_err(written)? {
            return Ok(Replaced::ChangedMeanwhile);
        }
        let persisted = if old.is_some() {
            temporary.persist(&self.file)
        } else {
            temporary.persist_noclobber(&self.file)
        };
        match persisted {
            Ok(_) => Ok(Replaced::Done),
            Err(error) if error.error.kind() == ErrorKind::AlreadyExists => {
                Ok(Replaced::ChangedMeanwhile)
            }
            Err(error) => Err(written(error.error)),
        }
    }

    /// Whether the file still has this content.
    fn is(&self, content: Option<&str>) -> io::Result<bool> {
        match fs::read(&self.file) {
            Ok(bytes) => Ok(content.is_some_and(|content| content.as_bytes() == bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(content.is_none()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_from_an_old_content_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        let target = EditedFile::lock(&file).unwrap();
        assert_eq!(target.replace(Some("a"), "b").unwrap(), Replaced::ChangedMeanwhile);
        assert_eq!(target.replace(None, "b").unwrap(), Replaced::Done);
        assert_eq!(target.replace(None, "c").unwrap(), Replaced::ChangedMeanwhile);
        assert_eq!(target.replace(Some("a"), "c").unwrap(), Replaced::ChangedMeanwhile);
        assert_eq!(fs::read_to_string(&file).unwrap(), "b");
        assert_eq!(target.replace(Some("b"), "c").unwrap(), Replaced::Done);
        assert_eq!(fs::read_to_string(&file).unwrap(), "c");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }
}

//! The bytes of a config file.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use super::error::{ConfigError, Fault, SpannedFault};

/// Longer than any config that was written by hand, short enough to be read without a thought.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// The file's text; none if there is no such file.
///
/// # Errors
/// If something is there that cannot be read, is no file, or holds no text.
pub(super) fn read(file: &Path) -> Result<Option<String>, ConfigError> {
    let error = |fault| ConfigError::of_file(file, fault);
    let unreadable = |source: std::io::Error| error(Fault::Unreadable(source.to_string()));
    // Looked at before it is opened: opening a pipe would wait for someone to write.
    let metadata = match fs::metadata(file) {
        Ok(metadata) => metadata,
        Err(source) if source.kind() == ErrorKind::NotFound => {
            return match fs::read_link(file) {
                Ok(target) => Err(error(Fault::Dangling(target))),
                Err(_) => Ok(None),
            };
        }
        Err(source) => return Err(unreadable(source)),
    };
    if metadata.is_dir() {
        return Err(error(Fault::NotAFile("a folder")));
    }
    if !metadata.is_file() {
        return Err(error(Fault::NotAFile("a device, pipe or socket")));
    }
    let mut bytes = Vec::new();
    let opened =
        File::open(file).and_then(|file| file.take(MAX_CONFIG_BYTES + 1).read_to_end(&mut bytes));
    match opened {
        Ok(_) if bytes.len() as u64 > MAX_CONFIG_BYTES => {
            return Err(error(Fault::TooLong(MAX_CONFIG_BYTES)));
        }
        Ok(_) => {}
        // Deleted between the look and the opening.
        Err(source) if source.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(unreadable(source)),
    }
    String::from_utf8(bytes).map(Some).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes());
        // What is valid is the same in the lossy text, so the place is too.
        SpannedFault::new(valid..valid + 1, Fault::NotUtf8).in_file(file, &text)
    })
}

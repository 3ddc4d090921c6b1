//! Whether what a run consulted outside of its own checkout is what a run in another one would
//! consult.

use std::path::{Path, PathBuf};

use crate::cache::{Input, Record};
use crate::process::Environment;

/// An input of `record` that a run in the checkout at `root` would perhaps look for elsewhere:
/// from there, another way leads to it. A file that was named from the root of the file system, or
/// by a variable, is taken for one that was found from the checkout (`../settings`, a search of
/// all folders above) where it could be one.
pub(super) fn found_elsewhere<'a>(
    record: &'a Record,
    root: &Path,
    environment: &Environment,
) -> Option<&'a Input> {
    if record.workspace_root == root {
        return None;
    }
    let home = environment.get("HOME").map(PathBuf::from).unwrap_or_default();
    let folder = |name: &str, below: &str| {
        environment.get(name).map_or_else(|| home.join(below), PathBuf::from)
    };
    // Cargo and the toolchain name what is theirs by these.
    let tools = [folder("CARGO_HOME", ".cargo"), folder("RUSTUP_HOME", ".rustup")];
    let temporary = environment.get("TMPDIR").map_or_else(|| "/tmp".into(), PathBuf::from);
    record.inputs.iter().find(|input| {
        let path = &input.path;
        path.is_absolute()
            && *path != temporary
            && !tools.iter().any(|folder| path.starts_with(folder))
            && !is_same_way(&record.workspace_root, root, path)
    })
}

/// Whether the way from the one folder to `path` leads to it from the other, too.
fn is_same_way(one: &Path, other: &Path, path: &Path) -> bool {
    let Some((up, shared)) = one.ancestors().enumerate().find(|(_, above)| path.starts_with(above))
    else {
        return false;
    };
    // Nobody goes up all the way.
    shared.parent().is_none() || other.ancestors().nth(up) == Some(shared)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_up_and_down_again_is_the_same_for_neighbours_only() {
        let same = |other: &str, path: &str| {
            is_same_way(Path::new("/home/me/src/one"), Path::new(other), Path::new(path))
        };
        for path in ["/etc/hosts", "/home/me/src/settings", "/home/me/.gitconfig", "/home/me/src"] {
            assert!(same("/home/me/src/two", path), "{path}");
        }
        assert!(same("/home/me/work/two", "/home/me/.gitconfig"));
        assert!(same("/elsewhere/two", "/usr/bin/git"));
        for other in ["/home/me/work/two", "/home/me/two", "/home/me/src/deep/two", "/home"] {
            assert!(!same(other, "/home/me/src/settings"), "{other}");
        }
        assert!(!same("/home/me/two", "/home/me/.editorconfig"));
    }
}

//! What flags for compilers and linkers name outside of the workspace: libraries, files of arguments, scripts
//! for linkers. No list of a compiler names them, and cargo does not look at them.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::cargo_config::CargoConfig;
use crate::model::{Digest, Digester};
use crate::paths::plain;
use crate::process::Environment;

/// A larger file counts by its stamp.
const LARGEST_READ: u64 = 16 << 20;
/// Linkers there are the system's own, like the one that is called where none is named.
const OF_SYSTEM: [&str; 5] = ["/usr", "/bin", "/sbin", "/lib", "/lib64"];
/// The keys of cargo's configuration that have flags or linkers, in whichever table.
const KEYS: [&str; 3] = ["rustflags", "rustdocflags", "linker"];
/// How the names of variables end that have them.
const VARIABLES: [&str; 3] = ["RUSTFLAGS", "RUSTDOCFLAGS", "_LINKER"];

/// Each path of flags that leads out of the workspace at `root`, as it is written, with what is there: of a
/// folder its libraries.
pub(super) fn linked_files(
    root: &Path,
    config: &CargoConfig,
    environment: &Environment,
) -> BTreeMap<String, Digest> {
    let mut texts = Vec::new();
    config.tables().for_each(|table| add_flags(table, &mut texts));
    let is_of_flags = |name: &[u8]| VARIABLES.iter().any(|end| name.ends_with(end.as_bytes()));
    let variables = environment.iter().filter(|(name, _)| is_of_flags(name.as_bytes()));
    texts.extend(variables.map(|(_, value)| value.to_string_lossy().into_owned()));
    let mut found = BTreeMap::new();
    for word in texts.iter().flat_map(|text| paths_in_flags(text)) {
        let path = plain(&root.join(word));
        if !path.starts_with(root)
            && !found.contains_key(word)
            && let Some(digest) = digest_of(&path)
        {
            found.insert(word.to_owned(), digest);
        }
    }
    found
}

/// All that could be a path in a list of flags or a configuration.
pub(crate) fn paths_in_flags(text: &str) -> impl Iterator<Item = &str> {
    let ends = |c: char| c.is_whitespace() || "\"'=,:;[]{}()\x1f".contains(c);
    text.split(ends).map(|word| {
        let flags = ["@", "-L", "-T", "-B"];
        flags.iter().find_map(|flag| word.strip_prefix(flag)).unwrap_or(word)
    })
}

/// Adds the texts of all flags in a table and those below it.
fn add_flags(table: &toml::Table, texts: &mut Vec<String>) {
    for (key, value) in table {
        match value {
            toml::Value::Table(below) => add_flags(below, texts),
            toml::Value::String(text) if KEYS.contains(&&**key) => texts.push(text.clone()),
            toml::Value::Array(all) if KEYS.contains(&&**key) => {
                texts.extend(all.iter().filter_map(toml::Value::as_str).map(str::to_owned));
            }
            _ => {}
        }
    }
}

/// What a linker could take from there; `None` if that is nothing.
fn digest_of(path: &Path) -> Option<Digest> {
    let metadata = fs::metadata(path).ok()?;
    if !metadata.is_dir() {
        let is_system = OF_SYSTEM.iter().any(|folder| path.starts_with(folder));
        return (!is_system).then(|| digest_of_file(path, &metadata));
    }
    let mut libraries = BTreeMap::new();
    for entry in fs::read_dir(path).ok()?.flatten() {
        let name = entry.file_name();
        // A run shows which shared library it has loaded, but not that it would rather have linked one.
        let is_shared = name.as_bytes().windows(3).any(|part| part == b".so");
        let is_static = name.as_bytes().starts_with(b"lib") && name.as_bytes().ends_with(b".a");
        if is_shared || is_static {
            let metadata = fs::metadata(entry.path()).ok().filter(|_| is_static);
            libraries.insert(name, metadata.map(|found| digest_of_file(&entry.path(), &found)));
        }
    }
    let mut digester = Digester::new("libraries of a folder 1");
    for (name, digest) in &libraries {
        digester.field(name.as_bytes());
        if let Some(digest) = digest {
            digester.digest(digest);
        }
    }
    (!libraries.is_empty()).then(|| digester.finish())
}

fn digest_of_file(path: &Path, metadata: &Metadata) -> Digest {
    let is_read = metadata.is_file() && metadata.len() <= LARGEST_READ;
    if let Some(content) = is_read.then(|| fs::read(path).ok()).flatten() {
        return Digest::of(&content);
    }
    let (seconds, rest) = (metadata.mtime(), metadata.mtime_nsec());
    let (device, inode, length) = (metadata.dev(), metadata.ino(), metadata.len());
    Digest::of(format!("{device} {inode} {length} {seconds} {rest}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stand_between_flags_and_behind_them() {
        let config = "[target.x]\nlinker = \"tools/cc.sh\"\n\
                      rustflags = ['-Clink-arg=-Wl,--version-script=map', \"-Clink-arg=@a/b\", '-Ldir/x']";
        let found: Vec<_> = paths_in_flags(config).collect();
        for path in ["tools/cc.sh", "map", "a/b", "dir/x"] {
            assert!(found.contains(&path), "{path}: {found:?}");
        }
        assert!(paths_in_flags("-C\x1flink-arg=-Ttools/x.ld").any(|path| path == "tools/x.ld"));
    }

    #[test]
    fn what_flags_name_outside_of_the_workspace_counts_by_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let (root, apart) = (base.join("w"), base.join("apart"));
        for folder in [&root.join(".cargo"), &root.join("lib"), &apart] {
            fs::create_dir_all(folder).unwrap();
        }
        let look = |flags: &[String], variable: &str| {
            let text =
                format!("[target.x]\nrustflags={flags:?}\n[net]\nother='{}'", apart.display());
            fs::write(root.join(".cargo/config.toml"), text).unwrap();
            let environment = [("RUSTFLAGS".into(), variable.into())].into_iter().collect();
            let config = CargoConfig::read(&root, &environment, &[]).unwrap();
            linked_files(&root, &config, &environment)
        };
        let there = apart.to_str().unwrap().to_owned();
        let flags = [format!("-Lnative={there}"), "-Llib".to_owned()];
        fs::write(root.join("lib/libb.a"), "1").unwrap();
        fs::write(apart.join("notes"), "1").unwrap();
        assert_eq!(look(&flags, ""), BTreeMap::new(), "no library outside");
        for name in ["liba.a", "libb.so.1"] {
            let before = look(&flags, "");
            fs::write(apart.join(name), "1").unwrap();
            assert_ne!(look(&flags, ""), before, "{name} is new");
        }
        let before = look(&flags, "");
        assert_eq!(before.keys().collect::<Vec<_>>(), [&there]);
        fs::write(apart.join("libb.so.1"), "2").unwrap();
        assert_eq!(look(&flags, ""), before, "a run loads it");
        fs::write(apart.join("liba.a"), "2").unwrap();
        assert_ne!(look(&flags, ""), before);
        assert_eq!(look(&[], &format!("-L {there}")).len(), 1);
        assert_eq!(
            look(&[], "-Clink-arg=@../apart/notes").keys().next().unwrap(),
            "../apart/notes"
        );
        assert_eq!(look(&[], ""), BTreeMap::new());
        assert_eq!(look(&[], "-Clinker=/bin/sh"), BTreeMap::new(), "the system's own");
    }
}

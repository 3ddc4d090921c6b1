//! What flags for compilers and linkers name: libraries, files of arguments, scripts for linkers. No list of a
//! compiler names them, and cargo does not look at them. In the workspace git may ignore them.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::cargo_config::CargoConfig;
use crate::model::{Digest, Digester};
use crate::paths::plain;
use crate::process::Environment;

/// A larger file counts by its stamp.
const LARGEST_READ: u64 = 16 << 20;
/// Linkers there are the system's own, like the one that is called where none is named.
const OF_SYSTEM: [&str; 5] = ["/usr", "/bin", "/sbin", "/lib", "/lib64"];
/// The keys of cargo's configuration that have flags or linkers, in whichever table, or that a build script
/// would have printed.
const KEYS: [&str; 5] = ["rustflags", "rustdocflags", "rustc-flags", "rustc-link-search", LINKER];
/// A program that is searched in `PATH` where its name has no folder.
const LINKER: &str = "linker";
/// The linker that is searched in `PATH` where none is named.
const USUAL_LINKER: &str = "cc";
/// What lies in a folder of products.
const SIGN_OF_CACHE: &str = "CACHEDIR.TAG";
/// How the names of variables end that have flags.
const VARIABLES: [&str; 2] = ["RUSTFLAGS", "RUSTDOCFLAGS"];
/// How the names of variables end that have a linker.
const LINKER_VARIABLE: &str = "_LINKER";
/// How the names of files end that are linked into a program.
const LINKED: [&str; 4] = [".a", ".o", ".rlib", ".rmeta"];

/// Flags, or the name of a linker.
struct Told<'a> {
    /// The folder from which programs are named.
    base: &'a Path,
    is_linker: bool,
    text: String,
}

/// Each path of flags, as it is written or by its way from the workspace's root, with what is there: of a
/// folder its libraries.
pub(super) fn linked_files(
    root: &Path,
    config: &CargoConfig,
    environment: &Environment,
) -> BTreeMap<String, Digest> {
    let mut all = Vec::new();
    config.tables().for_each(|(base, table)| add_flags(base, table, &mut all));
    for (name, value) in environment.iter() {
        let name = name.as_bytes();
        let is_linker = name.ends_with(LINKER_VARIABLE.as_bytes());
        if is_linker || VARIABLES.iter().any(|end| name.ends_with(end.as_bytes())) {
            let text = value.to_string_lossy().into_owned();
            all.push(Told { base: config.dir(), is_linker, text });
        }
    }
    // Rustc calls this one where no other is named.
    all.push(Told { base: config.dir(), is_linker: true, text: USUAL_LINKER.to_owned() });
    let mut found = BTreeMap::new();
    for told in &all {
        // Compilers are started in the root; cargo itself finds a linker.
        let mut places: Vec<(&str, PathBuf)> = Vec::new();
        let linkers = match told.is_linker {
            true => vec![&*told.text],
            false => linkers_in_flags(&told.text),
        };
        for linker in linkers.iter().filter(|linker| !linker.contains('/')) {
            let program = environment.find_program(Path::new(linker), root);
            places.extend(program.map(|program| (*linker, program)));
        }
        if !told.is_linker || told.text.contains('/') {
            for word in paths_in_flags(&told.text).filter(|word| !word.is_empty()) {
                places.extend([root, told.base].map(|folder| (word, plain(&folder.join(word)))));
            }
        }
        for (word, path) in places {
            // Inside, git may ignore it. The same in every checkout.
            let inside = path.strip_prefix(root).ok();
            if inside.is_some_and(|way| is_made(root, way)) {
                continue;
            }
            let word = inside.map_or(word.into(), |way| way.to_string_lossy());
            if let Some(digest) = digest_of(&path) {
                let known = found.entry(word.into_owned()).or_insert(digest);
                if *known != digest {
                    let mut both = Digester::new("files of one name 1");
                    both.digest(known).digest(&digest);
                    *known = both.finish();
                }
            }
        }
    }
    found
}

/// Whether it lies where cargo builds, in a folder of that name or with a sign in it; or is what linkers write.
fn is_made(root: &Path, way: &Path) -> bool {
    let mut folders = way.ancestors().filter(|way| *way != Path::new(""));
    way.extension().is_some_and(|end| end == "map")
        || folders
            .any(|way| way.ends_with("target") || root.join(way).join(SIGN_OF_CACHE).is_file())
}

/// The linkers that flags for rustc name (`-Clinker=NAME`).
fn linkers_in_flags(text: &str) -> Vec<&str> {
    let ends = |c: char| c.is_whitespace() || "\"',]\x1f".contains(c);
    let named = text.match_indices("linker=").map(|(at, name)| &text[at + name.len()..]);
    named.filter_map(|rest| rest.split(ends).next()).filter(|name| !name.is_empty()).collect()
}

/// All that could be a path in a list of flags or a configuration.
pub(crate) fn paths_in_flags(text: &str) -> impl Iterator<Item = &str> {
    let ends = |c: char| c.is_whitespace() || "\"'=,:;[]{}()\x1f".contains(c);
    // A path may have blanks in it.
    let wide = text.split(['"', '\'', '=', '\x1f', '\n']).filter(|word| word.contains(' '));
    text.split(ends).chain(wide).map(|word| {
        let flags = ["@", "-L", "-T", "-B"];
        flags.iter().find_map(|flag| word.strip_prefix(flag)).unwrap_or(word)
    })
}

/// Adds all flags and linkers in a table and those below it.
fn add_flags<'a>(base: &'a Path, table: &toml::Table, all: &mut Vec<Told<'a>>) {
    for (key, value) in table {
        let is_linker = key == LINKER;
        let mut add = |text: &str| all.push(Told { base, is_linker, text: text.to_owned() });
        match value {
            toml::Value::Table(below) => add_flags(base, below, all),
            toml::Value::String(text) if KEYS.contains(&&**key) => add(text),
            toml::Value::Array(texts) if KEYS.contains(&&**key) => {
                texts.iter().filter_map(toml::Value::as_str).for_each(add);
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
        let is_linked = LINKED.iter().any(|end| name.as_bytes().ends_with(end.as_bytes()))
            // A linker of its own, for `-B`.
            || name.as_bytes().starts_with(b"ld");
        if is_shared || is_linked {
            let metadata = fs::metadata(entry.path()).ok().filter(|_| is_linked);
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
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn paths_stand_between_flags_and_behind_them() {
        let config = "[target.x]\nlinker = \"tools/cc.sh\"\n\
                      rustflags = ['-Clink-arg=-Wl,--version-script=map', \"-Clink-arg=@a/b\", '-Ldir/x']";
        let found: Vec<_> = paths_in_flags(config).collect();
        for path in ["tools/cc.sh", "map", "a/b", "dir/x"] {
            assert!(found.contains(&path), "{path}: {found:?}");
        }
        assert!(paths_in_flags("-C\x1flink-arg=-Ttools/x.ld").any(|path| path == "tools/x.ld"));
        assert!(paths_in_flags("-L\x1fnative=/opt/my libs").any(|path| path == "/opt/my libs"));
    }

    #[test]
    fn linkers_are_named_by_flags_of_rustc() {
        let of = |text: &str| linkers_in_flags(text).join(" ");
        assert_eq!(of("rustflags = [\"-Clinker=my-ld\", '-Clinker=/bin/ld']"), "my-ld /bin/ld");
        assert_eq!(of("-C\x1flinker=my-ld\x1f-O"), "my-ld");
        assert_eq!(of("-Clink-arg=x -Clinker="), "");
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
        let inside = look(&flags, "");
        assert_eq!(inside.keys().collect::<Vec<_>>(), ["lib"], "git may ignore it");
        fs::write(root.join("lib/libb.a"), "2").unwrap();
        assert_ne!(look(&flags, ""), inside);
        fs::write(root.join("lib/CACHEDIR.TAG"), "").unwrap();
        assert_eq!(look(&flags, ""), BTreeMap::new(), "cargo has built it");
        for name in ["liba.a", "libb.so.1", "libc.rlib", "crt1.o", "ld"] {
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

    #[test]
    fn a_linker_is_found_as_cargo_finds_it() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let (root, tools) = (base.join("w"), base.join("tools"));
        for folder in [&base.join(".cargo"), &root, &tools] {
            fs::create_dir_all(folder).unwrap();
        }
        let linker = tools.join("cc.sh");
        let look = |setting: &str, variables: &[(&str, &str)]| {
            fs::write(base.join(".cargo/config.toml"), setting).unwrap();
            let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
            let environment = variables.collect();
            let config = CargoConfig::read(&root, &environment, &[]).unwrap();
            linked_files(&root, &config, &environment)
        };
        let path = tools.to_str().unwrap();
        let beside_the_root = "target.x.linker = 'tools/cc.sh'";
        let in_path: [(&str, &str); 2] = [("CARGO_TARGET_X_LINKER", "cc.sh"), ("PATH", path)];
        let overridden = format!("target.x.foo.rustc-link-search = ['{path}']");
        fs::write(tools.join("libfoo.a"), "").unwrap();
        assert_eq!(look(&overridden, &[]).len(), 1, "no build script runs");
        for (setting, variables) in [(beside_the_root, &[][..]), ("", &in_path)] {
            let found = ["1", "2"].map(|text| {
                fs::write(&linker, text).unwrap();
                fs::set_permissions(&linker, fs::Permissions::from_mode(0o755)).unwrap();
                look(setting, variables)
            });
            assert!(found[0].len() == 1 && found[0] != found[1], "{setting}: {found:?}");
        }
        // Rustc's own choice is searched too.
        fs::copy(&linker, tools.join("cc")).unwrap();
        assert_eq!(look("", &[("PATH", path)]).keys().collect::<Vec<_>>(), ["cc"]);
        assert_eq!(look("", &[("PATH", "/usr/bin:/bin")]), BTreeMap::new(), "the system's own");
    }
}

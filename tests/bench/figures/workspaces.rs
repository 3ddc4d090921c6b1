//! What is asked about: a real workspace, and a tree of 100,000 files.

use std::fs;
use std::path::{Path, PathBuf};

use super::stage::Stage;

/// Packages of the workspace that stands in for a real one.
const PACKAGES: usize = 11;
/// Modules of each, with ten tests apiece.
const MODULES: usize = 10;
/// Folders of the large tree, and files in each.
const FOLDERS: usize = 5_000;
const FILES: usize = 20;

/// Both workspaces, canonical.
pub(crate) struct Workspaces {
    /// A real one, or what stands in.
    pub(crate) real: PathBuf,
    /// Its name.
    pub(crate) real_name: String,
    /// A source file in the middle of its graph of packages.
    pub(crate) edited: PathBuf,
    /// One trivial package and 100,000 files.
    pub(crate) large: PathBuf,
}

impl Workspaces {
    pub(crate) fn new(stage: &Stage) -> Self {
        let (real, real_name, edited) = real(stage);
        let large = std::env::var_os("KNHK_BENCH_TREE")
            .map_or_else(|| stage.dir().join("large"), PathBuf::from);
        if !large.exists() {
            println!("generating {} files", FOLDERS * FILES);
            generate(stage, &large);
        }
        let real = real.canonicalize().expect("the workspace");
        let large = large.canonicalize().expect("the tree");
        Self { edited: real.join(edited), real, real_name, large }
    }
}

/// The workspace that is built and asked about, its name, and the file in it that is edited.
fn real(stage: &Stage) -> (PathBuf, String, PathBuf) {
    let named = |name: &str| std::env::var_os(name).map(PathBuf::from);
    if let Some(path) = named("KNHK_BENCH_WORKSPACE") {
        let edited = named("KNHK_BENCH_FILE").expect("KNHK_BENCH_FILE: a source file of it");
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        return (path, name.unwrap_or_default(), edited);
    }
    if let Some(path) = named("KNHK_BENCH_RIPGREP") {
        return (path, "ripgrep".to_owned(), "crates/printer/src/lib.rs".into());
    }
    let path = stage.dir().join("stand-in");
    stand_in(stage, &path);
    (path, format!("generated, {PACKAGES} packages"), "p05/src/lib.rs".into())
}

/// Edits of one source file, which is put back at the end.
pub(crate) struct Edits {
    file: PathBuf,
    original: String,
    count: u32,
}

impl Edits {
    pub(crate) fn of(file: &Path) -> Self {
        let original = fs::read_to_string(file).expect("a source file");
        Self { file: file.to_owned(), original, count: 0 }
    }

    /// Saves the file with a function that grows, so that the code is really another one.
    pub(crate) fn next(&mut self) {
        self.count += 1;
        let count = self.count;
        let code = format!("\n/// Edit.\n#[doc(hidden)]\npub fn edit() -> u32 {{ {count} }}\n");
        fs::write(&self.file, self.original.clone() + &code).expect("a save");
    }
}

impl Drop for Edits {
    fn drop(&mut self) {
        let _ = fs::write(&self.file, &self.original);
    }
}

/// Packages that depend on all before them, with unit tests.
fn stand_in(stage: &Stage, root: &Path) {
    let mut members = String::new();
    for package in 0..PACKAGES {
        members.push_str(&format!("'p{package:02}',"));
        let dependencies: String =
            (0..package).map(|n| format!("p{n:02} = {{ path = '../p{n:02}' }}\n")).collect();
        let name = format!("p{package:02}");
        let manifest = format!(
            "[package]\nname = '{name}'\nversion = '0.1.0'\nedition = '2021'\n\n\
             [dependencies]\n{dependencies}"
        );
        write(&root.join(&name).join("Cargo.toml"), manifest.as_bytes());
        let modules: String = (0..MODULES).map(|n| format!("pub mod m{n};\n")).collect();
        write(&root.join(&name).join("src/lib.rs"), modules.as_bytes());
        for module in 0..MODULES {
            let code: String = (0..10)
                .map(|n| {
                    format!(
                        "pub fn f{n}(x: u64) -> String {{ format!(\"{{}}\", x + {n}) }}\n\
                         #[test]\nfn t{n}() {{ assert_eq!(f{n}(1), \"{}\"); }}\n",
                        n + 1
                    )
                })
                .collect();
            write(&root.join(&name).join(format!("src/m{module}.rs")), code.as_bytes());
        }
    }
    let manifest = format!("[workspace]\nresolver = '2'\nmembers = [{members}]\n");
    write(&root.join("Cargo.toml"), manifest.as_bytes());
    commit(stage, root);
}

/// 0.5 to 8 KiB a file, from a generator that gives the same tree every time.
fn generate(stage: &Stage, root: &Path) {
    let mut state = 1_u64;
    let mut random = move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    let pool: Vec<u8> = (0..1 << 20).map(|_| random() as u8).collect();
    for folder in 0..FOLDERS {
        let (one, two, three) = (folder / 500, folder / 25 % 20, folder % 25);
        let folder = root.join(format!("data/set{one}/group_{two:02}/part_{three:02}"));
        for file in 0..FILES {
            let length = 512 + random() % 7_680;
            let start = random() % (pool.len() - length);
            write(&folder.join(format!("sample_{file:03}.bin")), &pool[start..start + length]);
        }
    }
    write(&root.join("Cargo.toml"), b"[workspace]\nresolver = '2'\nmembers = ['tiny']\n");
    write(
        &root.join("tiny/Cargo.toml"),
        b"[package]\nname = 'tiny'\nversion = '0.1.0'\nedition = '2021'\n",
    );
    write(&root.join("tiny/src/lib.rs"), b"#[test]\nfn holds() {}\n");
    commit(stage, root);
}

/// A file, with the folders above it.
pub(crate) fn write(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::write(path, content).expect("a file");
}

/// Makes it a repository with everything in it, the lock file too.
pub(crate) fn commit(stage: &Stage, root: &Path) {
    write(&root.join(".gitignore"), b"/target\n");
    stage.run("cargo", root, &["generate-lockfile"]);
    stage.run("git", root, &["init", "-q"]);
    stage.run("git", root, &["add", "-A"]);
    let who = ["-c", "user.name=b", "-c", "user.email=b@b"];
    stage.run("git", root, &[&who[..], &["commit", "-qm", "x"]].concat());
}

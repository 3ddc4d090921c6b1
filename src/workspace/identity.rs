//! Everything besides the tree's files that decides a build and a run, as named parts.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::cargo_config::CargoConfig;
use super::linked_files::linked_files;
use super::toolchain::Toolchain;
use crate::model::{Digest, Digester};
use crate::process::Environment;

/// The identity of a build and of a run, part by part so that a difference can be named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The parts that decide the build: toolchain, cargo's configuration, variables that cargo,
    /// rustc and C compilers read. Free of the checkout's own path.
    pub build: BTreeMap<String, Digest>,
    /// What tests can see besides: every other variable, less [`is_session_variable`] ones.
    pub run: BTreeMap<String, Digest>,
}

/// How the parts are named that flags for linkers and compilers name.
const LINKED: &str = "linked ";

/// Variables that differ between any two terminals of one person, and those that cargo and
/// rustup set anew for every test. A test whose verdict depends on one of these depends on the
/// window it is run in.
const SESSION: &[&str] = &[
    // the shell's bookkeeping
    "PWD",
    "OLDPWD",
    "SHLVL",
    "_",
    "HISTFILE",
    "HISTSIZE",
    "HISTFILESIZE",
    "HISTCONTROL",
    "PS1",
    "PS2",
    "PS3",
    "PS4",
    "PROMPT",
    "PROMPT_COMMAND",
    "PROMPT_DIRTRIM",
    "PROMPT_EOL_MARK",
    // the terminal
    "TERM",
    "TERMCAP",
    "TERMINFO",
    "TERMINFO_DIRS",
    "TERMINAL_EMULATOR",
    "TERMINATOR_UUID",
    "TERMINATOR_DBUS_NAME",
    "TERMINATOR_DBUS_PATH",
    "COLORTERM",
    "COLUMNS",
    "LINES",
    "VTE_VERSION",
    "STY",
    "WINDOW",
    "WINDOWID",
    "WT_SESSION",
    "WT_PROFILE_ID",
    "KONSOLE_VERSION",
    // the session
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "XDG_VTNR",
    "XDG_SEAT",
    "XDG_ACTIVATION_TOKEN",
    "DESKTOP_STARTUP_ID",
    "SESSION_MANAGER",
    "DBUS_SESSION_BUS_ADDRESS",
    "SSH_AUTH_SOCK",
    "SSH_AGENT_PID",
    "SSH_CLIENT",
    "SSH_CONNECTION",
    "SSH_TTY",
    "SSH_ASKPASS",
    "INVOCATION_ID",
    "GPG_TTY",
    "SECURITYSESSIONID",
    // set by cargo or rustup for each test, whatever the shell says
    "CARGO",
    "CARGO_MANIFEST_DIR",
    "CARGO_MANIFEST_PATH",
    "CARGO_PKG_AUTHORS",
    "CARGO_PKG_DESCRIPTION",
    "CARGO_PKG_HOMEPAGE",
    "CARGO_PKG_LICENSE",
    "CARGO_PKG_LICENSE_FILE",
    "CARGO_PKG_NAME",
    "CARGO_PKG_README",
    "CARGO_PKG_REPOSITORY",
    "CARGO_PKG_RUST_VERSION",
    "CARGO_PKG_VERSION",
    "CARGO_PKG_VERSION_MAJOR",
    "CARGO_PKG_VERSION_MINOR",
    "CARGO_PKG_VERSION_PATCH",
    "CARGO_PKG_VERSION_PRE",
    "RUST_RECURSION_COUNT",
    "RUSTUP_TOOLCHAIN_SOURCE",
];

/// The same by how they begin.
const SESSION_PREFIXES: &[&str] = &[
    "TERM_PROGRAM",
    "TERM_SESSION",
    "XDG_SESSION_",
    "TMUX",
    "GNOME_TERMINAL_",
    "KONSOLE_DBUS_",
    "KITTY_",
    "ALACRITTY_",
    "WEZTERM_",
    "ITERM_",
    "LC_TERMINAL",
    "VSCODE_",
    "GHOSTTY_",
];

/// Variables by which cargo, rustc and build scripts for C code build something else.
const BUILD: &[&str] = &[
    "RUSTFLAGS",
    "RUSTDOCFLAGS",
    "RUSTDOC",
    "CC",
    "CXX",
    "CPP",
    "AR",
    "LD",
    "RANLIB",
    "CFLAGS",
    "CXXFLAGS",
    "CPPFLAGS",
    "LDFLAGS",
    "ARFLAGS",
    "CRATE_CC_NO_DEFAULTS",
    "SOURCE_DATE_EPOCH",
    "MACOSX_DEPLOYMENT_TARGET",
    "SDKROOT",
];

/// The same by how they begin; `CC_x86_64-unknown-linux-gnu` and its like among them.
const BUILD_PREFIXES: &[&str] = &[
    "RUSTC",
    "CARGO_",
    "CC_",
    "CXX_",
    "AR_",
    "CFLAGS_",
    "CXXFLAGS_",
    "HOST_",
    "TARGET_",
    "PKG_CONFIG",
];

/// The exceptions: they only decide speed, place or looks of a build. Tests may still read them.
const NOT_BUILD: &[&str] = &[
    "CARGO_HOME",
    "CARGO_TARGET_DIR",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_BUILD_BUILD_DIR",
    "CARGO_BUILD_JOBS",
    "CARGO_LOG",
];

/// How the parts begin that have cargo's configuration.
const CONFIG: &str = "cargo config ";
const CONFIG_ORDER: &str = "order of cargo's configuration";

impl Identity {
    /// The identity of a build and run of the workspace at `root`.
    #[must_use]
    pub(crate) fn of(
        root: &Path,
        toolchain: &Toolchain,
        config: &CargoConfig,
        environment: &Environment,
    ) -> Self {
        let mut this = Self::default();
        this.build.insert("toolchain".to_owned(), Digest::of(toolchain.identity.as_bytes()));
        let mut order = Digester::new("order of cargo's configuration 1");
        for file in config.files() {
            let label = config_label(&file.path, root, config.home());
            order.field(label.as_bytes());
            this.build.insert(format!("{CONFIG}{label}"), file.digest);
        }
        // Cargo's home lies on the way up from some checkouts, where it weighs more than what lies above it.
        if config.files().len() > 1 {
            this.build.insert(CONFIG_ORDER.to_owned(), order.finish());
        }
        let linked = linked_files(root, config, environment).into_iter();
        this.build.extend(linked.map(|(path, digest)| (format!("{LINKED}`{path}`"), digest)));
        // Another user may read and write other files.
        let user = rustix::process::geteuid().as_raw();
        this.run.insert("user".to_owned(), Digest::of(&user.to_le_bytes()));
        for (name, value) in environment.iter() {
            // A name that is not UTF-8 is kept apart from any other by its escaped bytes.
            let label = format!("environment variable {}", name.as_bytes().escape_ascii());
            match kind(name) {
                Kind::Session => {}
                Kind::Build => {
                    this.build.insert(label, Digest::of(&without_root(value.as_bytes(), root)));
                }
                Kind::Run => {
                    this.run.insert(label, Digest::of(value.as_bytes()));
                }
            }
        }
        this
    }

    /// The parts of the build but cargo's configuration, of which cargo itself notices what decides a unit.
    pub(crate) fn unnoticed(&self) -> impl Iterator<Item = (&String, &Digest)> {
        self.build.iter().filter(|(name, _)| !name.starts_with(CONFIG) && *name != CONFIG_ORDER)
    }

    /// The digest of the build's parts.
    #[must_use]
    pub(crate) fn build_digest(&self) -> Digest {
        digest("build identity 1", &self.build)
    }

    /// The digest of the run's parts.
    #[must_use]
    pub(crate) fn run_digest(&self) -> Digest {
        digest("run identity 1", &self.run)
    }

    /// The digest of both.
    #[must_use]
    pub(crate) fn digest(&self) -> Digest {
        let mut digester = Digester::new("identity 1");
        digester.digest(&self.build_digest()).digest(&self.run_digest());
        digester.finish()
    }

    /// Names every part in which `self`, the newer one, differs from `other`.
    #[must_use]
    pub(crate) fn diff(&self, other: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for (new, old) in [(&self.build, &other.build), (&self.run, &other.run)] {
            for (name, digest) in new {
                match old.get(name) {
                    None => lines.push(format!("{name} is new")),
                    Some(before) if before != digest => lines.push(format!("{name} has changed")),
                    Some(_) => {}
                }
            }
            let gone = old.keys().filter(|name| !new.contains_key(*name));
            lines.extend(gone.map(|name| format!("{name} is gone")));
        }
        lines
    }
}

/// Whether a variable belongs to the terminal or session, or is set anew for each test, and so
/// is no part of any identity.
#[must_use]
pub(crate) fn is_session_variable(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    SESSION.contains(&&*name) || SESSION_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether a variable that a test is given belongs to the terminal or session. What cargo sets for
/// the test does not.
#[must_use]
pub(crate) fn is_terminal_variable(name: &OsStr) -> bool {
    let is_cargos = name == "CARGO" || name.as_bytes().starts_with(b"CARGO_");
    !is_cargos && is_session_variable(name)
}

/// Whether a variable belongs to cargo, rustc or the C compilers of build scripts.
pub(super) fn is_build_variable(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with("RUST")
        || BUILD.contains(&&*name)
        || BUILD_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

enum Kind {
    Session,
    Build,
    Run,
}

fn kind(name: &OsStr) -> Kind {
    if is_session_variable(name) {
        return Kind::Session;
    }
    let name = name.to_string_lossy();
    let display = name.starts_with("CARGO_TERM_") || name.starts_with("CARGO_HTTP_");
    let build =
        BUILD.contains(&&*name) || BUILD_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    if build && !display && !NOT_BUILD.contains(&&*name) { Kind::Build } else { Kind::Run }
}

/// A config file's name that is the same in every checkout and, where it can be, on every machine.
fn config_label(path: &Path, root: &Path, home: Option<&Path>) -> String {
    if let Some(rest) = home.and_then(|home| path.strip_prefix(home).ok()) {
        return format!("$CARGO_HOME/{}", rest.display());
    }
    let mut up = String::new();
    for folder in root.ancestors() {
        // At the very top nothing is shared any more: `/etc/x` is not `../../etc/x`.
        if folder.parent().is_none() && !path.starts_with("/.cargo") {
            break;
        }
        if let Ok(rest) = path.strip_prefix(folder) {
            return format!("{up}{}", rest.display());
        }
        up.push_str("../");
    }
    path.display().to_string()
}

/// The value with the checkout's own path replaced, so that two checkouts agree.
#[must_use]
pub(crate) fn without_root(value: &[u8], root: &Path) -> Vec<u8> {
    replace_folder(value, root, b"\0workspace")
}

/// A text with a label in the place of a folder. A label begins with a byte that no variable can hold:
/// no other value can look like the replaced one.
#[must_use]
pub(crate) fn replace_folder(value: &[u8], folder: &Path, label: &[u8]) -> Vec<u8> {
    let root = folder.as_os_str().as_bytes();
    let mut rest = value;
    let mut out = Vec::with_capacity(value.len());
    while !rest.is_empty() {
        let ends = |next: Option<&u8>| next.is_none_or(|byte| !byte.is_ascii_alphanumeric());
        if root.len() > 1 && rest.starts_with(root) && ends(rest.get(root.len())) {
            out.extend_from_slice(label);
            rest = &rest[root.len()..];
        } else {
            out.push(rest[0]);
            rest = &rest[1..];
        }
    }
    out
}

fn digest(domain: &str, parts: &BTreeMap<String, Digest>) -> Digest {
    let mut digester = Digester::new(domain);
    digester.number(parts.len() as u64);
    for (name, digest) in parts {
        digester.field(name.as_bytes()).digest(digest);
    }
    digester.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn toolchain(identity: &str) -> Toolchain {
        Toolchain {
            cargo: "/c".into(),
            rustc: "/r".into(),
            rustdoc: "/d".into(),
            sysroot: "/s".into(),
            host: "h".into(),
            identity: identity.into(),
        }
    }

    fn identity(root: &Path, variables: &[(&str, &str)]) -> Identity {
        let environment = variables.iter().map(|(n, v)| (n.into(), v.into())).collect();
        let config = CargoConfig::read(root, &environment, &[]).unwrap();
        Identity::of(root, &toolchain("rustc 1"), &config, &environment)
    }

    fn here(variables: &[(&str, &str)]) -> Identity {
        identity(Path::new("/nowhere/w"), variables)
    }

    #[test]
    fn variables_go_to_the_build_to_the_run_or_nowhere() {
        for name in [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_PROFILE_DEV_DEBUG",
            "RUSTC_WRAPPER",
            "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER",
            "CARGO_INCREMENTAL",
            "CC",
            "CFLAGS_x86_64",
            "RUSTC_BOOTSTRAP",
            "CARGO_BUILD_TARGET",
            "PKG_CONFIG_PATH",
        ] {
            let identity = here(&[(name, "x")]);
            assert_eq!((identity.build.len(), identity.run.len()), (2, 1), "{name}");
        }
        for name in ["HOME", "PATH", "TZ", "FOO", "CARGO_TERM_COLOR", "CARGO_TARGET_DIR", "LANG"] {
            let identity = here(&[(name, "/x")]);
            assert_eq!((identity.build.len(), identity.run.len()), (1, 2), "{name}");
        }
        for name in ["PWD", "TERM", "TERM_PROGRAM", "SSH_AUTH_SOCK", "CARGO", "CARGO_PKG_NAME", "_"]
        {
            assert_eq!(here(&[(name, "x")]), here(&[]), "{name}");
        }
        for name in ["TERMS", "PROMPT_FILE", "SSH_TEST_HOST", "CARGO_PKG_COMMIT"] {
            assert_ne!(here(&[(name, "x")]), here(&[]), "{name} is neither's");
        }
    }

    #[test]
    fn what_cargo_sets_for_a_test_is_no_matter_of_the_terminal() {
        for name in ["CARGO", "OUT_DIR", "CARGO_PKG_NAME", "CARGO_BIN_EXE_x", "PATH", "CARGO_X"] {
            assert!(!is_terminal_variable(OsStr::new(name)), "{name}");
        }
        for name in ["PWD", "TERM", "TMUX_PANE", "RUST_RECURSION_COUNT"] {
            assert!(is_terminal_variable(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn differences_are_named() {
        let old = here(&[("A", "1"), ("B", "1"), ("RUSTFLAGS", "x")]);
        let new = here(&[("B", "2"), ("C", "1"), ("RUSTFLAGS", "y")]);
        assert_eq!(
            new.diff(&old),
            [
                "environment variable RUSTFLAGS has changed",
                "environment variable B has changed",
                "environment variable C is new",
                "environment variable A is gone",
            ]
        );
        assert!(old.diff(&old).is_empty());
        assert_ne!(old.digest(), new.digest());
        assert_ne!(old.build_digest(), new.build_digest());
        assert_eq!(here(&[("A", "1")]).build_digest(), here(&[("A", "2")]).build_digest());
    }

    #[test]
    fn two_checkouts_of_one_tree_are_built_alike() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(base.join(".cargo")).unwrap();
        std::fs::write(base.join(".cargo/config.toml"), "[net]").unwrap();
        std::fs::create_dir_all(base.join("home")).unwrap();
        std::fs::write(base.join("home/config.toml"), "").unwrap();
        let home = base.join("home");
        let of = |name: &str| {
            let root: PathBuf = base.join(name);
            std::fs::create_dir_all(&root).unwrap();
            let flags = format!("-L {}/lib -L /other", root.display());
            identity(&root, &[("CARGO_HOME", home.to_str().unwrap()), ("RUSTFLAGS", &flags)])
        };
        let (one, two) = (of("one"), of("two"));
        assert_eq!(one.build, two.build);
        let names: Vec<&String> = one.build.keys().collect();
        assert_eq!(
            names,
            [
                "cargo config $CARGO_HOME/config.toml",
                "cargo config ../.cargo/config.toml",
                "environment variable RUSTFLAGS",
                "order of cargo's configuration",
                "toolchain"
            ]
        );
        std::fs::write(base.join(".cargo/config.toml"), "[net]\n").unwrap();
        assert_eq!(of("one").diff(&one), ["cargo config ../.cargo/config.toml has changed"]);
    }

    #[test]
    fn the_same_configuration_counts_in_another_order() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        for (folder, text) in [(".cargo", "[net]"), ("a/.cargo", ""), ("home", "")] {
            std::fs::create_dir_all(base.join(folder)).unwrap();
            std::fs::write(base.join(folder).join("config.toml"), text).unwrap();
        }
        let of = |root: &str, home: &str| {
            let (root, home) = (base.join(root), base.join(home));
            std::fs::create_dir_all(&root).unwrap();
            identity(&root, &[("CARGO_HOME", home.to_str().unwrap())])
        };
        let (below_home, apart) = (of("a/w", "a/.cargo"), of("b/w", "home"));
        let difference = ["order of cargo's configuration has changed"];
        assert_eq!(apart.diff(&Identity { run: apart.run.clone(), ..below_home }), difference);
        let moved = Identity { run: apart.run.clone(), ..of("c/w", "home") };
        assert!(apart.diff(&moved).is_empty(), "the same elsewhere");
    }

    #[test]
    fn only_the_checkouts_own_path_is_replaced() {
        let root = Path::new("/w/one");
        assert_eq!(without_root(b"/w/one/x:/w/one", root), b"\0workspace/x:\0workspace");
        assert_eq!(without_root(b"/w/one2", root), b"/w/one2");
        assert_ne!(without_root(b"\0workspace", root), without_root(b"/w/one/", root));
    }
}

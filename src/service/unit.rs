//! The texts that define the service, and what is said by one that is installed.
//!
//! Each generated file carries the version that wrote it and a digest of itself, so that a change
//! made by hand is noticed and not overwritten.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::escape::{self, Unwritable};
use crate::model::Digest;

/// What the service is to run, and with which environment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Definition<'a> {
    /// The program, absolute.
    pub exe: &'a Path,
    /// The variables that it gets besides the session's own.
    pub variables: &'a BTreeMap<String, String>,
}

/// What an installed file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct WrittenUnit {
    /// The version that wrote it; `None` if no version of ours did.
    pub version: Option<String>,
    /// Whether it differs from what was written, or was never ours.
    pub edited: bool,
    /// The program that it runs, where that can be told.
    pub exe: Option<PathBuf>,
    /// The variables that it sets.
    pub variables: BTreeMap<String, String>,
}

const SERVICE: &str = include_str!("../../packaging/systemd/knhk-test-cache.service.in");
const SOCKET: &str = include_str!("../../packaging/systemd/knhk-test-cache.socket.in");
const PLIST: &str = include_str!("../../packaging/launchd/com.knhk.test-cache.plist.in");

/// How a program is started whose name systemd refuses.
const THROUGH_SHELL: &str = r#":/bin/sh -c "exec \"$@\"" sh"#;

/// The words before the version and before the digest in every generated file.
const VERSION_MARK: &str = "Written by `knhk-test-cache install`, version ";
const DIGEST_MARK: &str = "digest: ";

/// The systemd service unit.
///
/// # Errors
/// If the program's path cannot be written.
pub(super) fn service_unit(definition: &Definition<'_>) -> Result<String, Unwritable> {
    let program = escape::systemd_word(definition.exe.as_os_str())?;
    let exec = if definition.exe.to_string_lossy().contains(['"', '\'', '\\']) {
        // systemd runs no program with such a name, however it is quoted; a shell does, and
        // becomes it.
        format!("{THROUGH_SHELL} {program} daemon")
    } else {
        format!(":{program} daemon")
    };
    let mut environment = Vec::new();
    for (name, value) in definition.variables {
        let word = escape::systemd_word(OsStr::new(&format!("{name}={value}")))?;
        environment.push(format!("Environment={word}"));
    }
    let environment = environment.join("\n");
    Ok(service_text(&exec, &environment))
}

fn service_text(exec: &str, environment: &str) -> String {
    sealed(&SYSTEMD_MARK, |mark| {
        let places = [("MARK", mark), ("EXEC_START", exec), ("ENVIRONMENT", environment)];
        escape::fill(SERVICE, &places)
    })
}

/// The systemd socket unit.
#[must_use]
pub(super) fn socket_unit() -> String {
    sealed(&SYSTEMD_MARK, |mark| escape::fill(SOCKET, &[("MARK", mark)]))
}

/// The launchd property list; what the service says outside its log goes to `stderr`.
///
/// # Errors
/// If a path cannot be written.
pub(super) fn property_list(
    definition: &Definition<'_>,
    stderr: &Path,
) -> Result<String, Unwritable> {
    let arguments = format!(
        "\t\t<string>{}</string>\n\t\t<string>daemon</string>",
        escape::xml(definition.exe.as_os_str())?
    );
    let mut environment = String::new();
    for (name, value) in definition.variables {
        let (name, value) = (escape::xml(OsStr::new(name))?, escape::xml(OsStr::new(value))?);
        let _ = write!(environment, "\t\t<key>{name}</key>\n\t\t<string>{value}</string>\n");
    }
    let stderr = escape::xml(stderr.as_os_str())?;
    Ok(sealed(&LAUNCHD_MARK, |mark| {
        let places = [
            ("MARK", mark),
            ("ARGUMENTS", &arguments),
            ("ENVIRONMENT", environment.trim_end_matches('\n')),
            ("STDERR", &stderr),
        ];
        escape::fill(PLIST, &places)
    }))
}

/// The head of a generated file: what stands before the version, before the digest, and after it.
type CommentMarks = [&'static str; 3];

const SYSTEMD_MARK: CommentMarks = [
    "# ",
    "\n# A change made here is kept by later installs, and so never improves: put your own settings\n\
     # into a drop-in with `systemctl --user edit knhk-test-cache`.\n# ",
    "",
];
const LAUNCHD_MARK: CommentMarks = ["<!-- ", " -->\n<!-- ", " -->"];

/// Builds a text whose head holds its version and digest. The digest is that of the text with an
/// empty one.
fn sealed(mark: &CommentMarks, build: impl Fn(&str) -> String) -> String {
    let [before, between, after] = mark;
    let version = env!("CARGO_PKG_VERSION");
    let with = |digest: &str| {
        build(&format!("{before}{VERSION_MARK}{version}.{between}{DIGEST_MARK}{digest}{after}"))
    };
    let digest = Digest::of(with("").as_bytes());
    with(&digest.to_string())
}

/// Whether a text is as it was written: its digest fits the rest of it.
fn is_sealed(text: &str) -> bool {
    let Some((before, after)) = text.split_once(DIGEST_MARK) else { return false };
    let Some(digest) = after.get(..64).and_then(|digits| digits.parse::<Digest>().ok()) else {
        return false;
    };
    let rest = format!("{before}{DIGEST_MARK}{}", &after[64..]);
    Digest::of(rest.as_bytes()) == digest
}

fn version(text: &str) -> Option<String> {
    let (_, after) = text.split_once(VERSION_MARK)?;
    let line = after.lines().next()?.trim_end_matches(" -->");
    Some(line.trim_end_matches('.').to_owned())
}

/// What a systemd unit file of the user with this home says.
#[must_use]
pub(super) fn read_unit(text: &str, home: &Path) -> WrittenUnit {
    let home = home.to_string_lossy();
    let mut written =
        WrittenUnit { version: version(text), edited: !is_sealed(text), ..WrittenUnit::default() };
    for line in text.lines() {
        let Some((key, value)) = line.trim().split_once('=') else { continue };
        let words = || escape::systemd_words(value.trim(), &home);
        match key.trim_end() {
            "ExecStart" => {
                let after_shell = value.trim().strip_prefix(THROUGH_SHELL);
                let words =
                    after_shell.map_or_else(words, |rest| escape::systemd_words(rest, &home));
                let program = words.and_then(|words| words.into_iter().next());
                written.exe = program
                    .map(|word| PathBuf::from(word.trim_start_matches([':', '@', '-', '+', '!'])));
            }
            "Environment" => {
                let pairs = words().unwrap_or_default();
                written.variables.extend(pairs.iter().filter_map(|pair| {
                    let (name, value) = pair.split_once('=')?;
                    Some((name.to_owned(), value.to_owned()))
                }));
            }
            _ => {}
        }
    }
    written
}

/// What a property list of ours says. One in another layout just says nothing.
#[must_use]
pub(super) fn read_property_list(text: &str) -> WrittenUnit {
    let section = |key: &str, end: &str| {
        let (_, after) = text.split_once(&format!("<key>{key}</key>"))?;
        after.split_once(end).map(|(section, _)| section)
    };
    let unescape = |text: &str| {
        text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&")
    };
    let inner = |text: &str, tag: &str| -> Vec<String> {
        let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
        text.split(&open)
            .skip(1)
            .filter_map(|rest| rest.split_once(&close).map(|(value, _)| unescape(value)))
            .collect()
    };
    let arguments = section("ProgramArguments", "</array>").unwrap_or_default();
    let variables = section("EnvironmentVariables", "</dict>").unwrap_or_default();
    WrittenUnit {
        version: version(text),
        edited: !is_sealed(text),
        exe: inner(arguments, "string").into_iter().next().map(PathBuf::from),
        variables: inner(variables, "key").into_iter().zip(inner(variables, "string")).collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    const HOME: &str = "/home/me";
    const NASTY: &str = "/opt/a b/\"q\"/100%h/$HOME/back\\slash/é&<x>/knhk-test-cache";

    #[test]
    fn a_unit_says_what_was_put_into_it() {
        let variables = variables(&[("PATH", "/a b:/c%d"), ("CC", "clang \"x\" '$y' \\")]);
        let definition = Definition { exe: Path::new(NASTY), variables: &variables };
        let text = service_unit(&definition).unwrap();
        let expected = WrittenUnit {
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            edited: false,
            exe: Some(NASTY.into()),
            variables: variables.clone(),
        };
        assert_eq!(read_unit(&text, Path::new(HOME)), expected);
        let list = property_list(&definition, Path::new("/l/x.log")).unwrap();
        assert_eq!(read_property_list(&list), expected);
        for place in ["MARK", "EXEC_START", "ENVIRONMENT", "ARGUMENTS", "STDERR"] {
            let place = format!("@{place}@");
            assert!(!text.contains(&place) && !list.contains(&place), "{place} is filled");
        }
    }

    /// Units in packages serve every user, so they cannot hold one's PATH.
    #[test]
    fn the_packages_units_are_up_to_date() {
        let path = "Environment=PATH=%h/.cargo/bin:/usr/local/bin:/usr/bin:/bin";
        let service = service_text(":/usr/bin/knhk-test-cache daemon", path);
        let written = read_unit(&service, Path::new(HOME));
        assert!(written.variables["PATH"].starts_with("/home/me/.cargo/bin:"));
        assert!(!written.edited);
        for (name, text) in [("service", service), ("socket", socket_unit())] {
            let file = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join(format!("packaging/systemd/packaged/knhk-test-cache.{name}"));
            if std::env::var_os("KNHK_WRITE_PACKAGED_UNITS").is_some() {
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(&file, &text).unwrap();
            }
            let there = std::fs::read_to_string(&file).unwrap_or_default();
            assert_eq!(there, text, "run this test with KNHK_WRITE_PACKAGED_UNITS=1");
        }
    }

    #[test]
    fn a_change_by_hand_is_noticed() {
        let text = socket_unit();
        assert!(!read_unit(&text, Path::new(HOME)).edited);
        assert!(read_unit(&text.replace("0600", "0666"), Path::new(HOME)).edited);
        assert!(read_unit(&text.replace("digest: ", "digest: 0"), Path::new(HOME)).edited);
        assert!(read_unit(&format!("{text}\n"), Path::new(HOME)).edited);
        assert!(
            read_unit("[Service]\nExecStart=/bin/true\n", Path::new(HOME)).edited,
            "never ours"
        );
    }

    #[test]
    fn a_path_with_a_newline_is_refused() {
        let none = BTreeMap::new();
        let definition = Definition { exe: Path::new("/a\nb"), variables: &none };
        assert_eq!(service_unit(&definition), Err(Unwritable::Control));
        assert_eq!(property_list(&definition, Path::new("/l")), Err(Unwritable::Control));
    }

    #[test]
    fn the_property_list_promises_what_the_unit_does() {
        let variables = variables(&[("PATH", "/u/.cargo/bin:/usr/bin"), ("CC", "a<b>&c")]);
        let definition = Definition { exe: Path::new(NASTY), variables: &variables };
        let text = property_list(&definition, Path::new("/l/stderr & more.log")).unwrap();
        let value: plist::Value = plist::from_bytes(text.as_bytes()).unwrap();
        let list = value.as_dictionary().unwrap();
        let keys: Vec<&str> = list.keys().map(String::as_str).collect();
        let mut expected = vec![
            "Label",
            "ProgramArguments",
            "EnvironmentVariables",
            "RunAtLoad",
            "KeepAlive",
            "ThrottleInterval",
            "ExitTimeOut",
            "AbandonProcessGroup",
            "ProcessType",
            "LowPriorityIO",
            "LowPriorityBackgroundIO",
            "Nice",
            "StandardOutPath",
            "StandardErrorPath",
        ];
        expected.sort_unstable();
        let mut sorted = keys.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, expected);
        let string = |key: &str| list[key].as_string().unwrap();
        assert_eq!(string("Label"), "com.knhk.test-cache");
        assert_eq!(string("ProcessType"), "Background");
        assert_eq!(string("StandardErrorPath"), "/l/stderr & more.log");
        assert_eq!(string("StandardOutPath"), "/l/stderr & more.log");
        let arguments: Vec<_> = list["ProgramArguments"]
            .as_array()
            .unwrap()
            .iter()
            .map(|argument| argument.as_string().unwrap())
            .collect();
        assert_eq!(arguments, [NASTY, "daemon"]);
        let environment = list["EnvironmentVariables"].as_dictionary().unwrap();
        assert_eq!(environment["PATH"].as_string(), Some("/u/.cargo/bin:/usr/bin"));
        assert_eq!(environment["CC"].as_string(), Some("a<b>&c"));
        assert_eq!(environment.len(), 2);
        let keep_alive = list["KeepAlive"].as_dictionary().unwrap();
        assert_eq!(keep_alive["SuccessfulExit"].as_boolean(), Some(false));
        assert_eq!(keep_alive.len(), 1);
        for (key, expected) in [
            ("RunAtLoad", true),
            ("LowPriorityIO", true),
            ("LowPriorityBackgroundIO", true),
            ("AbandonProcessGroup", false),
        ] {
            assert_eq!(list[key].as_boolean(), Some(expected), "{key}");
        }
        for (key, expected) in [("ThrottleInterval", 10), ("ExitTimeOut", 10), ("Nice", 10)] {
            assert_eq!(list[key].as_signed_integer(), Some(expected), "{key}");
        }
    }

    proptest! {
        #[test]
        fn any_path_and_value_come_back(path in "/\\PC+", value in "\\PC*") {
            let variables = variables(&[("A", &value)]);
            let definition = Definition { exe: Path::new(&path), variables: &variables };
            let written = read_unit(&service_unit(&definition).unwrap(), Path::new(HOME));
            prop_assert_eq!(written.exe.as_deref(), Some(Path::new(&path)));
            prop_assert!(!written.edited);
            prop_assert_eq!(&written.variables, &variables);
        }
    }
}

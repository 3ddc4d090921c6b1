//! Which variables count for a run, as far as their names tell.
//!
//! A program that looks a variable up has the variable's name, or the prefix from which it makes
//! names, in its own bytes or in a file that it reads. The text to look for is that prefix: the
//! letters before the first `_` or digit. Prefixes of few letters occur everywhere, so a variable
//! with such a name always counts, unless it is known to belong to a session, a terminal, an agent
//! or a CI run; then its whole name is looked for.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::build_variables::decides_build;
use super::identity::is_build_variable;

/// Prefixes of fewer letters are no evidence.
const SHORTEST_PREFIX: usize = 4;

/// Variables of sessions, desktops, terminals, shells, version managers, agents, CI runs and git's hooks of which
/// no program makes up the name: the whole of it is looked for.
const KNOWN: &[&str] = &[
    "AI_AGENT",
    "CLAUDECODE",
    "CURSOR_AGENT",
    "CURSOR_TRACE_ID",
    "EDITOR",
    "GDK_BACKEND",
    "GDK_SCALE",
    "GIO_LAUNCHED_DESKTOP_FILE",
    "GIO_LAUNCHED_DESKTOP_FILE_PID",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_AUTHOR_DATE",
    "GIT_AUTHOR_EMAIL",
    "GIT_AUTHOR_NAME",
    "GIT_DIR",
    "GIT_EDITOR",
    "GIT_EXEC_PATH",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_QUARANTINE_PATH",
    "GIT_REFLOG_ACTION",
    "GIT_WORK_TREE",
    "GJS_DEBUG_OUTPUT",
    "GJS_DEBUG_TOPICS",
    "GPG_AGENT_INFO",
    "GTK2_RC_FILES",
    "GTK_IM_MODULE",
    "GTK_MODULES",
    "GTK_RC_FILES",
    "GTK_THEME",
    "IM_CONFIG_PHASE",
    "INFOPATH",
    "IN_NIX_SHELL",
    "KDE_APPLICATIONS_AS_SCOPE",
    "KDE_FULL_SESSION",
    "KDE_SESSION_UID",
    "KDE_SESSION_VERSION",
    "LESS",
    "LESSCLOSE",
    "LESSOPEN",
    "LSCOLORS",
    "LS_COLORS",
    "MANPAGER",
    "MANPATH",
    "NIX_PATH",
    "NIX_PROFILES",
    "OPENCODE",
    "P9K_SSH",
    "P9K_TTY",
    "PAGER",
    "QT_ACCESSIBILITY",
    "QT_AUTO_SCREEN_SCALE_FACTOR",
    "QT_IM_MODULE",
    "QT_IM_MODULES",
    "QT_QPA_PLATFORM",
    "QT_QPA_PLATFORMTHEME",
    "QT_SCALE_FACTOR",
    "QT_STYLE_OVERRIDE",
    "QT_WAYLAND_RECONNECT",
    "VIRTUAL_ENV",
    "VIRTUAL_ENV_PROMPT",
    "VISUAL",
    "WSL2_GUI_APPS_ENABLED",
    "WSLENV",
    "WSL_DISTRO_NAME",
    "WSL_INTEROP",
    "XDG_CURRENT_DESKTOP",
    "XDG_GREETER_DATA_DIR",
    "XDG_MENU_PREFIX",
    "XDG_RUNTIME_DIR",
    "ZSH",
    "_P9K_SSH_TTY",
    "_P9K_TTY",
    "_ZO_DOCTOR",
];

/// Beginnings of such variables' names; what is before the first `_` is looked for together with it.
const KNOWN_PREFIXES: &[&str] = &[
    "ASDF_",
    "ATUIN_",
    "AUGMENT_",
    "BUILDKITE_",
    "CIRCLE_",
    "CLAUDE_",
    "CODEX_",
    "CONDA_",
    "DESKTOP_",
    "DIRENV_",
    "FNM_",
    "FZF_",
    "GEMINI_",
    "GITHUB_",
    "GITLAB_",
    "HYPRLAND_",
    "MISE_",
    "NVM_",
    "POWERLEVEL9K_",
    "POWERLINE_",
    "PYENV_",
    "RUNNER_",
    "SDKMAN_",
    "SSH_",
    "STARSHIP_",
    "ZELLIJ_",
    "__MISE_",
];

/// The variable that says where cargo builds.
const TARGET_DIR: &str = "CARGO_TARGET_DIR";

/// How a variable can take part in the outcome of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Relevance {
    /// It always counts.
    Always,
    /// It counts if something in the run contains this text, whatever its case. It is in lower case.
    IfNamed(String),
    /// It counts by the programs that are found by it.
    SearchPath,
}

/// How a variable of this name takes part, unless it belongs to the session.
#[must_use]
pub(crate) fn relevance(name: &OsStr) -> Relevance {
    if name == "PATH" {
        return Relevance::SearchPath;
    }
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let Some(text) = name.to_str().filter(|_| name.as_bytes().iter().all(is_plain)) else {
        return Relevance::Always;
    };
    if is_for_build(name) {
        return Relevance::Always;
    }
    let start = text.len() - text.trim_start_matches('_').len();
    let is_letter = |byte: &u8| byte.is_ascii_alphabetic();
    let letters = text.as_bytes()[start..].iter().take_while(|byte| is_letter(byte)).count();
    let end = start + letters;
    let begins_known = KNOWN_PREFIXES.iter().any(|prefix| text.starts_with(prefix));
    let wanted = match (begins_known || KNOWN.contains(&text), letters >= SHORTEST_PREFIX) {
        (true, true) if begins_known && text[end..].starts_with('_') => &text[..=end],
        (true, _) => text,
        (false, true) => &text[start..end],
        (false, false) => return Relevance::Always,
    };
    Relevance::IfNamed(wanted.to_ascii_lowercase())
}

/// The texts that are looked for because of well-known variables.
pub(crate) fn well_known_texts() -> impl Iterator<Item = String> {
    well_known_beginnings().map(str::to_ascii_lowercase)
}

/// The names of well-known variables, or the beginnings of theirs.
pub(crate) fn well_known_beginnings() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().chain(KNOWN_PREFIXES).copied()
}

/// Whether a variable belongs to cargo, rustc, or the compilers and tools of build scripts.
#[must_use]
pub(crate) fn is_for_build(name: &OsStr) -> bool {
    is_build_variable(name) || decides_build(name)
}

/// Whether a variable says no more than that cargo, called in `dir`, builds where it would anyway.
#[must_use]
pub(crate) fn names_default_target_dir(
    name: &OsStr,
    value: &OsStr,
    dir: &Path,
    root: &Path,
) -> bool {
    name == TARGET_DIR && !value.is_empty() && dir.join(value) == root.join("target")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(name: &str) -> Option<String> {
        match relevance(OsStr::new(name)) {
            Relevance::IfNamed(text) => Some(text),
            _ => None,
        }
    }

    #[test]
    fn a_variable_is_looked_for_by_the_letters_before_the_first_other_character() {
        for (name, text) in [
            ("DATABASE_URL", "database"),
            ("FEATURE1", "feature"),
            ("__SETTING_X", "setting"),
            ("flavour", "flavour"),
        ] {
            assert_eq!(wanted(name).as_deref(), Some(text), "{name}");
        }
    }

    #[test]
    fn a_known_variable_is_looked_for_by_more_of_its_name() {
        for (name, text) in [
            ("STARSHIP_SESSION_KEY", "starship_"),
            ("__MISE_SESSION", "__mise_"),
            ("POWERLINE_COMMAND", "powerline_"),
            ("VIRTUAL_ENV", "virtual_env"),
            ("LS_COLORS", "ls_colors"),
            ("AI_AGENT", "ai_agent"),
            ("CLAUDECODE", "claudecode"),
            ("SSH_X", "ssh_x"),
            ("GIT_INDEX_FILE", "git_index_file"),
            ("XDG_RUNTIME_DIR", "xdg_runtime_dir"),
            ("QT_IM_MODULE", "qt_im_module"),
            ("ZSH", "zsh"),
            ("_P9K_TTY", "_p9k_tty"),
        ] {
            assert_eq!(wanted(name).as_deref(), Some(text), "{name}");
        }
    }

    #[test]
    fn a_short_or_odd_name_always_counts_and_so_does_what_decides_the_build() {
        for name in [
            "TZ",
            "CI",
            "NO_COLOR",
            "GIT_TRACE",
            // Programs put these together: `XDG_{}_HOME`.
            "XDG_CONFIG_HOME",
            "XDG_DATA_DIRS",
            "LD_PRELOAD",
            "A1",
            "_",
            "RUST_LOG",
            "CARGO_HOME",
            "CC",
        ] {
            assert_eq!(relevance(OsStr::new(name)), Relevance::Always, "{name}");
        }
        for name in [&b"BASH_FUNC_x%%"[..], b"CAF\xc9_X", "GR\u{dc}N_X".as_bytes(), b""] {
            assert_eq!(relevance(OsStr::from_bytes(name)), Relevance::Always);
        }
        assert_eq!(relevance(OsStr::new("PATH")), Relevance::SearchPath);
    }
}

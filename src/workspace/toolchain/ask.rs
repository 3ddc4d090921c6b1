//! Asking cargo and rustc: the slow way.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cargo_platform::Cfg;

use super::memo::ToolchainAnswer;
use super::question::{ToolchainError, ToolchainQuestion, compiler_libraries, content};
use crate::process::{Environment, Spec, capture};
use crate::workspace::stamp::PathStamp;

/// A version question that takes longer than this hangs.
const ANSWER_TIME: Duration = Duration::from_secs(60);

/// The answers of `cargo -V`, `rustc -vV` and `rustc --print sysroot`.
pub(super) fn ask(
    question: &ToolchainQuestion,
    dir: &Path,
    environment: &Environment,
) -> Result<ToolchainAnswer, ToolchainError> {
    let cargo = tell(&question.cargo, &["-V"], dir, environment)?;
    let version = tell(&question.rustc, &["-vV"], dir, environment)?;
    let sysroot = tell(&question.rustc, &["--print", "sysroot"], dir, environment)?;
    let field = |name: &str| version.lines().find_map(|line| line.strip_prefix(name));
    let host = field("host: ").ok_or_else(|| ToolchainError::Answer {
        command: format!("{} -vV", question.rustc.display()),
        answer: version.clone(),
    })?;
    let host = host.trim().to_owned();
    let sysroot = PathBuf::from(sysroot.trim_end_matches(['\r', '\n']));
    let mut identity = format!("{}\n{}\n", cargo.trim_end(), version.trim_end());
    // A compiler that someone builds keeps its version text from one build to the next.
    let release = field("release: ").unwrap_or_default();
    if release.ends_with("-dev") || field("commit-hash: ").is_none_or(|hash| hash == "unknown") {
        let lib = sysroot.join("lib");
        let standard = lib.join("rustlib").join(&host).join("lib");
        let files = [sysroot.join("bin/rustc"), standard, question.rustc.clone()];
        for path in compiler_libraries(&lib).iter().chain(&files) {
            let _ = writeln!(identity, "{}: {:?}", path.display(), PathStamp::followed(path));
        }
    }
    for (name, path) in &question.wrappers {
        let content =
            content(path).map_or_else(|| "unknown".to_owned(), |digest| digest.to_string());
        let _ = writeln!(identity, "{name}: {content}");
    }
    Ok(ToolchainAnswer { rustdoc: rustdoc(&sysroot, dir, environment), sysroot, host, identity })
}

/// The rustdoc that cargo takes by itself: through rustup the toolchain's own, past the proxy;
/// else the first in `PATH`.
fn rustdoc(sysroot: &Path, dir: &Path, environment: &Environment) -> PathBuf {
    let own = sysroot.join("bin/rustdoc");
    let by_rustup = sysroot.parent().is_some_and(|parent| parent.ends_with("toolchains"));
    if by_rustup && own.is_file() {
        return own;
    }
    environment.find_program(Path::new("rustdoc"), dir).unwrap_or(own)
}

/// `rustc --print cfg` for a target.
pub(super) fn cfgs(
    rustc: &Path,
    triple: &str,
    dir: &Path,
    environment: &Environment,
) -> Result<Vec<Cfg>, ToolchainError> {
    let text = tell(rustc, &["--print", "cfg", "--target", triple], dir, environment)?;
    // A line of a newer form than we know is no cfg that an expression of today can name.
    Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
}

fn tell(
    program: &Path,
    args: &[&str],
    dir: &Path,
    environment: &Environment,
) -> Result<String, ToolchainError> {
    let mut environment = environment.clone();
    // Whether to download a toolchain is for the person to say; no question may start that.
    environment.set("RUSTUP_AUTO_INSTALL", "0");
    // Rustup prints a stack for every error when this is set.
    environment.set("RUST_BACKTRACE", "0");
    let spec = Spec::new(program, dir, environment).args(args);
    let output = capture(&spec, ANSWER_TIME)?;
    if !output.success() {
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(ToolchainError::Refused {
            command: spec.command_line(),
            dir: dir.to_owned(),
            message: if message.is_empty() { output.end.to_string() } else { message },
        });
    }
    String::from_utf8(output.stdout).map_err(|error| ToolchainError::Answer {
        command: spec.command_line(),
        answer: String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

//! Failed builds and their messages.

use std::time::Duration;

use knhk_test_cache::internals::compiler::{BuildProgress, CompileError};
use knhk_test_cache::internals::process::{Environment, descendants};
use knhk_test_cache::internals::workspace::{CargoConfig, Toolchain};
use tokio_util::sync::CancellationToken;

use super::fixture::{Place, files};

async fn error(place: &Place, line: &[&str]) -> CompileError {
    place.compiler(line).build(&CancellationToken::new(), |_| {}).await.unwrap_err()
}

#[tokio::test]
async fn code_that_does_not_compile() {
    let place = Place::new(&files());
    place.write("w s/b/src/lib.rs", "pub fn f() -> u8 { \"text\" }\npub fn g() -> u8 { unknown }");
    let mut diagnostics = 0;
    let mut spec = place.spec(&["--workspace"]);
    let build = knhk_test_cache::internals::compiler::TestCompiler::new(spec.clone());
    let error = build
        .build(&CancellationToken::new(), |event| {
            diagnostics += usize::from(matches!(event, BuildProgress::Diagnostic(_)));
        })
        .await
        .unwrap_err();
    let CompileError::Failed { count: 2, errors, text, status: 101 } = &error else {
        panic!("{error:?}");
    };
    assert!(errors[0].contains("mismatched types") || errors[1].contains("mismatched types"));
    assert!(text.contains("could not compile `b`"), "{text}");
    assert!(!text.contains("Compiling") && !text.contains("Building ["), "{text}");
    assert_eq!(error.to_string(), "the build failed with 2 errors");
    assert!(error.rendered().contains("--> b/src/lib.rs:1:20"), "{}", error.rendered());
    assert!(diagnostics >= 2);
    spec.colour = true;
    let error = knhk_test_cache::internals::compiler::TestCompiler::new(spec)
        .build(&CancellationToken::new(), |_| {})
        .await
        .unwrap_err();
    assert!(error.rendered().contains("\u{1b}["), "colour was asked for");
    assert!(matches!(error, CompileError::Failed { count: 2, .. }), "{error:?}");
}

#[tokio::test]
async fn a_build_script_that_fails() {
    let place = Place::new(&files());
    place.write(
        "w s/a/build.rs",
        "fn main() { eprintln!(\"   Compiling nothing\"); panic!(\"boom\") }",
    );
    let error = error(&place, &["-p", "a"]).await;
    assert!(matches!(error, CompileError::Failed { count: 1, status: 101, .. }), "{error:?}");
    assert!(error.rendered().contains("boom"), "{}", error.rendered());
}

#[tokio::test]
async fn manifests_and_arguments_that_cargo_refuses() {
    let place = Place::new(&files());
    let refused = error(&place, &["-p", "nonsense"]).await;
    assert!(matches!(refused, CompileError::Refused { status: 101, .. }), "{refused:?}");
    assert!(refused.rendered().contains("nonsense"));
    let usage = error(&place, &["--nonsense"]).await;
    assert!(matches!(usage, CompileError::Refused { status: 1, .. }), "{usage:?}");
    assert!(usage.rendered().contains("unexpected argument '--nonsense'"), "{}", usage.rendered());
    place.write("w s/b/Cargo.toml", "[package]\nname='b'\nversion='x'\n");
    let manifest = error(&place, &["--workspace"]).await;
    assert!(matches!(manifest, CompileError::Manifest { status: 101, .. }), "{manifest:?}");
    assert!(manifest.rendered().contains("b/Cargo.toml"), "{}", manifest.rendered());
    std::fs::remove_file(place.root.join("b/Cargo.toml")).unwrap();
    let missing = error(&place, &["--workspace"]).await;
    assert!(matches!(missing, CompileError::Manifest { .. }), "{missing:?}");
}

#[tokio::test]
async fn cancelling_leaves_no_process_behind() {
    let place = Place::new(&files());
    place.write(
        "w s/a/build.rs",
        "fn main() { println!(\"cargo:warning=x\"); loop { std::thread::park() } }",
    );
    let cancel = CancellationToken::new();
    let compiler = place.compiler(&["-p", "a"]);
    let build = compiler.build(&cancel, |event| {
        // The bar names the script while it runs.
        if matches!(&event, BuildProgress::Building { what, .. } if what.contains("a(build)")) {
            cancel.cancel();
        }
    });
    let error = tokio::time::timeout(Duration::from_secs(120), build).await.unwrap().unwrap_err();
    assert!(matches!(error, CompileError::Cancelled), "{error:?}");
    let inside = place.root.join("target");
    let left = descendants(rustix::process::getpid()).into_iter().filter(|pid| {
        let exe = std::fs::read_link(format!("/proc/{}/exe", pid.as_raw_nonzero()));
        exe.is_ok_and(|exe| exe.starts_with(&inside))
    });
    assert_eq!(left.count(), 0);
}

#[tokio::test]
async fn a_cargo_that_has_vanished() {
    let place = Place::new(&files());
    let mut spec = place.spec(&[]);
    spec.toolchain.cargo = place.base.join("gone/cargo");
    let compiler = knhk_test_cache::internals::compiler::TestCompiler::new(spec);
    let error = compiler.build(&CancellationToken::new(), |_| {}).await.unwrap_err();
    assert!(error.to_string().contains("gone/cargo"), "{error}");
    assert!(matches!(error, CompileError::Spawn(_)));
}

#[test]
fn a_toolchain_that_is_not_installed_is_named_by_rustup() {
    let place = Place::new(&files());
    if place.environment.find_program("rustup".as_ref(), &place.root).is_none() {
        return; // Only rustup has toolchains that can be missing.
    }
    let mut environment: Environment = place.environment.clone();
    environment.set("RUSTUP_TOOLCHAIN", "1.0.0-no-such-toolchain");
    let config = CargoConfig::read(&place.root, &environment, &[]).unwrap();
    let memo = place.base.join("memo");
    let error = Toolchain::find(&place.root, &environment, &config, &memo).unwrap_err();
    assert!(error.to_string().contains("1.0.0-no-such-toolchain"), "{error}");
}

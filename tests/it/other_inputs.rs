//! Inputs outside the tree's content: permissions, attributes, names, files beside the checkout.
//! Real cargo fails after each change, so a hit would be stale. With and without a daemon.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::fs::{XattrFlags, setxattr};

use crate::binary::{Client, play};
use crate::home::{EXE, LIMIT, answered, is_root, takes_long, until_old};

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// An extended attribute. Not every file system has them.
fn set_attribute(path: &Path, value: &str) -> bool {
    setxattr(path, "user.a", value.as_bytes(), XattrFlags::empty()).is_ok()
}

#[test]
fn permissions_count_for_targets_that_see_them() {
    if takes_long() {
        return;
    }
    let test = "use std::os::unix::fs::PermissionsExt;\n\
                #[test] fn t() { let file = std::fs::File::open(\"data\").unwrap();\n\
                assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o640) }\n";
    play(&[("data", "1"), ("tests/it.rs", test)], |client| {
        let data = client.home.root.join("data");
        set_mode(&data, 0o640);
        client.ask().green_from("run");
        client.ask().green_from("cache");
        set_mode(&data, 0o644);
        client.ask().red();
        set_mode(&data, 0o640);
        client.ask().green();
        client.ask().green_from("cache");
    });
}

#[test]
fn attributes_count_by_path_and_by_descriptor() {
    if takes_long() {
        return;
    }
    let begin = "use std::os::fd::AsRawFd; use std::ffi::{c_char, c_int, c_void};\n\
                 extern \"C\" { fn getxattr(p: *const c_char, n: *const c_char, v: *mut c_void, \
                 s: usize) -> isize; fn fgetxattr(f: c_int, n: *const c_char, v: *mut c_void, \
                 s: usize) -> isize; }\n\
                 #[test] fn t() { let mut b = [0_u8; 8]; let v = b.as_mut_ptr().cast();\n\
                 let f = std::fs::File::open(\"data\").unwrap();\n\
                 let n = unsafe { ";
    let end = " }; assert!(n < 0 || (n > 0 && b[0] == b'1')); drop(f) }\n";
    let path = format!("{begin} getxattr(c\"data\".as_ptr(), c\"user.a\".as_ptr(), v, 8) {end}");
    let fd = format!("{begin} fgetxattr(f.as_raw_fd(), c\"user.a\".as_ptr(), v, 8) {end}");
    let files = [("data", "1"), ("tests/fd.rs", &fd[..]), ("tests/path.rs", &path)];
    play(&files, |client| {
        let data = client.home.root.join("data");
        if !set_attribute(&data, "1") {
            return;
        }
        client.ask().green();
        let mut asked = client.ask();
        // The attribute had only just been written.
        asked = if asked.source() == "cache" { asked } else { client.ask() };
        asked.green_from("cache");
        assert!(set_attribute(&data, "2"));
        let answer = client.ask();
        answer.red();
        assert_eq!(answer.run(), ["fd", "path"]);
    });
}

#[test]
fn uncounted_names_count_for_targets_that_list_their_folder() {
    if takes_long() {
        return;
    }
    let list = "#[test] fn t() { assert_eq!(std::fs::read_dir(\"data\").unwrap().count(), 1) }\n";
    let files = [("data/a", "1"), (".gitignore", "/target\n*.log\n"), ("tests/it.rs", list)];
    play(&files, |client| {
        client.home.git(&["init", "-q"]);
        client.ask().green_from("run");
        client.ask().green_from("cache");
        client.home.write("data/b.log", "");
        client.ask().red();
        fs::remove_file(client.home.root.join("data/b.log")).unwrap();
        client.ask().green();
    });
}

#[test]
fn a_file_put_into_the_target_folder_by_hand_counts() {
    if takes_long() {
        return;
    }
    let read = "#[test] fn t() { assert_eq!(std::fs::read(\"target/wasm/x\").unwrap(), b\"1\");\n\
                assert!(!std::path::Path::new(\"target/debug/y\").exists()) }\n";
    play(&[("target/wasm/x", "1"), ("tests/it.rs", read)], |client| {
        client.ask().green_from("run");
        client.ask().green_from("cache");
        client.home.write("target/wasm/x", "2");
        client.ask().red();
        client.home.write("target/wasm/x", "1");
        client.ask().green();
        client.ask().green_from("cache");
        client.home.write("target/debug/y", "");
        client.ask().red();
    });
}

#[test]
fn a_folder_that_became_read_only_counts_for_targets_that_wrote_there() {
    if takes_long() {
        return;
    }
    let test = "#[test] fn t() { std::fs::write(\"data/new\", \"\").unwrap();\n\
                std::fs::remove_file(\"data/new\").unwrap() }\n";
    play(&[("data/a", "1"), ("tests/it.rs", test)], |client| {
        client.ask().green_from("run");
        client.ask().green_from("cache");
        let data = client.home.root.join("data");
        set_mode(&data, 0o555);
        let answer = client.ask();
        assert_eq!(answer.run(), ["it"]);
        assert_eq!(answer.verdict(), if is_root() { "pass" } else { "fail" });
        set_mode(&data, 0o755);
    });
}

#[test]
fn outside_inputs_of_an_incomplete_observation_count() {
    // Asking for seccomp's state is what an observed run is told otherwise.
    let test = "#![allow(unsafe_code)]\n\
                unsafe extern \"C\" { fn prctl(what: i32, ...) -> i32; }\n\
                #[test] fn t() { unsafe { prctl(21); }\n\
                let out = std::process::Command::new(\"outer\").output().unwrap();\n\
                assert_eq!(out.stdout, b\"1\") }\n";
    play(&[("tests/it.rs", test)], |client| {
        let bin = client.home.base.join("out");
        let outer = bin.join("outer");
        let write = |word: &str| {
            fs::write(&outer, format!("#!/bin/sh\nprintf {word}\n")).unwrap();
            set_mode(&outer, 0o755);
        };
        write("1");
        let path = client.home.environment.get("PATH").unwrap().to_owned();
        let path = std::env::join_paths(std::env::split_paths(&path).chain([bin.clone()])).unwrap();
        client.home.environment.set("PATH", path);
        client.ask().green();
        // It had only just been written.
        client.ask().green();
        client.ask().green_from("cache");
        write("2");
        client.ask().red();
    });
}

#[test]
fn a_git_ignored_test_counts_because_cargo_finds_it() {
    if takes_long() {
        return;
    }
    let bad = "fn main() {}\n#[test] fn t() { panic!() }\n";
    let files = [(".gitignore", "/target\nlocal*\n"), ("tests/data/x", ""), ("tests/it.rs", "")];
    play(&files, |client| {
        client.home.git(&["init", "-q"]);
        client.ask().green_from("run");
        client.ask().green_from("cache");
        for file in ["tests/local.rs", "tests/local/main.rs", "src/bin/local.rs"] {
            client.home.write(file, bad);
            client.ask().red();
            fs::remove_file(client.home.root.join(file)).unwrap();
            let _ = fs::remove_dir(client.home.root.join("tests/local"));
            client.ask().green();
        }
    });
}

/// The manifest of a workspace of `p` and another package.
const WITH_TOOL: &str = "[package]\nname='p'\nversion='0.1.0'\nedition='2018'\n\
                         [features]\nextra=[]\n[workspace]\nmembers=['tool']\n";

/// Of `tool` nothing is built before: its program has no tests.
#[test]
fn a_git_ignored_target_counts_in_a_package_of_which_nothing_was_built() {
    if takes_long() {
        return;
    }
    let tool = "[package]\nname='tool'\nversion='0.1.0'\nedition='2018'\n\
                [[bin]]\nname='tool'\npath='src/main.rs'\ntest=false\n";
    let files = [
        (".gitignore", "/target\nlocal*\n"),
        ("Cargo.toml", WITH_TOOL),
        ("src/lib.rs", "#[test] fn t() {}\n"),
        ("tool/Cargo.toml", tool),
        ("tool/src/main.rs", "fn main() {}\n"),
    ];
    let ask = |client: &Client| {
        let line = ["test", "--format", "json", "--workspace"];
        answered(client.home.start_in(&client.home.root, EXE, &line, false).end(LIMIT))
    };
    play(&files, |client| {
        client.home.git(&["init", "-q"]);
        ask(client).green_from("run");
        ask(client).green_from("cache");
        client.home.write("tool/examples/local.rs", "fn main() { nobody }\n");
        ask(client).error();
        client.home.write("tool/examples/local.rs", "fn main() {}\n");
        ask(client).green();
        client.home.write("tool/tests/local.rs", "#[test] fn t() { panic!() }\n");
        ask(client).red();
    });
}

/// The first resolver gives features by name to the package of the folder in which cargo is called.
#[test]
fn what_features_by_name_mean_depends_on_the_folder() {
    if takes_long() {
        return;
    }
    let tool = "[package]\nname='tool'\nversion='0.1.0'\nedition='2018'\n[features]\nextra=[]\n";
    let files = [
        (".gitignore", "/target\n"),
        ("Cargo.toml", WITH_TOOL),
        ("src/lib.rs", "#[test] fn t() {}\n"),
        ("tool/Cargo.toml", tool),
        ("tool/src/lib.rs", "#[cfg(feature = \"extra\")] compile_error!(\"no\");\n"),
    ];
    let ask = |client: &Client, dir: &str, feature: &[&str]| {
        let line = [&["test", "--format", "json", "--workspace"], feature].concat();
        answered(client.home.start_in(&client.home.root.join(dir), EXE, &line, false).end(LIMIT))
    };
    play(&files, |client| {
        for feature in [&["--features", "extra"][..], &["-Fextra"]] {
            ask(client, "", feature).green();
            ask(client, "", feature).green_from("cache");
            ask(client, "tool", feature).error();
        }
    });
}

/// The link counts by its text alone: what it leads to is a product.
#[test]
fn a_product_behind_a_link_counts_where_a_compiler_reads_it() {
    if takes_long() {
        return;
    }
    let lib = "#[test] fn t() { assert_eq!(include_str!(\"../data\"), \"good\") }\n";
    play(&[(".gitignore", "/target\n"), ("src/lib.rs", lib)], |client| {
        let root = client.home.root.clone();
        client.home.write("target/made/data", "good");
        std::os::unix::fs::symlink("target/made/data", root.join("data")).unwrap();
        until_old(&root.join("target/made/data"));
        client.ask().green_from("run");
        client.ask().green_from("cache");
        client.home.write("target/made/data", "bad!");
        client.ask().red();
    });
}

#[test]
fn vendored_packages_count_that_git_ignores() {
    if takes_long() {
        return;
    }
    let depends = "[package]\nname='p'\nversion='0.1.0'\nedition='2021'\n\
                   [dependencies]\nfoo='1'\n";
    let config = "[source.crates-io]\nreplace-with='here'\n[source.here]\ndirectory='vendor'\n";
    let files = [
        (".gitignore", "/target\n/vendor\n"),
        (".cargo/config.toml", config),
        ("Cargo.toml", depends),
        ("src/lib.rs", "#[test] fn t() { assert_eq!(foo::VALUE, 1) }\n"),
        ("vendor/foo/Cargo.toml", "[package]\nname='foo'\nversion='1.0.0'\nedition='2021'\n"),
        ("vendor/foo/.cargo-checksum.json", "{\"files\":{}}"),
        ("vendor/foo/src/lib.rs", "pub const VALUE: u32 = 1;\n"),
    ];
    play(&files, |client| {
        client.home.git(&["init", "-q"]);
        let root = client.home.root.clone();
        until_old(&root.join("vendor/foo/src/lib.rs"));
        client.ask().green_from("run");
        client.ask().green();
        client.ask().green_from("cache");
        fs::rename(root.join("vendor"), root.join("../vendor")).unwrap();
        client.ask().error();
        fs::rename(root.join("../vendor"), root.join("vendor")).unwrap();
        client.home.write("vendor/foo/src/lib.rs", "pub const VALUE: u32 = 2;\n");
        fs::remove_dir_all(root.join("target")).unwrap();
        client.ask().red();
    });
}

#[test]
fn vendored_packages_count_that_lie_outside_of_the_workspace() {
    if takes_long() {
        return;
    }
    let depends = "[package]\nname='p'\nversion='0.1.0'\nedition='2021'\n\
                   [dependencies]\nfoo='1'\n";
    let config = "[source.crates-io]\nreplace-with='here'\n[source.here]\ndirectory='../vendor'\n";
    let files = [
        (".cargo/config.toml", config),
        ("Cargo.toml", depends),
        ("src/lib.rs", "#[test] fn t() { assert_eq!(foo::VALUE, 1) }\n"),
        ("../vendor/foo/Cargo.toml", "[package]\nname='foo'\nversion='1.0.0'\nedition='2021'\n"),
        ("../vendor/foo/.cargo-checksum.json", "{\"files\":{}}"),
        ("../vendor/foo/src/lib.rs", "pub const VALUE: u32 = 1;\n"),
    ];
    play(&files, |client| {
        let root = client.home.root.clone();
        until_old(&root.join("../vendor/foo/src/lib.rs"));
        client.ask().green_from("run");
        client.ask().green();
        client.home.write("../vendor/foo/src/lib.rs", "pub const VALUE: u32 = 2;\n");
        // Cargo calls it fresh as long as it is built.
        client.ask().green();
        fs::remove_dir_all(root.join("target")).unwrap();
        client.ask().red();
    });
}

#[test]
fn a_static_library_counts_that_a_downloaded_build_script_links() {
    if takes_long() {
        return;
    }
    let depends = "[package]\nname='p'\nversion='0.1.0'\nedition='2021'\n\
                   [dependencies]\nfoo-sys='1'\n";
    let config = "[source.crates-io]\nreplace-with='here'\n[source.here]\ndirectory='../vendor'\n";
    let script = "fn main() {\n\
                  let folder = std::env::var(\"FOO_DIR\").unwrap();\n\
                  println!(\"cargo:rustc-link-search=native={folder}\");\n\
                  println!(\"cargo:rustc-link-lib=static=foo\");\n\
                  println!(\"cargo:rerun-if-changed=build.rs\"); }\n";
    let package = "[package]\nname='foo-sys'\nversion='1.0.0'\nedition='2021'\n";
    let files = [
        (".cargo/config.toml", config),
        ("Cargo.toml", depends),
        ("src/lib.rs", "#[test] fn t() { assert_eq!(unsafe { foo_sys::foo() }, 1) }\n"),
        ("../vendor/foo-sys/Cargo.toml", package),
        ("../vendor/foo-sys/.cargo-checksum.json", "{\"files\":{}}"),
        ("../vendor/foo-sys/build.rs", script),
        ("../vendor/foo-sys/src/lib.rs", "unsafe extern \"C\" { pub fn foo() -> i32; }\n"),
        ("../native/foo.c", "int foo(void) { return NUMBER; }\n"),
    ];
    play(&files, |client| {
        let folder = client.home.root.join("../native").canonicalize().unwrap();
        let make = |client: &mut Client, number: &str| {
            let line = format!(
                "cd '{}' && cc -DNUMBER={number} -c foo.c && rm -f libfoo.a && ar rc libfoo.a foo.o",
                folder.display()
            );
            assert_eq!(client.home.start("sh", &["-c", &line]).end(LIMIT).code, Some(0));
        };
        make(client, "1");
        client.home.environment.set("FOO_DIR", &folder);
        until_old(&folder.join("libfoo.a"));
        client.ask().green_from("run");
        client.ask().green();
        make(client, "2");
        // Cargo does not look at it.
        client.ask().green();
        fs::remove_dir_all(client.home.root.join("target")).unwrap();
        client.ask().red();
    });
}

#[test]
fn a_link_that_leads_elsewhere_proves_nothing_of_what_was_built_before() {
    if takes_long() {
        return;
    }
    let test = "#[test] fn t() { assert_eq!(include_str!(\"../data/x.txt\"), \"good\") }\n";
    let files = [("v1/x.txt", "good"), ("v2/x.txt", "bad"), ("tests/it.rs", test)];
    play(&files, |client| {
        let root = client.home.root.clone();
        let lead = |to: &str| {
            let _ = fs::remove_file(root.join("data"));
            std::os::unix::fs::symlink(to, root.join("data")).unwrap();
        };
        lead("v1");
        until_old(&root.join("v2/x.txt"));
        client.ask().green_from("run");
        client.ask().green();
        lead("v2");
        // Cargo looks at the file to which it led, and calls the test fresh.
        client.ask().green();
        fs::remove_dir_all(root.join("target")).unwrap();
        client.ask().red();
    });
}

#[test]
fn the_workspaces_own_manifest_counts_where_git_ignores_it() {
    if takes_long() {
        return;
    }
    let manifest = |feature: &str| {
        format!(
            "[package]\nname='p'\nversion='0.1.0'\nedition='2021'\n\
             [features]\ndefault=[{feature}]\ngood=[]\n"
        )
    };
    let good = manifest("'good'");
    let files = [
        (".gitignore", "/target\nCargo.toml\n"),
        ("Cargo.toml", &*good),
        ("src/lib.rs", "#[test] fn t() { assert!(cfg!(feature = \"good\")) }\n"),
    ];
    play(&files, |client| {
        client.home.git(&["init", "-q"]);
        client.ask().green_from("run");
        client.ask().green();
        client.home.write("Cargo.toml", &manifest(""));
        client.ask().red();
    });
}

#[test]
fn a_git_ignored_manifest_counts_from_which_a_package_inherits() {
    if takes_long() {
        return;
    }
    let depends = "[package]\nname='p'\nversion='0.1.0'\nedition='2021'\n\
                   [workspace]\nexclude=['deps']\n\
                   [dependencies]\nfoo={path='deps/other/foo'}\n";
    let inherits = "[package]\nname='foo'\nversion='0.1.0'\nedition='2021'\n\
                    description.workspace=true\n";
    let other = |text: &str| {
        format!("[workspace]\nmembers=['foo']\n[workspace.package]\ndescription='{text}'\n")
    };
    let good = other("good");
    let files = [
        (".gitignore", "/target\n/deps\n"),
        ("Cargo.toml", depends),
        ("src/lib.rs", "#[test] fn t() { assert_eq!(foo::TEXT, \"good\") }\n"),
        ("deps/other/Cargo.toml", &*good),
        ("deps/other/foo/Cargo.toml", inherits),
        ("deps/other/foo/src/lib.rs", "pub const TEXT: &str = env!(\"CARGO_PKG_DESCRIPTION\");\n"),
    ];
    play(&files, |client| {
        client.home.git(&["init", "-q"]);
        client.ask().green_from("run");
        client.ask().green_from("cache");
        client.home.write("deps/other/Cargo.toml", &other("bad"));
        client.ask().red();
    });
}

/// Cargo does not notice it, so that what was built before says nothing of a build of now.
#[test]
fn a_deleted_file_counts_that_a_build_script_has_listed_unsaid() {
    if takes_long() {
        return;
    }
    let script = "fn main() { println!(\"cargo:rerun-if-changed=build.rs\");\n\
                  assert_eq!(std::fs::read_dir(\"listed\").unwrap().count(), 2) }\n";
    let lib = "#[test] fn t() {}\n";
    let files = [
        (".gitignore", "/target\n"),
        ("build.rs", script),
        ("listed/a", ""),
        ("listed/b", ""),
        ("src/lib.rs", lib),
    ];
    play(&files, |client| {
        until_old(&client.home.root.join("listed/b"));
        client.ask().green();
        client.ask().green_from("cache");
        fs::remove_file(client.home.root.join("listed/b")).unwrap();
        client.ask().green();
        client.ask().green();
        fs::remove_dir_all(client.home.root.join("target")).unwrap();
        client.ask().error();
    });
}

#[test]
fn a_folder_that_a_build_script_watches_counts_with_its_content() {
    if takes_long() {
        return;
    }
    let script = "fn main() { println!(\"cargo:rerun-if-changed=data\");\n\
                  let at = |path: &str| std::fs::read_to_string(path).unwrap_or_default();\n\
                  println!(\"cargo:rustc-env=V={}{}\", at(\"data/a.log\"), at(\"data/b.log\")) }\n";
    let test = "#[test] fn t() { assert_eq!(env!(\"V\"), \"1\") }\n";
    let files = [
        (".gitignore", "/target\n*.log\n"),
        ("data/a.log", "1"),
        ("build.rs", script),
        ("tests/it.rs", test),
    ];
    play(&files, |client| {
        client.home.git(&["init", "-q"]);
        let a = client.home.root.join("data/a.log");
        until_old(&a);
        client.ask().green_from("run");
        client.ask().green_from("cache");
        client.home.write("data/a.log", "2");
        client.ask().red();
        client.home.write("data/a.log", "1");
        until_old(&a);
        client.ask().green();
        client.ask().green_from("cache");
        client.home.write("data/b.log", "2");
        client.ask().red();
    });
}

#[test]
fn files_beside_the_checkout_count_for_each_checkout() {
    if takes_long() {
        return;
    }
    let test = "#[test] fn t() { assert_eq!(std::fs::read(\"../settings\").unwrap(), b\"1\") }\n";
    play(&[("tests/it.rs", test)], |client| {
        let home = &client.home;
        home.git(&["init", "-q"]);
        assert_eq!(home.cargo(&["generate-lockfile"]).code, Some(0));
        home.git(&["add", "."]);
        home.git(&["commit", "-qm", "one"]);
        fs::write(home.base.join("settings"), "1").unwrap();
        client.ask().green();
        client.ask().green();
        client.ask().green_from("cache");
        let line = ["test", "--format", "json", "--no-daemon"];
        let ask = |root: &Path| answered(home.start_in(root, EXE, &line, false).end(LIMIT));
        home.git(&["worktree", "add", "-q", "../beside"]);
        ask(&home.base.join("beside")).green_from("cache");
        home.git(&["worktree", "add", "-q", "../out/elsewhere"]);
        fs::write(home.base.join("out/settings"), "2").unwrap();
        ask(&home.base.join("out/elsewhere")).red();
    });
}

#[test]
fn a_library_that_the_user_has_loaded_first_counts() {
    if takes_long() {
        return;
    }
    let test = "unsafe extern \"C\" { fn gethostid() -> i64; }\n\
                #[test] fn t() { assert_ne!(unsafe { gethostid() }, 9); }\n";
    play(&[("tests/it.rs", test)], |client| {
        let library = client.home.base.join("out/libfirst.so").to_str().unwrap().to_owned();
        let build = |client: &Client, number: u32| {
            let source = client.home.base.join("out/first.c");
            fs::write(&source, format!("long gethostid(void) {{ return {number}; }}\n")).unwrap();
            let source = source.to_str().unwrap();
            // A new file: the old one may still be mapped.
            let _ = fs::remove_file(&library);
            let args = ["-shared", "-fPIC", "-o", &library, source];
            assert_eq!(client.home.start("cc", &args).end(LIMIT).code, Some(0));
        };
        build(client, 1);
        client.home.environment.set("LD_PRELOAD", &library);
        client.ask().green();
        client.ask().green_from("cache");
        build(client, 9);
        client.ask().red();
        build(client, 2);
        client.ask().green();
    });
}

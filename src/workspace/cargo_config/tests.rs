//! Cargo's configuration, file over file.

use super::*;

struct Place {
    _dir: tempfile::TempDir,
    base: PathBuf,
    environment: Environment,
}

impl Place {
    fn new(files: &[(&str, &str)], variables: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        for (path, text) in files {
            let path = base.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        std::fs::create_dir_all(base.join("w/a")).unwrap();
        let home = base.join("home").into_os_string();
        let mut environment: Environment =
            variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        environment.set("CARGO_HOME", home);
        Self { _dir: dir, base, environment }
    }

    fn read(&self, arguments: &[&str]) -> Result<CargoConfig, CargoConfigError> {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        CargoConfig::read(&self.base.join("w/a"), &self.environment, &arguments)
    }

    fn targets(&self, arguments: &[&str]) -> Vec<PathBuf> {
        let config = self.read(arguments).unwrap();
        let dirs = config.target_dirs(&self.base.join("w"), None);
        dirs.iter().map(|dir| dir.strip_prefix(&self.base).unwrap_or(dir).to_owned()).collect()
    }

    fn runner(&self, arguments: &[&str]) -> Option<Vec<OsString>> {
        let cfgs = ["unix", "target_os=\"linux\""].map(|cfg| cfg.parse().unwrap());
        self.read(arguments).unwrap().runner("x86_64-unknown-linux-gnu", &cfgs).unwrap()
    }
}

#[test]
fn nearest_file_wins_and_paths_start_where_they_are_written() {
    let place = Place::new(
        &[
            ("w/a/.cargo/config.toml", ""),
            ("w/.cargo/config.toml", "[build]\ntarget-dir = '../out'"),
            ("home/config.toml", "[build]\ntarget-dir = 'never'\nbuild-dir='inter'"),
        ],
        &[],
    );
    assert_eq!(place.targets(&[]), [Path::new("inter"), Path::new("out")]);
    let files = place.read(&[]).unwrap().files().to_vec();
    assert_eq!(files.len(), 3);
    assert_eq!(files[1].digest, Digest::of(b"[build]\ntarget-dir = '../out'"));
}

#[test]
fn argument_over_environment_over_file() {
    let files = [("w/.cargo/config.toml", "[build]\ntarget-dir = 'file'")];
    let place = Place::new(&files, &[("CARGO_BUILD_TARGET_DIR", "variable")]);
    assert_eq!(place.targets(&[]), [Path::new("w/a/variable")]);
    assert_eq!(place.targets(&["build.target-dir='one'"]), [Path::new("w/a/one")]);
    let both = ["build.target-dir='one'", "build.target-dir='two'"];
    assert_eq!(place.targets(&both), [Path::new("w/a/two")], "the last one wins");
    let place = Place::new(&files, &[("CARGO_TARGET_DIR", "/t")]);
    assert_eq!(place.targets(&["build.target-dir='one'"]), [Path::new("/t")]);
    let asked = place.read(&[]).unwrap().target_dirs(&place.base.join("w"), Some("/asked".into()));
    assert_eq!(asked, [Path::new("/asked")]);
}

#[test]
fn the_default_and_what_must_never_be_taken_for_artifacts() {
    assert_eq!(Place::new(&[], &[]).targets(&[]), [Path::new("w/target")]);
    for all in ["..", "../..", "/", "../../w/./"] {
        let place = Place::new(&[], &[("CARGO_TARGET_DIR", all)]);
        assert!(place.targets(&[]).is_empty(), "{all}");
    }
}

#[test]
fn build_directories_are_templates() {
    let of = |template: &str| {
        let text = format!("[build]\nbuild-dir = '{template}'");
        Place::new(&[("w/.cargo/config.toml", &text)], &[]).targets(&[])
    };
    let target = PathBuf::from("w/target");
    assert_eq!(of("{workspace-root}/b"), [Path::new("w/b"), &target]);
    assert_eq!(of("{cargo-cache-home}/b/{workspace-path-hash}"), [Path::new("home/b"), &target]);
    assert_eq!(of("{workspace-root}/{workspace-path-hash}"), [target]);
}

#[test]
fn the_old_file_name_comes_first_and_home_counts_once() {
    let place = Place::new(
        &[
            ("w/.cargo/config", "[build]\nrustc='/old'"),
            ("w/.cargo/config.toml", "[build]\nrustc='/new'"),
        ],
        &[("HOME", "/nowhere")],
    );
    assert_eq!(place.read(&[]).unwrap().rustc(), Some("/old".into()));
    let mut place = Place::new(&[("w/.cargo/config.toml", "paths=['p']")], &[]);
    place.environment.set("CARGO_HOME", place.base.join("w/.cargo"));
    let config = place.read(&[]).unwrap();
    assert_eq!(config.package_paths(), [place.base.join("w/p")]);
    assert_eq!(config.files().len(), 1);
}

#[test]
fn the_number_of_jobs_is_cargos() {
    let file = ("w/.cargo/config.toml", "[build]\njobs=3");
    assert_eq!(Place::new(&[], &[]).read(&[]).unwrap().jobs(), None);
    assert_eq!(Place::new(&[file], &[]).read(&[]).unwrap().jobs().as_deref(), Some("3"));
    let set = [("CARGO_BUILD_JOBS", "default")];
    assert_eq!(Place::new(&[file], &set).read(&[]).unwrap().jobs().as_deref(), Some("default"));
}

#[test]
fn includes_weigh_less_than_the_file_and_more_than_those_above() {
    let place = Place::new(
        &[
            (
                "w/.cargo/config.toml",
                "include = ['one.toml', {path='two.toml'}, {path='no', optional=true}]\n\
                 [build]\nrustdoc='/main'",
            ),
            ("w/.cargo/one.toml", "[build]\nrustc='/one'\nrustdoc='/one'"),
            ("w/.cargo/two.toml", "[build]\nrustc='/two'"),
            ("home/config.toml", "[build]\nrustc='/home'"),
        ],
        &[],
    );
    let config = place.read(&[]).unwrap();
    assert_eq!((config.rustc(), config.rustdoc()), (Some("/two".into()), Some("/main".into())));
    assert_eq!(config.files().len(), 4);
    let place = Place::new(&[("w/.cargo/config.toml", "include='gone'")], &[]);
    assert!(matches!(place.read(&[]), Err(CargoConfigError::Missing(_))));
    let place = Place::new(&[("w/.cargo/config.toml", "include='config.toml'")], &[]);
    assert!(matches!(place.read(&[]), Err(CargoConfigError::TooDeep(_))));
}

#[test]
fn runners_in_all_places_and_shapes() {
    let words = |words: &[&str]| Some(words.iter().map(OsString::from).collect::<Vec<_>>());
    let cfg = ("w/.cargo/config.toml", "[target.'cfg(unix)']\nrunner=['r', 'a b']");
    let place = Place::new(&[cfg], &[]);
    assert_eq!(place.runner(&[]), words(&["r", "a b"]));
    assert!(place.read(&[]).unwrap().has_cfg_runner());
    let exact = "[target.x86_64-unknown-linux-gnu]\nrunner='tools/run  -x'";
    let near = ("w/a/.cargo/config.toml", exact);
    let place = Place::new(&[cfg, near], &[]);
    let rooted = place.base.join("w/a/tools/run");
    assert_eq!(place.runner(&[]), words(&[rooted.to_str().unwrap(), "-x"]));
    let config = place.read(&[]).unwrap();
    assert_eq!(config.runner_shape("x86_64-unknown-linux-gnu"), RunnerShape::Text);
    assert_eq!(config.runner_shape("other"), RunnerShape::Array);
    let variable = ("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", "env  A=1");
    let place = Place::new(&[cfg, near], &[variable]);
    assert_eq!(place.runner(&[]), words(&["env", "A=1"]));
    let argument = "target.x86_64-unknown-linux-gnu.runner='q'";
    assert_eq!(place.runner(&[argument]), words(&["q"]));
    let none = Place::new(&[("w/.cargo/config.toml", "[target.'cfg(windows)']\nrunner='w'")], &[]);
    assert_eq!(none.runner(&[]), None);
}

#[test]
fn bad_settings_are_named() {
    let place = Place::new(&[("w/.cargo/config.toml", "[build\n")], &[]);
    let error = place.read(&[]).unwrap_err().to_string();
    assert!(error.contains("w/.cargo/config.toml:1:"), "{error}");
    let place = Place::new(
        &[(
            "w/.cargo/config.toml",
            "[target.'cfg(unix)']\nrunner='a'\n[target.'cfg(not(windows))']\nrunner='b'\n\
             [target.t]\nrunner=3",
        )],
        &[],
    );
    let config = place.read(&[]).unwrap();
    let two = config.runner("x", &["unix".parse().unwrap()]).unwrap_err().to_string();
    assert!(two.contains("cfg(unix)") && two.contains("cfg(not(windows))"), "{two}");
    let wrong = config.runner("t", &[]).unwrap_err().to_string();
    assert!(wrong.contains("target.t.runner"), "{wrong}");
    let error = place.read(&["nonsense"]).unwrap_err().to_string();
    assert!(error.contains("--config nonsense"), "{error}");
}

#[test]
fn tools_and_targets() {
    let text = "[build]\nrustc-wrapper='wrap'\nrustdoc='bin/doc'\ntarget=['a','b']";
    let place = Place::new(&[("w/.cargo/config.toml", text)], &[]);
    let config = place.read(&[]).unwrap();
    assert_eq!(config.wrappers(), [("rustc-wrapper", PathBuf::from("wrap"))]);
    assert_eq!(config.rustdoc(), Some(place.base.join("w/bin/doc")));
    assert_eq!(config.build_targets(), ["a", "b"]);
    let variables = [("RUSTC_WRAPPER", ""), ("RUSTDOC", "./d"), ("CARGO_BUILD_TARGET", "t")];
    let place = Place::new(&[("w/.cargo/config.toml", text)], &variables);
    let config = place.read(&[]).unwrap();
    assert!(config.wrappers().is_empty(), "switched off");
    assert_eq!(config.rustdoc(), Some(place.base.join("w/a/./d")));
    assert_eq!(config.build_targets(), ["t"]);
}

#[test]
fn packages_that_the_configuration_names() {
    let text =
        "paths=['/abs', 'rel']\n[patch.crates-io]\nx={path='px'}\n[source.v]\ndirectory='vendor'";
    let place = Place::new(&[("w/.cargo/config.toml", text)], &[]);
    let expected = ["/abs".into(), place.base.join("w/rel"), place.base.join("w/px")];
    let paths = place.read(&[]).unwrap().package_paths();
    assert_eq!(paths[..3], expected);
    assert_eq!(paths[3], place.base.join("w/vendor"));
}

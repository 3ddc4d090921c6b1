//! The JSON schema of the config, for editors.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::{Config, DEFAULT};

/// The schema of a config file, as it is committed in `config/schema.json`.
///
/// Draft 7, since the TOML language servers know that one.
#[must_use]
pub(crate) fn json_schema() -> String {
    let generator = SchemaSettings::draft07().into_generator();
    let mut schema = generator.into_root_schema_for::<Config>().to_value();
    // Every key may be left out but a project's path.
    let _ = schema.as_object_mut().map(|file| file.remove("required"));
    if let Some(required) = schema.pointer_mut("/properties/project/items/required") {
        *required = Value::from(["path"].as_slice());
    }
    let defaults = toml::from_str::<Map<String, Value>>(DEFAULT).unwrap_or_default();
    for (table, values) in &defaults {
        let Some(described) = schema.pointer_mut(&format!("/properties/{table}")) else { continue };
        let _ = described.as_object_mut().map(|described| described.remove("required"));
        for (key, value) in values.as_object().into_iter().flatten() {
            if let Some(property) = described.pointer_mut(&format!("/properties/{key}")) {
                property["default"] = value.clone();
            }
        }
    }
    format!("{schema:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Value {
        serde_json::from_str(&json_schema()).unwrap()
    }

    fn valid(text: &str) -> bool {
        jsonschema::is_valid(&schema(), &toml::from_str(text).unwrap())
    }

    /// The committed file is what the types say; `UPDATE_SCHEMA=1 cargo test` writes it.
    #[test]
    fn the_committed_schema_is_current() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config/schema.json");
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::write(file, json_schema()).unwrap();
        }
        let committed = std::fs::read_to_string(file).unwrap_or_default();
        assert!(committed == json_schema(), "run the tests once with UPDATE_SCHEMA=1");
    }

    #[test]
    fn the_schema_describes_every_key_of_the_shipped_default() {
        let schema = schema();
        let keys_of = |pointer: &str| {
            let properties = schema.pointer(pointer).unwrap().as_object().unwrap();
            properties.keys().cloned().collect::<std::collections::BTreeSet<_>>()
        };
        let defaults = toml::from_str::<Map<String, Value>>(DEFAULT).unwrap();
        let mut tables = defaults.keys().cloned().collect::<std::collections::BTreeSet<_>>();
        tables.insert("project".to_owned());
        assert_eq!(keys_of("/properties"), tables);
        for (table, values) in &defaults {
            let properties = format!("/properties/{table}/properties");
            let written = values.as_object().unwrap().keys().cloned().collect();
            assert_eq!(keys_of(&properties), written);
            for (key, property) in schema.pointer(&properties).unwrap().as_object().unwrap() {
                assert!(property.get("default").is_some(), "{key}");
                assert!(property.get("description").is_some(), "{key}");
            }
        }
        let mut of_project = keys_of("/properties/project/items/properties");
        assert!(of_project.remove("path"));
        assert_eq!(of_project, keys_of("/properties/defaults/properties"));
    }

    #[test]
    fn good_files_are_valid() {
        let commented = DEFAULT.split_once("# [[project]]").unwrap().1.replace("\n# ", "\n");
        for good in [
            "",
            DEFAULT,
            &format!("[[project]]{commented}"),
            "[[project]]\npath = '/a'\n[[project]]\npath = '~/b'\nttl = '1h30m'\nargs = []",
            "defaults.timeout = '0s'\nlog.level = 'trace'\ncache.max_size = '1 GB'",
            "[background]\non_battery = 'run'\nbattery_below = '15%'\njobs = 3",
        ] {
            assert!(valid(good), "{good}");
        }
    }

    #[test]
    fn bad_files_are_not() {
        for bad in [
            "port = 1",
            "[defaults]\ndebonce = '1s'",
            "[defaults]\npath = '/a'",
            "[cache]\nsize = '1B'",
            "[[project]]",
            "[[project]]\npath = ''",
            "[[project]]\npath = 1",
            "[[project]]\npath = '/a'\nname = 'b'",
            "[project]\npath = '/a'",
            "[defaults]\nargs = '--workspace'",
            "[defaults]\nargs = ['']",
            "[defaults]\nttl = 3600",
            "[defaults]\nttl = '1 hour'",
            "[defaults]\nkeep_snapshots = 0",
            "[defaults]\nbackground_tests = 'yes'",
            "[defaults]\nrunner = 'make'",
            "[defaults]\nexclude = ['/abs']",
            "[defaults]\nexclude = ['a/../b']",
            "[defaults]\nexclude = ['folder/']",
            "[background]\non_battery = 'stop'",
            "[background]\nbattery_below = 40",
            "[background]\njobs = -1",
            "[log]\nlevel = 'loud'",
            "[cache]\nmax_size = '2G'",
        ] {
            assert!(!valid(bad), "{bad}");
        }
    }
}

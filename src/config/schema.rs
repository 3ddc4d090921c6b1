//! The JSON schema of the config, for editors.

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::{Map, Value};

use super::DEFAULT;
use super::layer::FileLayer;

/// The schema of a config file, as it is committed in `config/schema.json`.
///
/// Draft 7, since that is what the TOML language servers know.
#[must_use]
pub fn json_schema() -> String {
    // A key left out has no default of its own: what lies below shows through.
    let no_null = RecursiveTransform(|schema: &mut Schema| {
        if schema.get("default").is_some_and(Value::is_null) {
            schema.remove("default");
        }
    });
    let generator = SchemaSettings::draft07().with_transform(no_null).into_generator();
    let mut schema = generator.into_root_schema_for::<FileLayer>().to_value();
    if let Ok(defaults) = toml::from_str::<Map<String, Value>>(DEFAULT) {
        for (table, values) in &defaults {
            for (key, value) in values.as_object().into_iter().flatten() {
                let property = format!("/properties/{table}/properties/{key}");
                if let Some(Value::Object(property)) = schema.pointer_mut(&property) {
                    property.insert("default".to_owned(), value.clone());
                }
            }
        }
    }
    format!("{schema:#}\n")
}

#[cfg(test)]
mod tests {
    use super::super::layer::keys;
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
    fn the_schema_knows_the_keys_that_the_messages_name() {
        let schema = schema();
        let keys_of = |pointer: &str| {
            let properties = schema.pointer(pointer).unwrap().as_object().unwrap();
            properties.keys().cloned().collect::<std::collections::BTreeSet<_>>()
        };
        for (pointer, keys) in [
            ("/properties", keys::FILE),
            ("/properties/cache/properties", keys::CACHE),
            ("/properties/log/properties", keys::LOG),
            ("/properties/background/properties", keys::BACKGROUND),
            ("/properties/defaults/properties", keys::DEFAULTS),
            ("/properties/project/items/properties", keys::PROJECT),
        ] {
            assert_eq!(keys_of(pointer), keys.iter().map(ToString::to_string).collect());
        }
        let defaults = schema.pointer("/properties/defaults/properties").unwrap();
        for (key, property) in defaults.as_object().unwrap() {
            assert!(property.get("default").is_some(), "{key}");
            assert!(property.get("description").is_some(), "{key}");
        }
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

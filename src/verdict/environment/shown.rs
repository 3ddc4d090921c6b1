//! The variables of a question, and those that a build names.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::compiler::UnitInputs;
use crate::model::Digest;
use crate::process::Environment;
use crate::verdict::facts::Question;
use crate::verdict::patterns::{VariablePlace, VariableRules};
use crate::workspace::{
    is_session_variable, is_terminal_variable, names_default_target_dir, without_root,
};

/// Shows each variable of a question with the digest of its value, and where it belongs.
pub(in crate::verdict) fn each_variable(
    question: &Question,
    mut see: impl FnMut(&OsStr, Digest, VariablePlace),
) {
    let Question { root, selection, environment, settings, .. } = question;
    let rules = VariableRules::of(settings);
    for (name, value) in environment.iter() {
        let is_default = names_default_target_dir(name, value, &selection.dir, root);
        let place = match rules.place(name, is_terminal_variable(name)) {
            VariablePlace::Key if is_default => VariablePlace::Beside,
            place => place,
        };
        see(name, Digest::of(&without_root(value.as_bytes(), root)), place);
    }
}

/// A variable's value; `None` if it is not set.
pub(in crate::verdict) fn variable(
    environment: &Environment,
    name: &str,
    root: &Path,
) -> Option<Digest> {
    environment.get(name).map(|value| Digest::of(&without_root(value.as_bytes(), root)))
}

/// The variables that these units of a build name, by the word of compilers and build scripts, as
/// they are in this environment.
pub(in crate::verdict) fn named_by_build<'u>(
    units: impl Iterator<Item = &'u UnitInputs>,
    environment: &Environment,
    root: &Path,
) -> BTreeMap<String, Option<Digest>> {
    let names: BTreeSet<&String> = units.flat_map(|unit| &unit.variables).collect();
    let counted = names.into_iter().filter(|name| !is_set_by_cargo(name));
    counted.map(|name| (name.clone(), variable(environment, name, root))).collect()
}

/// Whether cargo sets the variable for compilers and build scripts, whatever the shell says.
fn is_set_by_cargo(name: &str) -> bool {
    let name = OsStr::new(name);
    is_session_variable(name) && !is_terminal_variable(name)
}

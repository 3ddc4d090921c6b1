//! Records of another program, for tests that reach what they reached.

use std::ffi::OsStr;

use super::TargetRecords;
use super::program::BuiltProgram;
use crate::cache::{Input, Record, RecordedEnvironment};
use crate::verdict::environment::PATH;
use crate::verdict::fingerprint::Aspect;
use crate::verdict::patterns::VariableRules;

impl TargetRecords<'_> {
    /// Why the record of another program of the target with this index does not answer in this environment
    /// for tests that reach in the program of now what they reached in that one.
    pub(in crate::verdict) fn other_environment_of_reached(
        &mut self,
        index: usize,
        record: &Record,
    ) -> Option<String> {
        let unknown = || Some("its program cannot be read".to_owned());
        let Some(subject) = self.subject(index).cloned() else { return unknown() };
        if record.environment.variables == *subject.asked.variables() {
            return self.other_environment(record, &subject);
        }
        // What is kept of that run is kept with the variables of now. Of these two the record of a run says
        // more than that they do not count.
        let rules = VariableRules::of(self.context.settings);
        let is_of_run = |name: &&&String| **name == PATH || rules.ignores(OsStr::new(name));
        let differing = subject.asked.differing(&record.environment.variables);
        if let Some(name) = differing.iter().find(is_of_run) {
            return Some(format!("environment variable {name} differs"));
        }
        let Some(BuiltProgram { path, .. }) = &subject.program else { return unknown() };
        let root = self.context.root;
        let Ok(read) = self.fingerprints.read(root, path, Aspect::Program) else {
            return unknown();
        };
        // The names that these tests can tell are in both programs, and that one is gone.
        let readers = vec![Input { path: root.join(&read.path), ..read }];
        let environment = RecordedEnvironment { readers, ..record.environment.clone() };
        self.other_environment(&Record { environment, ..record.clone() }, &subject)
    }
}

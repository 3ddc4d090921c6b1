//! The proof that the text on the screen is the text of the tree that verdicts hold for.
//!
//! The daemon tells of a tree by its code hash, some time after a save. Until then its verdicts are
//! those of the text before, so a file that is merely equal on screen and on disk proves nothing.
//! The proof is a question: every open file is read, the daemon is asked to see all changes of
//! before the question, and when it says that it has, the files are the same still. What a file
//! holds in a tree is a fact about that tree: it lasts until the daemon tells of another one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::open_file::{FileOnDisk, OpenFile};
use crate::model::Digest;

/// What is proven of the open files, for one project.
#[derive(Debug)]
pub(super) struct TextProof {
    /// What each file holds in the tree.
    proven: HashMap<PathBuf, Digest>,
    /// The question that has not been answered.
    asked: Option<TextQuestion>,
    /// Something was saved or opened after that question.
    is_late: bool,
    last_token: u64,
}

#[derive(Debug)]
struct TextQuestion {
    token: u64,
    files: HashMap<PathBuf, FileOnDisk>,
}

impl TextProof {
    /// Nothing is proven. The tokens of all questions are greater than this one, and no other
    /// client of the daemon has them.
    pub(super) fn new(last_token: u64) -> Self {
        Self { proven: HashMap::new(), asked: None, is_late: true, last_token }
    }

    /// Whether the tree holds each of the open files as it is on the screen.
    pub(super) fn holds<'a>(&self, files: impl IntoIterator<Item = &'a OpenFile>) -> bool {
        files.into_iter().all(|file| self.proven.get(&file.path) == Some(&file.content))
    }

    /// The tree is another one: nothing is proven of it.
    pub(super) fn tree_changed(&mut self) {
        self.proven.clear();
        self.is_late = true;
    }

    /// The connection is another one: the answer will not come.
    pub(super) fn connection_lost(&mut self) {
        self.proven.clear();
        self.asked = None;
        self.is_late = true;
    }

    /// A file was opened or saved.
    pub(super) fn file_changed(&mut self) {
        self.is_late = true;
    }

    /// The token of a new question, if one is needed and none is under way. `look` reads a file.
    pub(super) fn ask<'a>(
        &mut self,
        files: impl IntoIterator<Item = &'a OpenFile>,
        look: impl Fn(&Path) -> FileOnDisk,
    ) -> Option<u64> {
        if self.asked.is_some() || !std::mem::take(&mut self.is_late) {
            return None;
        }
        self.last_token += 1;
        let files = files.into_iter().map(|file| (file.path.clone(), look(&file.path)));
        self.asked = Some(TextQuestion { token: self.last_token, files: files.collect() });
        Some(self.last_token)
    }

    /// The daemon has seen everything up to the question.
    pub(super) fn answered(&mut self, token: u64, look: impl Fn(&Path) -> FileOnDisk) {
        let Some(asked) = self.asked.take_if(|asked| asked.token == token) else { return };
        for (path, before) in asked.files {
            match before.content {
                Some(content) if look(&path) == before => {
                    self.proven.insert(path, content);
                }
                // It was written to meanwhile: which of its texts the tree holds is not known.
                Some(_) => self.is_late = true,
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct Screen {
        _dir: tempfile::TempDir,
        path: PathBuf,
        file: OpenFile,
    }

    fn screen() -> Screen {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.rs");
        fs::write(&path, "one").unwrap();
        let file = OpenFile::new("file:///a.rs".parse().unwrap(), path.clone(), "one".into());
        Screen { _dir: dir, path, file }
    }

    impl Screen {
        fn types(&mut self, text: &str) {
            self.file = OpenFile::new(self.file.uri.clone(), self.path.clone(), text.into());
        }

        fn ask(&self, proof: &mut TextProof) -> Option<u64> {
            proof.ask([&self.file], FileOnDisk::look)
        }

        fn prove(&self, proof: &mut TextProof) {
            let token = self.ask(proof).unwrap();
            proof.answered(token, FileOnDisk::look);
        }
    }

    #[test]
    fn an_edit_is_in_doubt_and_its_undoing_is_not() {
        let mut screen = screen();
        let mut proof = TextProof::new(0);
        assert!(!proof.holds([&screen.file]));
        assert!(proof.holds([]));
        proof.file_changed();
        screen.prove(&mut proof);
        assert!(proof.holds([&screen.file]));
        screen.types("two");
        assert!(!proof.holds([&screen.file]));
        screen.types("one");
        assert!(proof.holds([&screen.file]));
    }

    #[test]
    fn a_saved_text_is_in_doubt_until_the_daemon_has_seen_it() {
        let mut screen = screen();
        let mut proof = TextProof::new(0);
        proof.tree_changed();
        screen.prove(&mut proof);
        screen.types("two");
        fs::write(&screen.path, "two").unwrap();
        proof.file_changed();
        let token = screen.ask(&mut proof).unwrap();
        assert!(!proof.holds([&screen.file]));
        proof.answered(token + 1, FileOnDisk::look);
        assert!(!proof.holds([&screen.file]), "another question's answer");
        proof.tree_changed();
        proof.answered(token, FileOnDisk::look);
        assert!(proof.holds([&screen.file]));
        proof.tree_changed();
        assert!(!proof.holds([&screen.file]));
    }

    #[test]
    fn a_file_that_is_written_while_the_question_is_under_way_is_asked_about_again() {
        let screen = screen();
        let mut proof = TextProof::new(0);
        proof.tree_changed();
        let token = screen.ask(&mut proof).unwrap();
        assert_eq!(screen.ask(&mut proof), None, "one question at a time");
        // The same text again: the tree may hold what was there in between.
        fs::remove_file(&screen.path).unwrap();
        fs::write(&screen.path, "one").unwrap();
        proof.answered(token, FileOnDisk::look);
        assert!(!proof.holds([&screen.file]));
        screen.prove(&mut proof);
        assert!(proof.holds([&screen.file]));
    }

    #[test]
    fn an_answer_of_an_older_connection_proves_nothing() {
        let screen = screen();
        let mut proof = TextProof::new(0);
        proof.tree_changed();
        let token = screen.ask(&mut proof).unwrap();
        proof.connection_lost();
        proof.answered(token, FileOnDisk::look);
        assert!(!proof.holds([&screen.file]));
        screen.prove(&mut proof);
        assert!(proof.holds([&screen.file]));
    }

    #[test]
    fn a_file_that_is_not_on_disk_is_in_doubt_and_asked_about_once() {
        let screen = screen();
        fs::remove_file(&screen.path).unwrap();
        let mut proof = TextProof::new(0);
        proof.file_changed();
        screen.prove(&mut proof);
        assert!(!proof.holds([&screen.file]));
        assert_eq!(screen.ask(&mut proof), None);
    }
}

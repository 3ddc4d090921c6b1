//! The records that were read last, so that the daemon answers the same question twice without
//! reading and checking a file again.

use std::collections::HashMap;
use std::sync::Arc;

use super::proof::RecordProof;
use super::record::{Record, RecordKey};
use crate::workspace::Stamp;

/// How many bytes of files are remembered. A record of a thousand tests has some 60 kB; it takes
/// about twice that in memory.
const MOST_BYTES: u64 = 4 << 20;

/// Records with the stamps of the files that they were read from.
#[derive(Debug, Default)]
pub(super) struct RecentRecords {
    entries: HashMap<RecordKey, RecentRecord>,
    bytes: u64,
    /// Grows with every use; the smallest number marks the least recently used.
    clock: u64,
}

#[derive(Debug)]
struct RecentRecord {
    stamp: Stamp,
    record: Arc<Record>,
    proof: Option<Arc<RecordProof>>,
    used: u64,
}

impl RecentRecords {
    /// The record, if the file is still the one that was read. Otherwise it is forgotten.
    pub(super) fn get(&mut self, key: &RecordKey, stamp: &Stamp) -> Option<Arc<Record>> {
        self.clock += 1;
        match self.entries.get_mut(key) {
            Some(entry) if entry.stamp == *stamp => {
                entry.used = self.clock;
                Some(Arc::clone(&entry.record))
            }
            _ => {
                self.forget(key);
                None
            }
        }
    }

    /// Remembers a record; the caller has made sure that its stamp is settled.
    pub(super) fn insert(&mut self, stamp: Stamp, record: Arc<Record>) {
        let key = record.key;
        self.forget(&key);
        if stamp.size > MOST_BYTES {
            return;
        }
        self.clock += 1;
        self.bytes += stamp.size;
        self.entries.insert(key, RecentRecord { stamp, record, proof: None, used: self.clock });
        while self.bytes > MOST_BYTES {
            // A few dozen entries: looking at all of them is cheaper than a second order.
            let Some(oldest) = self.entries.iter().min_by_key(|(_, e)| e.used).map(|(k, _)| *k)
            else {
                return;
            };
            self.forget(&oldest);
        }
    }

    /// Whether this very record is remembered.
    pub(super) fn holds(&self, record: &Arc<Record>) -> bool {
        self.entries.get(&record.key).is_some_and(|entry| Arc::ptr_eq(&entry.record, record))
    }

    /// By which looks this very record was proven.
    pub(super) fn proof_of(&self, record: &Arc<Record>) -> Option<Arc<RecordProof>> {
        self.entries.get(&record.key).filter(|_| self.holds(record))?.proof.clone()
    }

    /// Remembers it for as long as the record.
    pub(super) fn note_proof(&mut self, record: &Arc<Record>, proof: RecordProof) {
        if self.holds(record)
            && let Some(entry) = self.entries.get_mut(&record.key)
        {
            entry.proof = Some(Arc::new(proof));
        }
    }

    /// Forgets a record, for example because its file is gone.
    pub(super) fn forget(&mut self, key: &RecordKey) {
        if let Some(entry) = self.entries.remove(key) {
            self.bytes -= entry.stamp.size;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::cache::samples;

    fn stamp(dir: &tempfile::TempDir, size: u64) -> Stamp {
        let path = dir.path().join("file");
        fs::File::create(&path).unwrap().set_len(size).unwrap();
        Stamp::followed(&path).unwrap()
    }

    #[test]
    fn another_stamp_is_another_record() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (stamp(&dir, 10), stamp(&dir, 11));
        let record = Arc::new(samples::record(1));
        let mut memory = RecentRecords::default();
        memory.insert(one, Arc::clone(&record));
        assert!(Arc::ptr_eq(&memory.get(&record.key, &one).unwrap(), &record));
        assert!(memory.get(&record.key, &other).is_none());
        assert!(memory.get(&record.key, &one).is_none(), "forgotten with the first doubt");
        assert_eq!(memory.bytes, 0);
    }

    #[test]
    fn the_longest_unused_goes_first_and_the_size_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let stamp = stamp(&dir, MOST_BYTES / 4);
        let mut memory = RecentRecords::default();
        let records: Vec<_> = (0..5).map(|n| Arc::new(samples::record(n))).collect();
        for record in &records[..4] {
            memory.insert(stamp, Arc::clone(record));
        }
        assert!(memory.get(&records[0].key, &stamp).is_some());
        memory.insert(stamp, Arc::clone(&records[4]));
        assert!(memory.bytes <= MOST_BYTES);
        assert!(memory.get(&records[0].key, &stamp).is_some());
        assert!(memory.get(&records[1].key, &stamp).is_none());

        memory.insert(self::stamp(&dir, MOST_BYTES + 1), Arc::clone(&records[2]));
        assert!(!memory.entries.contains_key(&records[2].key), "too large to remember");
    }
}

//! Whole-tree tests.

//! To be written: workspace.

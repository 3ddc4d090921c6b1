//! The arguments of `cache`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Subcommand, ValueHint};

use super::OutputFormat;
use crate::config::parse_duration;

// `cache …`
#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// Show how many records there are, and their size
    Stats {
        /// text or json
        #[arg(long, value_enum, default_value_t)]
        format: OutputFormat,
    },
    /// Remove all records, or those of one project
    Clear {
        /// Only this project's
        #[arg(long, value_name = "PATH", value_hint = ValueHint::DirPath)]
        project: Option<PathBuf>,
    },
    /// Remove records that are expired, damaged or over the size limit
    #[command(group(ArgGroup::new("elsewhere").args(["target", "shared"]).multiple(true)))]
    Gc {
        /// Only print what would be removed
        #[arg(long)]
        dry_run: bool,
        /// Also remove build artifacts that the service made and cargo no longer uses
        #[arg(long)]
        target: bool,
        /// Also remove old records from the shared store
        #[arg(long)]
        shared: bool,
        /// How old those are
        #[arg(
            long, value_name = "AGE", requires = "shared", default_value = "30d",
            value_parser = parse_duration
        )]
        older_than: Duration,
        /// Only the target directories and the shared records of this project
        #[arg(long, value_name = "PATH", requires = "elsewhere", value_hint = ValueHint::DirPath)]
        project: Option<PathBuf>,
    },
}

//! The number of compilers at a time. It goes into no fingerprint: a build with one job and a build
//! with all are the same build.

use std::num::NonZeroUsize;

/// The number of jobs for cargo: at most `limit`, and at most the developer's own setting (`-j`,
/// `CARGO_BUILD_JOBS`, `build.jobs`).
pub(super) fn at_most(limit: NonZeroUsize, own: Option<&str>) -> NonZeroUsize {
    let processors = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    own.and_then(|own| meant(own, processors)).map_or(limit, |own| own.min(limit))
}

/// Cargo's own reading: a negative number counts from the number of processors. `None` for
/// `default`, and for a value that cargo refuses.
fn meant(own: &str, processors: NonZeroUsize) -> Option<NonZeroUsize> {
    let number: isize = own.trim().parse().ok()?;
    if number > 0 {
        return NonZeroUsize::new(number.unsigned_abs());
    }
    let less = processors.get().saturating_sub(number.unsigned_abs());
    (number != 0).then(|| NonZeroUsize::new(less).unwrap_or(NonZeroUsize::MIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_number_of_jobs_holds() {
        let number = |n| NonZeroUsize::new(n).unwrap();
        assert_eq!(at_most(number(3), None), number(3));
        assert_eq!(at_most(number(3), Some("2")), number(2));
        assert_eq!(at_most(number(3), Some("8")), number(3));
        assert_eq!(at_most(number(3), Some("default")), number(3));
        assert_eq!(meant("-2", number(8)), Some(number(6)));
        assert_eq!(meant("-9", number(8)), Some(number(1)));
        assert_eq!(meant("0", number(8)), None, "cargo refuses it");
    }
}

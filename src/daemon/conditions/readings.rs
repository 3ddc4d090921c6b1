//! What the machine says of itself, as values. None everywhere means: it does not say.

/// One look at the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Readings {
    /// The share of the last ten seconds in which some program waited for memory, in percent.
    pub(super) memory: Option<f64>,
    /// Where its power comes from.
    pub(super) supply: Option<Supply>,
    /// Whether it is told to save power.
    pub(super) power_save: Option<bool>,
    /// Whether the user's session is locked.
    pub(super) locked: Option<bool>,
    /// How many cores are kept busy by programs that are not at low priority, as ours are.
    pub(super) others: Option<f64>,
}

/// Where the power comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Supply {
    /// The mains, or a machine without a battery.
    Mains,
    /// A battery, with its charge in percent if that is told.
    Battery(Option<u32>),
}

//! A daemon's messages to its supervisor.

/// A step in the daemon's life, for the supervisor (`service::notify` turns it into sd-notify).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Questions can be answered from here on.
    Ready,
    /// The config is being read again; `Ready` follows when that is done.
    Reloading,
    /// A slow start makes progress.
    Starting,
    /// One line for `systemctl status`.
    Status(String),
    /// The dispatcher's loop turns; sent from there only, at most as often as asked for.
    Alive,
    /// No more questions are accepted.
    Stopping,
}

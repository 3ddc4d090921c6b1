//! What a daemon says of itself to whatever supervises it.

/// A step in the daemon's life, for the supervisor (`service::notify` turns it into sd-notify).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Life {
    /// Questions can be answered from here on.
    Ready,
    /// The config is being read again; `Ready` follows when that is done.
    Reloading,
    /// A start that takes long is still making progress.
    Starting,
    /// One line for `systemctl status`.
    Status(String),
    /// The dispatcher has turned: sent from its loop only, at most as often as it is asked.
    Alive,
    /// No more questions are taken.
    Stopping,
}

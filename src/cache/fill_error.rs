//! The reasons why a fill returns no value.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use super::garbage::drop_quietly;
use crate::sync::Arc;

/// The reason why a fill returned no value. Nothing was cached, and nothing is left behind: the next call for the key
/// runs its own filler.
///
/// Every caller that waited for the fill gets the same error, once.
#[non_exhaustive]
pub enum FillError<E> {
    /// The filler returned this error.
    Failed(Arc<E>),
    /// The filler that this caller waited for returned this error. Its own caller has a different error type.
    FailedElsewhere(Arc<dyn Error + Send + Sync>),
    /// The filler panicked, with this message.
    Panicked(Arc<str>),
    /// The fill took longer than the cache's `fill_timeout`.
    TimedOut(Duration),
    /// The filler asked for the key that it is filling. The wait would never end.
    OwnKey,
    /// The filler asked for a key whose filler waits for this one, perhaps through other fillers.
    Cycle,
    /// The runtime in which the filler ran was shut down.
    Abandoned,
    /// There was no runtime, and none could be started.
    NoRuntime,
    /// A `_blocking` call was made on the only thread of the runtime in which the filler runs. The wait would stop the
    /// filler and never end. Use the async form there, or call from `tokio::task::spawn_blocking`.
    WouldBlock,
}

impl<E> Clone for FillError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Failed(error) => Self::Failed(Arc::clone(error)),
            Self::FailedElsewhere(error) => Self::FailedElsewhere(Arc::clone(error)),
            Self::Panicked(message) => Self::Panicked(Arc::clone(message)),
            Self::TimedOut(limit) => Self::TimedOut(*limit),
            Self::OwnKey => Self::OwnKey,
            Self::Cycle => Self::Cycle,
            Self::Abandoned => Self::Abandoned,
            Self::NoRuntime => Self::NoRuntime,
            Self::WouldBlock => Self::WouldBlock,
        }
    }
}

impl<E: fmt::Debug> fmt::Debug for FillError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
            Self::FailedElsewhere(error) => f.debug_tuple("FailedElsewhere").field(error).finish(),
            Self::Panicked(message) => f.debug_tuple("Panicked").field(message).finish(),
            Self::TimedOut(limit) => f.debug_tuple("TimedOut").field(limit).finish(),
            Self::OwnKey => f.write_str("OwnKey"),
            Self::Cycle => f.write_str("Cycle"),
            Self::Abandoned => f.write_str("Abandoned"),
            Self::NoRuntime => f.write_str("NoRuntime"),
            Self::WouldBlock => f.write_str("WouldBlock"),
        }
    }
}

impl<E> fmt::Display for FillError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(_) | Self::FailedElsewhere(_) => f.write_str("the filler failed"),
            Self::Panicked(message) => write!(f, "the filler panicked: {message}"),
            Self::TimedOut(limit) => write!(f, "the fill took longer than {limit:?}: make the filler faster, or \
                raise the limit"),
            Self::OwnKey => f.write_str("the filler requested the key that it is filling, and would wait for itself"),
            Self::Cycle => f.write_str("the filler requested a key whose own filler waits for this fill"),
            Self::Abandoned => f.write_str("the runtime in which the filler ran was shut down"),
            Self::NoRuntime => f.write_str("the filler has no runtime, and none could be started"),
            Self::WouldBlock => f.write_str(
                "the filler runs on this thread, the only one of its runtime, and blocking here would stop it: use the async form, \
                 or call from spawn_blocking",
            ),
        }
    }
}

impl<E: Error + 'static> Error for FillError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed(error) => Some(&**error),
            Self::FailedElsewhere(error) => Some(&**error),
            _ => None,
        }
    }
}

/// A failure that callers with different error types share.
#[derive(Clone)]
pub(crate) enum Failure {
    Failed { typed: Arc<dyn Any + Send + Sync>, error: Arc<dyn Error + Send + Sync> },
    Panicked(Arc<str>),
    TimedOut(Duration),
    OwnKey,
    Cycle,
    Abandoned,
    NoRuntime,
    WouldBlock,
}

impl Failure {
    pub(crate) fn of<E: Error + Send + Sync + 'static>(error: E) -> Self {
        let error = Arc::new(error);
        Self::Failed { typed: Arc::clone(&error) as _, error }
    }

    /// Returns the failure for a panic, with its message.
    pub(crate) fn panicked(payload: Box<dyn Any + Send>) -> Self {
        let message = payload.downcast_ref::<&str>().map(|text| Arc::from(*text));
        let message = message.or_else(|| payload.downcast_ref::<String>().map(|text| Arc::from(text.as_str())));
        drop_quietly([payload]);
        Self::Panicked(message.unwrap_or_else(|| Arc::from("no message")))
    }

    /// Returns the failure as a caller with error type `E` sees it.
    pub(crate) fn typed<E: Send + Sync + 'static>(self) -> FillError<E> {
        match self {
            Self::Failed { typed, error } => match typed.downcast::<E>() {
                Ok(typed) => FillError::Failed(typed),
                Err(_) => FillError::FailedElsewhere(error),
            },
            Self::Panicked(message) => FillError::Panicked(message),
            Self::TimedOut(limit) => FillError::TimedOut(limit),
            Self::OwnKey => FillError::OwnKey,
            Self::Cycle => FillError::Cycle,
            Self::Abandoned => FillError::Abandoned,
            Self::NoRuntime => FillError::NoRuntime,
            Self::WouldBlock => FillError::WouldBlock,
        }
    }
}

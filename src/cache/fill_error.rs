//! The reasons why a fill returns no value.

use std::any::{Any, type_name};
use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::garbage::drop_quietly;
use crate::sync::Arc;

/// The reason why a fill returned no value. Nothing was cached, and nothing is left behind: the next call for the key
/// runs its own filler.
///
/// Every caller that waited for the fill gets the same error, once. [`error`](Self::error) returns the filler's error,
/// which the text of `Display` does not repeat.
///
/// Any `E` will do: a `String`, a boxed error, a struct of your own. `FillError<E>` is a
/// [`std::error::Error`] if `E` is one, and then has it as its source.
#[non_exhaustive]
pub enum FillError<E> {
    /// The filler returned this error.
    Failed(Arc<E>),
    /// The filler that this caller waited for returned this error. Its own caller has a different error type.
    FailedElsewhere(ForeignError),
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
            Self::FailedElsewhere(error) => Self::FailedElsewhere(error.clone()),
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
            Self::Failed(_) => f.write_str("the filler failed"),
            Self::FailedElsewhere(error) => write!(f, "the filler of another caller failed with {error}"),
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
            Self::FailedElsewhere(error) => Some(error),
            _ => None,
        }
    }
}

impl<E> FillError<E> {
    /// Returns the filler's error, if the filler failed with an error of this type. All callers that waited for the
    /// fill share it; for an owned copy match [`Failed`](Self::Failed), and clone its [`Arc`](std::sync::Arc).
    pub fn error(&self) -> Option<&E> {
        match self {
            Self::Failed(error) => Some(error),
            _ => None,
        }
    }
}

/// The error of a filler, for callers that waited for it and have a different error type.
#[derive(Clone)]
pub struct ForeignError {
    error: Arc<dyn Any + Send + Sync>,
    type_name: &'static str,
}

impl ForeignError {
    fn of<E: Send + Sync + 'static>(error: E) -> Self {
        Self { error: Arc::new(error), type_name: type_name::<E>() }
    }

    /// Returns the error, if it is of type `E`.
    pub fn downcast_ref<E: 'static>(&self) -> Option<&E> {
        self.error.downcast_ref()
    }

    /// Returns the name of the error's type, from [`std::any::type_name`].
    pub fn type_name(&self) -> &'static str {
        self.type_name
    }
}

impl fmt::Debug for ForeignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForeignError").field("type_name", &self.type_name).finish_non_exhaustive()
    }
}

impl fmt::Display for ForeignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an error of type `{}`", self.type_name)
    }
}

impl Error for ForeignError {}

/// A failure that callers with different error types share.
#[derive(Clone)]
pub(crate) enum Failure {
    Failed(ForeignError),
    Panicked(Arc<str>),
    TimedOut(Duration),
    OwnKey,
    Cycle,
    Abandoned,
    NoRuntime,
    WouldBlock,
}

impl Failure {
    pub(crate) fn of<E: Send + Sync + 'static>(error: E) -> Self {
        Self::Failed(ForeignError::of(error))
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
            Self::Failed(ForeignError { error, type_name }) => match error.downcast::<E>() {
                Ok(error) => FillError::Failed(error),
                Err(error) => FillError::FailedElsewhere(ForeignError { error, type_name }),
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

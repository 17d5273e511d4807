//! Lines of `HG_EVENT_LOG`.

use std::fs;
use std::path::Path;

use serde::Deserialize;

/// One compile, as hgbuild reports it.
#[derive(Debug, Clone, Deserialize)]
pub struct Event {
    /// Version of the format.
    pub v: u32,
    /// The source as typed; empty when there is none.
    #[serde(default, deserialize_with = "or_default")]
    pub source: String,
    /// The output as typed or implied.
    #[serde(default, deserialize_with = "or_default")]
    pub output: String,
    /// `remote`, `local` or `cache`.
    #[serde(rename = "where")]
    pub place: String,
    /// A stable code, and words.
    #[serde(default, deserialize_with = "or_default")]
    pub reason: String,
    /// Why the cache keeps nothing of it; empty where it does.
    #[serde(default, deserialize_with = "or_default")]
    pub not_kept: String,
    /// Which worker; empty when none.
    #[serde(default, deserialize_with = "or_default")]
    pub worker: String,
    /// `tree` or `preprocessed`; empty when it did not go out.
    #[serde(default, deserialize_with = "or_default")]
    pub form: String,
    /// Exit code.
    #[serde(default, deserialize_with = "or_default")]
    pub exit: i64,
    /// Payload sent.
    #[serde(default, deserialize_with = "or_default")]
    pub bytes_up: u64,
    /// From start to end.
    #[serde(default, deserialize_with = "or_default")]
    pub wall_ms: f64,
}

/// `null` is the same as nothing.
fn or_default<'d, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'d>,
    T: Deserialize<'d> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// One line.
///
/// # Errors
/// It is no event: words, with the line.
pub fn parse(line: &str) -> Result<Event, String> {
    serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))
}

/// All events of a log; none if there is no such file. Blank lines are nobody's.
///
/// # Panics
/// A line is no event.
pub fn read(log: &Path) -> Vec<Event> {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| match parse(line) {
            Ok(event) => event,
            Err(why) => panic!("event log: {why}"),
        })
        .collect()
}

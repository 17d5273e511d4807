//! Which workers audits have put out, on disk: read at the start, and written whenever
//! that changes, so that a coordinator that starts again lets none of them back.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::dispatch::hub::Hub;
use crate::log;
use crate::scheduling::id::Who;
use crate::state_folder;

const NAME: &str = "audits.json";

/// One worker that returned another object.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    holder: String,
    worker: String,
    /// Holders of tokens whose clients found it.
    found_by: Vec<String>,
}

/// What is there.
///
/// # Errors
/// In words: it is there and can't be read. Nobody is let back for that.
pub fn load(state: &Path) -> Result<BTreeMap<Who, BTreeSet<Arc<str>>>, String> {
    let rows: Vec<Row> = state_folder::read_json(state, NAME)?.unwrap_or_default();
    let row = |row: Row| {
        let who = Who {
            holder: row.holder,
            name: row.worker,
        };
        (who, row.found_by.into_iter().map(Arc::from).collect())
    };
    Ok(rows.into_iter().map(row).collect())
}

/// Writes it whenever it changes, for ever.
pub async fn keep(hub: Arc<Hub>, state: PathBuf) {
    let mut changes = hub.audits_changed.subscribe();
    while changes.changed().await.is_ok() {
        save(&hub, &state);
    }
}

/// Writes it.
pub fn save(hub: &Hub, state: &Path) {
    let row = |(who, found_by): (Who, BTreeSet<Arc<str>>)| Row {
        holder: who.holder,
        worker: who.name,
        found_by: found_by.iter().map(|holder| holder.to_string()).collect(),
    };
    let rows: Vec<Row> = hub.differing().into_iter().map(row).collect();
    let written = serde_json::to_vec_pretty(&rows)
        .map_err(io::Error::from)
        .and_then(|bytes| state_folder::write(state, NAME, &bytes));
    if let Err(error) = written {
        let path = state.join(NAME);
        log::warn(format_args!("{}: {error}", path.display()));
    }
}

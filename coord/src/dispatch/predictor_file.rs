//! What the predictor has learned, on disk: read at the start, written now and
//! then and at the end. Losing it costs a few poor guesses, so nothing about it
//! ever stops the coordinator.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::bounds::LEARNED_SAVE_MS;
use crate::dispatch::hub::Hub;
use crate::log;
use crate::scheduling::predictor::Predictor;
use crate::state_folder;

const NAME: &str = "predictor.json";

/// What is there, or a predictor that knows nothing.
pub fn load(state: &Path) -> Predictor {
    let loaded = match state_folder::read(state, NAME) {
        Ok(None) => return Predictor::new(),
        Ok(Some(bytes)) => Predictor::load(&bytes),
        Err(error) => Err(error.to_string()),
    };
    loaded.unwrap_or_else(|why| {
        let path = state.join(NAME);
        let path = path.display();
        log::warn(format_args!(
            "{path}: {why}; compile times are learned anew"
        ));
        Predictor::new()
    })
}

/// Writes what was learned now and then, for ever.
pub async fn keep(hub: Arc<Hub>, state: std::path::PathBuf) {
    let mut kept = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(LEARNED_SAVE_MS)).await;
        kept = save(&hub, &state, kept);
    }
}

/// Writes what was learned, if that is more than `kept`. Gives how much is on disk.
pub fn save(hub: &Hub, state: &Path, kept: u64) -> u64 {
    let learned = hub.learned();
    if learned == kept {
        return kept;
    }
    match state_folder::write(state, NAME, &hub.learned_bytes()) {
        Ok(()) => learned,
        Err(error) => {
            let path = state.join(NAME);
            log::warn(format_args!("{}: {error}", path.display()));
            kept
        }
    }
}
